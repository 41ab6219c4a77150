"""Write an answer to stdout: as plain text, raw, as JSON events, or as Markdown that grows."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from h2o_client.cli.terminal import (
    Sanitizer,
    flush_output,
    is_plain,
    now_waiting,
    put,
    put_text,
    safe_json,
    say,
)
from h2o_client.errors import IncompleteAnswerError
from h2o_client.timeouts import Timeouts
from h2o_client.wire.events import Elicitation, Event, Reasoning, Token, Tool, WebSearch

if TYPE_CHECKING:
    from h2o_client.answer.reply import Reply
    from h2o_client.answer.steps import Answer

Format = Literal["plain", "raw", "json", "markdown"]
Note = Callable[[int], None]

_MOST_DECLINED = 10  # questions in one answer; a tool may repeat them endlessly
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")


def write_answer(
    reply: Reply,
    form: Format,
    note: Note = lambda characters: None,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - it is frozen
) -> None:
    """Write the answer as it arrives. Raises the errors of the reply.

    ``note`` is called with the number of characters that were written. ``timeouts`` are the
    session's, to show the longest time to wait.
    """
    now_waiting("Waiting for the first word", timeouts.first_token)
    if form == "markdown" and not is_plain(sys.stdout):
        from h2o_client.cli.terminal_markdown import write_markdown

        write_markdown(_texts(reply, timeouts.idle), note)
        return
    writer = {"raw": _RawWriter, "json": _JsonWriter}.get(form, _PlainWriter)()
    written = 0
    try:
        for event in _events(reply, timeouts.idle):
            written += writer.write(event)
            if not reply._has_event():
                flush_output()
                note(written)
                written = 0
    except BaseException:
        with suppress(click.exceptions.Exit):  # a second error would hide the first one
            writer.end()
            note(written)
        raise
    writer.end()
    note(written)


def write_markdown_text(text: str) -> None:
    """Write a whole answer as Markdown, or as plain text if stdout cannot show Markdown."""
    if is_plain(sys.stdout):
        put_text(text.rstrip("\n") + "\n")
        return
    from h2o_client.cli.terminal_markdown import write_markdown

    write_markdown([text], lambda characters: None)


class _RawWriter:
    """Writes the answer's text unchanged."""

    def write(self, event: Event | Answer) -> int:
        """Write an event. Return the number of characters of the answer in it."""
        text = _text(event)
        if text:
            put(text, flush=False)
        return len(text)

    def end(self) -> None:
        """Write everything that is still buffered."""
        flush_output()


class _JsonWriter(_RawWriter):
    """Writes each event as a line of JSON."""

    def write(self, event: Event | Answer) -> int:
        put(safe_json(document_of(event)), flush=False)
        return len(_text(event))


class _PlainWriter(_RawWriter):
    """Writes the answer's text, sanitized on a terminal, and ends its last line."""

    def __init__(self) -> None:
        self._sanitizer = Sanitizer() if sys.stdout.isatty() else None
        self._last = ""

    def write(self, event: Event | Answer) -> int:
        text = _text(event)
        if text:
            self._put(text if self._sanitizer is None else self._sanitizer.add(text))
        return len(text)

    def end(self) -> None:
        if self._sanitizer is not None:
            self._put(self._sanitizer.end())
        if self._last and not self._last.endswith("\n"):
            self._put("\n")
        flush_output()

    def _put(self, text: str) -> None:
        self._last = text or self._last
        put(text, flush=False)


def document_of(event: object) -> dict[str, object]:
    """An event or a record as a JSON object. ``type`` is its class; None values are left out."""
    kind = _HUMP.sub("_", type(event).__name__).lower()
    fields = msgspec.to_builtins(event, enc_hook=str)
    return {"type": kind, **{name: each for name, each in fields.items() if each is not None}}


def _text(event: Event | Answer) -> str:
    return event.text if isinstance(event, Token) and not event.special else ""


def _texts(reply: Reply, idle: float | None) -> Iterator[str]:
    return filter(None, map(_text, _events(reply, idle)))


def _events(reply: Reply, idle: float | None) -> Iterator[Event | Answer]:
    """Yield the reply's events. Questions of a tool are cancelled."""
    declined = 0
    kind: type[object] | None = None
    for event in reply.events():
        yield event
        if type(event) is not kind and (what := _waits_for(event)):
            kind = type(event)
            now_waiting(what, idle)
        if isinstance(event, Elicitation) and event.state == "request":
            if declined == _MOST_DECLINED:
                raise _too_many_questions(reply, declined)
            declined += 1
            say(f"(A tool asks: {event.message} This command cannot answer, and declines.)")
            reply.answer_elicitation("cancel", elicitation_id=event.id)


def _waits_for(event: Event | Answer) -> str:
    """What the command waits for after an event; "" if that has not changed."""
    if isinstance(event, Tool):
        return f"Waiting for the tool {event.name}" if event.name else "Waiting for a tool"
    if isinstance(event, WebSearch):
        return "Searching the web"
    if isinstance(event, Reasoning):
        return "Thinking"
    return "Waiting for more" if _text(event) else ""


def _too_many_questions(reply: Reply, times: int) -> IncompleteAnswerError:
    error = IncompleteAnswerError(
        f"The answer was stopped: a tool keeps asking questions, and {times} were declined"
    )
    error.partial, error.conversation_id = reply.text, reply.conversation_id
    return error
