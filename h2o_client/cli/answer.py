"""An answer on its way to stdout: plain, raw, as events in JSON, or as Markdown that grows."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from h2o_client.cli.output import is_plain, put, put_json, shown
from h2o_client.errors import IncompleteAnswerError
from h2o_client.reply import Reply
from h2o_client.wire.events import Token

Manner = Literal["plain", "raw", "json", "markdown"]
Note = Callable[[str], None]

_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")


def write(reply: Reply, manner: Manner, note: Note = lambda text: None) -> None:
    """Writes what comes, as it comes. Raises what breaks it off.

    ``note`` is told of each piece of the answer that was written.
    """
    if manner == "raw":
        for token in reply:
            put(token)
            note(token)
    elif manner == "json":
        for event in reply.events():
            put_json(document_of(event))
            if isinstance(event, Token) and not event.special:
                note(event.text)
    elif manner == "markdown" and not is_plain(sys.stdout):
        from h2o_client.cli.markdown import write_markdown

        write_markdown(reply, note)
    else:
        write_plain(reply, note)
    _check_questions(reply)


def write_plain(tokens: Iterable[str], note: Note = lambda text: None) -> None:
    """Writes text, harmless to a terminal, and the end of its last line."""
    last = ""
    try:
        for token in tokens:
            last = token or last
            put(shown(token, sys.stdout))
            note(token)
    finally:
        if last and not last.endswith("\n"):
            put("\n")


def document_of(event: object) -> dict[str, object]:
    """An event or a record as JSON has it: its class is its ``type``; what is None is left out."""
    kind = _HUMP.sub("_", type(event).__name__).lower()
    fields = msgspec.to_builtins(event, enc_hook=str)
    return {"type": kind, **{name: each for name, each in fields.items() if each is not None}}


def _check_questions(reply: Reply) -> None:
    asked = reply.elicitation
    if reply.answer is None and asked is not None:
        raise IncompleteAnswerError(
            f"A tool asks something that this command cannot answer: {asked.message}"
        )
