"""The model behind the fake chat-ui, and the streams of each version.

`Says` is the model's answer to a prompt. A `Stream` sends it in the format of its version, obeys
stops, notices clients that disconnect, and stores the same messages as that version.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol

from fake_store import MARK_OF_2026, Conversation, Document, Run, Version
from fake_wire import event, line
from local_service import Over
from scripted import Exchange

BITES = 0.3  # seconds after a stop until a pausing model of v0.3 to v0.6 sends a token
SPACES = b" " * 4096
TOOL = {"uuid": "d3dc3b40-76cf-43ec-8faa-2aa59fe9dd9a"}
CALL = {"name": "echo", "parameters": {"text": "hä"}}
COOKIE_LASTS = "Path=/; Expires=Mon, 22 Nov 2027 10:54:34 GMT; HttpOnly; Secure; SameSite=None"


@dataclass(frozen=True)
class Prompt:
    """What the model receives: the turns as (role, content), parameters and files."""

    turns: tuple[tuple[str, str], ...]
    parameters: Document = field(default_factory=dict)
    files: tuple[bytes, ...] = ()
    searched: bool = False
    conversation: str = ""

    @property
    def last(self) -> str:
        return self.turns[-1][1] if self.turns else ""


@dataclass(frozen=True)
class Says:
    """The model's answer.

    ``end``: "stop", "length", "error" (during the stream), "reset", "eof" (clean, but too early),
    or "dies" (the server itself is killed, which another server notices later; head). ``status``:
    the model refuses with this status instead. ``holds``: the model pauses after the tokens until
    it is stopped, until `FakeChatUi.released`, or until no client can hear or stop it, and
    continues with ``rest``. ``asks``: a tool asks the user after the tokens (head). ``tool``: the
    model calls a tool after the tokens, and then sends this text (v0.9.6 and later). ``breaks``:
    the connection to the client breaks after the tokens, and the model continues with ``rest``.
    """

    tokens: tuple[str, ...] = ("Hello", " there")
    end: Literal["stop", "length", "error", "reset", "eof", "dies"] = "stop"
    status: int = 0
    retry_after: str = ""
    holds: bool = False
    rest: tuple[str, ...] = ()
    title: str = "A title"
    late_title: bool = False
    asks: bool = False
    tool: tuple[str, ...] = ()
    breaks: bool = False

    @classmethod
    def words(cls, text: str, **others: Any) -> Says:
        """The text, one token per word."""
        first, *more = text.split(" ")
        return cls((first, *(f" {word}" for word in more)), **others)


Answers = Callable[[Prompt], Says]


class Keeper(Protocol):
    """The part of the server that the streams use."""

    version: Version
    released: threading.Event
    stopping: threading.Event
    titled: threading.Event
    late: float
    unnoticed: float
    deaf: bool

    def exists(self, conversation: Conversation) -> bool: ...
    def save(self, conversation: Conversation, run: Run) -> None: ...
    def save_later(self, conversation: Conversation, run: Run) -> None: ...
    def violate(self, what: str) -> None: ...


class Stream:
    """One answer being sent to a client, which may disconnect."""

    def __init__(
        self, keeper: Keeper, exchange: Exchange, conversation: Conversation, run: Run, cookie: str
    ) -> None:
        self.keeper = keeper
        self.version = keeper.version
        self.exchange = exchange
        self.conversation = conversation
        self.run = run
        self.cookie = cookie
        self.gone = False
        self.begun = False

    def put(self, data: bytes) -> None:
        if not self.gone:
            try:
                self.exchange.write(data)
            except Over:
                self.gone = True

    def head(self, kind: str) -> None:
        headers = {"Set-Cookie": self.cookie, **({"Content-Type": kind} if kind else {})}
        self.begun = True
        try:
            self.exchange.head(200, headers)
        except Over:
            self.gone = True

    def token(self, text: str) -> None:
        raise NotImplementedError

    def give(self, says: Says) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """Add the text to the log, if the version has logs."""

    def end(self) -> None:
        if not self.gone:
            with suppress(Over):
                self.exchange.end()

    def token_of(self, text: str) -> None:
        self.run.content += text
        if self.version.is_latest:  # stored while it is sent; other versions store it at the end
            self.run.answer.content = self.run.content
        self.token(text)

    def hold(self) -> None:
        """Wait until the model continues or is stopped. The client gets keepAlive or nothing."""
        spoken = time.monotonic()
        stopped = 0.0
        self.flush()
        while not self.keeper.released.is_set():
            if self.run.stopped.is_set():
                # v0.3 to v0.6 check for a stop at the model's next token.
                stopped = stopped or time.monotonic()
                if self.version.since(0, 7) or time.monotonic() - stopped > BITES:
                    return
            if self.gone:
                if self.version.hanging_up_stops or not self.keeper.exists(self.conversation):
                    return
                if not self.version.stops or self.keeper.deaf:
                    return
                if self.keeper.stopping.wait(0.005):
                    raise Over("the server is being stopped")
            elif self.exchange.gone(0.005):
                self.gone = True
            elif self.version.keeps_alive and time.monotonic() - spoken > 0.1:
                spoken = time.monotonic()
                self.put(line({"type": "status", "status": "keepAlive"}))

    def tokens(self, says: Says) -> None:
        if self.run.stopped.is_set():
            return
        for text in says.tokens:
            self.token_of(text)
            if self.run.stopped.is_set():
                return
        if says.breaks:
            self.exchange.reset()
            self.gone = True
        if says.holds:
            self.hold()
        for text in says.rest:
            silenced = self.gone and self.version.hanging_up_stops
            if self.run.stopped.is_set() or silenced:
                return
            self.token_of(text)
        if says.tool:
            self.call_tool()
            for text in says.tool:
                self.token_of(text)

    def call_tool(self) -> None:
        raise NotImplementedError


class TgiStream(Stream):
    """v0.3 to v0.6: the events of the model server. The head is sent with the first of them."""

    def send(self, document: Document) -> None:
        if not self.begun:
            self.head("text/event-stream")
        self.put(event(document))

    def token(self, text: str) -> None:
        token = {"id": 110, "text": text, "logprob": -0.5, "special": False}
        self.send({"token": token, "generated_text": None, "details": None})

    def give(self, says: Says) -> None:
        self.tokens(says)
        run = self.run
        if run.stopped.is_set():
            # No generated_text and no last chunk; before the first token, no response at all.
            run.over = True
            if not self.gone:
                self.exchange.cut()
            run.content = run.content or "w0"
            self.keeper.save_later(self.conversation, run)
            return
        run.over = True
        if says.end in ("stop", "length"):
            token = {"id": 11, "text": "<|endoftext|>", "logprob": -0.5, "special": True}
            details = {"finish_reason": "length"} if says.end == "length" else None
            content = run.content
            self.send({"token": token, "generated_text": content, "details": details})
            if not self.keeper.late:
                self.keeper.save(self.conversation, run)
            self.end()
            if self.keeper.late:
                self.keeper.save_later(self.conversation, run)
        elif says.end == "reset":
            if not self.begun:
                self.head("text/event-stream")
            if not self.gone:
                self.exchange.cut()
            run.pending, run.abandoned = False, True  # the client receives no end
        else:
            if says.end == "error":
                self.send({"error": "scripted mid-stream error", "error_type": "generation"})
            if not self.begun:
                self.head("text/event-stream")
            run.pending = False
            self.end()


class LineStream(Stream):
    """v0.7 and later: one update per line."""

    def update(self, update: Document, *, log: bool = True) -> None:
        if log:
            self.flush()
            kept = {**update, "token": "", "len": len(update["token"])} if "token" in update else {}
            if not kept or self.version.says_finished:
                self.run.updates.append(kept or update)
            self.run.log.append(update)
        self.put(line(update))

    def token(self, text: str) -> None:
        # The log joins tokens that are sent in quick succession.
        self.run.unlogged += text
        if len(self.run.unlogged) > len(text):
            self.flush()
        for piece in torn(text) if self.version.number == (0, 8, 4) else (text,):
            shown = piece.ljust(16, "\0") if self.version.pads else piece
            self.put(line({"type": "stream", "token": shown}))

    def flush(self) -> None:
        if self.run.unlogged:
            self.run.log.append({"type": "stream", "token": self.run.unlogged})
            self.run.unlogged = ""

    def call_tool(self) -> None:
        """The updates of a tool, as real servers send them."""
        self.begin_tool()
        self.end_tool()

    def begin_tool(self) -> None:
        said = self.run.content
        kept = {"originalId": "call_1", "argumentsRaw": '{"text": "h\\u00e4"}', "content": said}
        self.update({"type": "tool", "subtype": "call", **TOOL, "call": CALL, **kept})
        self.update({"type": "tool", "subtype": "eta", **TOOL, "eta": 10})

    def end_tool(self) -> None:
        result = {"status": "success", "call": CALL, "outputs": [{"text": "hä"}], "display": True}
        self.update({"type": "tool", "subtype": "result", **TOOL, "result": result})

    def title(self, says: Says) -> None:
        if not says.title or self.conversation.title != "New Chat":
            return
        self.conversation.title = says.title
        if self.version.number < (0, 9):
            self.update({"type": "status", "status": "title", "message": says.title})
        else:
            self.update({"type": "title", "title": says.title})

    def give(self, says: Says) -> None:
        lines = "application/jsonl" if self.version.number >= (0, 9, 5) else "text/event-stream"
        self.head("" if self.version.number == (0, 7) else lines)
        if self.run.resolves:
            words = {"elicitationId": self.run.resolves, "action": "accept", "resolution": "user"}
            self.update({"type": "elicitation", "subtype": "resolved", **words})
            self.end_tool()
        self.update({"type": "status", "status": "started"})
        if self.version.keeps_alive:
            self.update({"type": "status", "status": "keepAlive"}, log=False)
        if not says.late_title:
            self.title(says)
        if says.status:
            message = f"{says.status} scripted upstream error {says.status}"
            self.fail(message, says.status)
            return
        self.meet_mark(says)
        self.search()
        self.tokens(says)
        self.conclude(says)

    def meet_mark(self, says: Says) -> None:
        """Since July 2026, a stop without a running answer aborts the next message."""
        age = time.monotonic() - self.conversation.marked
        if self.version.is_latest and age < MARK_OF_2026 and not self.run.stopped.is_set():
            self.conversation.marked = -1e9
            self.run.stopped.set()
            if self.conversation.marked_late:
                return  # the model has not sent a token yet
            self.keeper.violate("a message met the mark that a late stop left")
            if says.tokens:
                self.token_of(says.tokens[0])

    def search(self) -> None:
        if not self.run.answer.sources:
            return
        sources = self.run.answer.sources
        word = "messageType" if self.version.number == (0, 7) else "subtype"
        self.update({"type": "webSearch", word: "update", "message": "Searching Google"})
        found = {"message": "sources", "sources": sources}
        self.update({"type": "webSearch", word: "sources", **found})
        if self.version.number != (0, 7):
            self.update({"type": "webSearch", "subtype": "finished"})

    def late_title(self, says: Says) -> None:
        """A title slower than its answer. v0.7 and v0.8.4 drop it if the client disconnects."""
        waits = self.version.number in ((0, 7), (0, 8, 4))
        while not self.keeper.titled.wait(0.005) and waits and not self.gone:
            self.gone = self.exchange.gone(0.005)
        if not (waits and self.gone):
            self.title(says)

    def conclude(self, says: Says) -> None:
        run, version = self.run, self.version
        stopped = run.stopped.is_set()
        if self.gone and version.hanging_up_stops:
            run.over = run.abandoned = True
            self.keeper.save(self.conversation, run)
        elif stopped:
            self.finish(run.content, says, interrupted=True)
        elif says.asks:
            self.ask()
        elif says.end == "dies":
            self.die()
        elif says.end in ("error", "reset"):
            reset = "terminated" if version.since(0, 9, 6) else "read ECONNRESET"
            if version.since(0, 9, 6):  # the server has retried
                for text in (*says.tokens, *says.rest):
                    self.token_of(text)
            self.fail("scripted mid-stream error" if says.end == "error" else reset, None)
        elif says.end == "eof" or (says.end == "length" and version.number == (0, 9, 1)):
            if version.number <= (0, 8, 4):
                self.finish(run.content, says)
            else:
                self.close()
        else:
            self.finish(run.content, says)

    def die(self) -> None:
        run = self.run
        run.dying = run.over = True
        self.exchange.reset()
        if not self.keeper.stopping.wait(self.keeper.unnoticed):
            run.interrupted, run.status = True, "interrupted"
            self.keeper.save(self.conversation, run)
            run.dying = False

    def fail(self, message: str, status: int | None) -> None:
        self.run.status = "error"
        code = {"statusCode": status} if status and self.version.since(0, 9, 6) else {}
        self.update({"type": "status", "status": "error", "message": message, **code})
        if self.version.number == (0, 7):
            self.finish(self.run.content, Says(title=""))
        elif self.version.number == (0, 8, 4):
            self.finish("", Says(title=""))
        else:
            self.close(finished=False)

    def finish(self, text: str, says: Says, *, interrupted: bool = False) -> None:
        run = self.run
        if self.version.ends_with_new_part:
            text = text.removeprefix(run.prefix)  # of a continued answer: the new part
        if self.version.trims and not interrupted:
            text = text.rstrip()
        if says.tool and not interrupted:  # the text after the tool
            text = "".join(says.tool)
        if self.version.number == (0, 7) and not text:
            # Without a token there is no answer to store. The user's message is already stored.
            run.kept = run.pending = False
            text = run.user.content
        run.over = True
        update: Document = {"type": "finalAnswer", "text": text}
        if self.version.number >= (0, 9):
            update["interrupted"] = interrupted
        self.update(update, log=not self.version.is_latest)
        self.put(SPACES)
        if says.late_title:
            self.late_title(says)
        # Messages are stored late: at finalAnswer the text is not stored yet.
        if self.keeper.late and self.keeper.stopping.wait(self.keeper.late):
            raise Over("the server is being stopped")
        if self.version.is_latest:
            run.updates.append(update)
            self.flush()
            run.log.append(update)
        if self.version.number >= (0, 9):
            run.interrupted = interrupted
        run.status = "interrupted" if interrupted else "completed"
        if not interrupted and not says.tool:
            run.content = run.prefix + text if self.version.ends_with_new_part else text
        self.close()

    def close(self, *, finished: bool = True) -> None:
        self.run.over = True
        if finished and self.version.says_finished:
            self.update({"type": "status", "status": "finished"})
        self.keeper.save(self.conversation, self.run)
        if self.version.number != (0, 7):
            self.end()
        elif not self.gone:
            self.exchange.until_gone()  # it never ends

    def ask(self) -> None:
        """A run of 2026 that ends with an elicitation. A message resumes it."""
        found = f"{len(self.conversation.elicitations) + 1:08x}-0000-4000-8000-000000000000"
        self.conversation.elicitations[found] = True
        fields = [{"kind": "string", "name": "confirm", "title": "Type DELETE", "required": True}]
        request = {"server": "mock", "mode": "form", "message": "Really?", "fields": fields}
        request["elicitationId"] = found
        self.begin_tool()
        self.update({"type": "elicitation", "subtype": "request", "request": request})
        self.close()


def torn(text: str) -> list[str]:
    """The tokens of v0.8.4 for a text: it divides surrogate pairs."""
    units = text.encode("utf-16-le")
    whole = [units[place : place + 2] for place in range(0, len(units), 2)]
    cuts = [place + 1 for place, unit in enumerate(whole) if 0xD8 <= unit[1] <= 0xDB]
    edges = [0, *cuts, len(whole)]
    return [
        b"".join(whole[start:stop]).decode("utf-16-le", "surrogatepass")
        for start, stop in pairwise(edges)
        if start < stop
    ]
