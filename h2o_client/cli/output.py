"""What the command writes: on a terminal the server's words can neither steer it nor hide in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TextIO

import click

from h2o_client.cli.statuses import NOBODY_READS, UNWRITTEN
from h2o_client.cli.wording import in_chat as in_chat_words
from h2o_client.cli.wording import in_shell
from h2o_client.errors import H2oError, TransportError

# With those that turn the direction of what follows, behind which an address can hide.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# JSON leaves these as they are, a terminal or a reader of lines does not; and what is no character.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# All that anything takes for the end of a line.
_ENDS = re.compile("[\n\x0b-\r\x1c-\x1e\x85\u2028\u2029][ \t\n\x0b-\r\x1c-\x1e\x85\u2028\u2029]*")


def put(text: str) -> None:
    """Writes to stdout at once. Ends the command if that cannot be."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        # What the terminal's alphabet lacks is no reason to lose an answer; and click would take
        # out of a file what it holds for colours.
        click.echo(text.encode(encoding, "replace").decode(encoding), nl=False, color=True)
    except BrokenPipeError:
        _silence(sys.stdout)
        raise click.exceptions.Exit(NOBODY_READS) from None
    except OSError as exc:
        say_unwritten(exc)
        raise click.exceptions.Exit(UNWRITTEN) from None


def put_text(text: str) -> None:
    """Writes a server's words to stdout: into a file as they are."""
    put(shown(text, sys.stdout))


def put_line(text: str) -> None:
    """Writes a server's words to stdout, as one line whatever is in them."""
    put(shown(one_line(text), sys.stdout) + "\n")


def put_json(document: Mapping[str, object]) -> None:
    """Writes a line of JSON to stdout."""
    put(safe_json(document))


def safe_json(document: Mapping[str, object]) -> str:
    """A line of JSON that steers no terminal."""
    text = json.dumps(document, ensure_ascii=False, default=str)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def say(sentence: str, *, indent: int = 0) -> None:
    """Writes one line to stderr, if anybody can read it; on a terminal it is broken at words.

    ``indent``: where the lines that follow begin then.
    """
    text = shown(one_line(sentence), sys.stderr)
    try:
        if sys.stderr.isatty():
            text = _wrapped(text, " " * indent)
        click.echo(text, err=True)
    except OSError:
        _silence(sys.stderr)


def say_error(error: H2oError, about: str = "", *, in_chat: bool = False) -> None:
    """Writes to stderr what went wrong, ``about`` what, and what to do next."""
    sentence = in_chat_words(str(error)) if in_chat else in_shell(str(error))
    if isinstance(error, TransportError):
        sentence += " h2o-chat doctor looks for the cause."
    say(f"Error: {about}{': ' if about else ''}{sentence}")


def say_usage(error: click.ClickException) -> None:
    """Writes to stderr what is wrong with the call."""
    try:
        error.show()
    except OSError:
        _silence(sys.stderr)


def say_unwritten(error: OSError) -> None:
    """Writes to stderr that stdout cannot be written to; nothing goes there any more."""
    _silence(sys.stdout)
    say(f"Error: The output cannot be written: {error.strerror or error}.")


def shown(text: str, stream: TextIO) -> str:
    """``text`` as it may be written to ``stream``."""
    return harmless(text) if stream.isatty() else text


def harmless(text: str) -> str:
    """``text`` without what would move a terminal's cursor, set its title or turn its lines."""
    return _CONTROLS.sub("\ufffd", text.replace("\r\n", "\n"))


class Harmless:
    """`harmless` for a text that comes in pieces, which may tear the end of a line."""

    def __init__(self) -> None:
        self._held = ""

    def add(self, text: str) -> str:
        """What can be said of it so far."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        return harmless(text.removesuffix("\r"))

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return harmless(held)


def harmless_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces of one text, none of which is harmful, and neither are they together."""
    text = Harmless()
    for piece in pieces:
        yield text.add(piece)
    yield text.end()


def one_line(text: str) -> str:
    """``text`` with a space in the place of each end of a line."""
    return _ENDS.sub(" ", text.rstrip("\r\n"))


def is_plain(stream: TextIO) -> bool:
    """Whether nothing but lines of text is to be written to ``stream``."""
    # Colour is another matter: rich leaves it out where NO_COLOR says so.
    return os.environ.get("TERM", "") in ("dumb", "unknown") or not stream.isatty()


def _wrapped(text: str, indent: str) -> str:
    width = shutil.get_terminal_size().columns
    if len(text) <= width:
        return text
    return textwrap.fill(
        text,
        width,
        subsequent_indent=indent,
        break_long_words=False,  # an address stays whole, to be copied
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )


def _silence(stream: TextIO) -> None:
    """What still goes there goes nowhere: Python would try again at its exit, and complain."""
    with suppress(OSError, ValueError):  # it may be no file
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
