"""What the command writes: on a terminal the server's words can neither steer it nor hide in it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import TextIO

import click

from h2o_client.cli.statuses import NOBODY_READS
from h2o_client.cli.wording import in_shell
from h2o_client.errors import H2oError

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# JSON leaves these as they are, a terminal or a reader of lines does not; and what is no character.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def put(text: str) -> None:
    """Writes to stdout at once. Ends the command if nobody reads it any more."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        # What the terminal's alphabet lacks is no reason to lose an answer; and click would take
        # out of a file what it holds for colours.
        click.echo(text.encode(encoding, "replace").decode(encoding), nl=False, color=True)
    except BrokenPipeError:
        # Python would write what is left at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(NOBODY_READS) from None


def put_line(text: str) -> None:
    """Writes a line of a server's words to stdout."""
    put(shown(text, sys.stdout) + "\n")


def put_json(document: Mapping[str, object]) -> None:
    """Writes a line of JSON to stdout."""
    text = json.dumps(document, ensure_ascii=False, default=str)
    put(_UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def say(sentence: str) -> None:
    """Writes a line to stderr."""
    click.echo(shown(sentence, sys.stderr), err=True)


def say_error(error: H2oError) -> None:
    """Writes to stderr what went wrong, and what to do next."""
    say(f"Error: {in_shell(str(error))}")


def shown(text: str, stream: TextIO) -> str:
    """``text`` as it may be written to ``stream``."""
    return harmless(text) if stream.isatty() else text


def harmless(text: str) -> str:
    """``text`` without what would move a terminal's cursor or set its title."""
    return _CONTROLS.sub("\ufffd", text)


def is_plain(stream: TextIO) -> bool:
    """Whether nothing but lines of text is to be written to ``stream``."""
    dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    return dumb or bool(os.environ.get("NO_COLOR")) or not stream.isatty()
