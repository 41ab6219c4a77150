"""An answer on its way to stdout: plain, raw, as events in JSON, or as Markdown that grows."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Literal

import click
import msgspec

from h2o_client.answer.reply import Answer, Reply
from h2o_client.cli.output import harmless_pieces, is_plain, put, put_json, say
from h2o_client.errors import IncompleteAnswerError
from h2o_client.wire.events import Elicitation, Event, Token

Manner = Literal["plain", "raw", "json", "markdown"]
Note = Callable[[str], None]

_MOST_TURNED_DOWN = 10  # questions in one answer: a tool may ask again for ever
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")


def write(reply: Reply, manner: Manner, note: Note = lambda text: None) -> None:
    """Writes what comes, as it comes. Raises what breaks it off.

    ``note`` is told of each piece of the answer that was written.
    """
    if manner == "raw":
        for token in _texts(reply):
            put(token)
            note(token)
    elif manner == "json":
        for event in _events(reply):
            put_json(document_of(event))
            if isinstance(event, Token) and not event.special:
                note(event.text)
    elif manner == "markdown" and not is_plain(sys.stdout):
        from h2o_client.cli.growing import write_markdown

        write_markdown(_texts(reply), note)
    else:
        write_plain(_texts(reply), note)


def write_plain(tokens: Iterable[str], note: Note = lambda text: None) -> None:
    """Writes text, harmless to a terminal, and the end of its last line."""
    written = _Lines()
    try:
        noted = _noted(tokens, note)
        for text in harmless_pieces(noted) if sys.stdout.isatty() else noted:
            written.put(text)
    except BaseException:
        with suppress(click.exceptions.Exit):  # that would hide what has happened
            written.end()
        raise
    written.end()


def _noted(tokens: Iterable[str], note: Note) -> Iterator[str]:
    """The tokens; each is noted when the next one is asked for."""
    for token in tokens:
        yield token
        note(token)


class _Lines:
    """Texts on their way to stdout, and whether the last line has an end."""

    def __init__(self) -> None:
        self._last = ""

    def put(self, text: str) -> None:
        self._last = text or self._last
        put(text)

    def end(self) -> None:
        if self._last and not self._last.endswith("\n"):
            put("\n")


def document_of(event: object) -> dict[str, object]:
    """An event or a record as JSON has it: its class is its ``type``; what is None is left out."""
    kind = _HUMP.sub("_", type(event).__name__).lower()
    fields = msgspec.to_builtins(event, enc_hook=str)
    return {"type": kind, **{name: each for name, each in fields.items() if each is not None}}


def _texts(reply: Reply) -> Iterator[str]:
    for event in _events(reply):
        if isinstance(event, Token) and event.text and not event.special:
            yield event.text


def _events(reply: Reply) -> Iterator[Event | Answer]:
    """What the server says. What a tool asks the user is turned down: nobody can answer here."""
    turned_down = 0
    for event in reply.events():
        yield event
        if isinstance(event, Elicitation) and event.state == "request":
            if turned_down == _MOST_TURNED_DOWN:
                raise _asked_too_often(reply, turned_down)
            turned_down += 1
            say(f"(A tool asks: {event.message} Nobody can answer that here: it is turned down.)")
            reply.answer_elicitation("cancel", elicitation_id=event.id)


def _asked_too_often(reply: Reply, times: int) -> IncompleteAnswerError:
    error = IncompleteAnswerError(
        f"A tool asks once more what was turned down {times} times: the answer is stopped"
    )
    error.partial, error.conversation_id = reply.text, reply.conversation_id
    return error
