"""`Reply`: an answer as it comes, and `Answer`, the whole of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from h2o_client.answer.exchange import Exchange
from h2o_client.arguments import document, optional_text, text
from h2o_client.errors import (
    ConfigurationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    ProtocolError,
)
from h2o_client.log import log
from h2o_client.wire.events import Elicitation, Event, Final, Malformed, Source, Token
from h2o_client.wire.refusal import login_wall
from h2o_client.wire.transcript import Transcript

if TYPE_CHECKING:
    from typing_extensions import Self

_ACTIONS = ("accept", "decline", "cancel")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. ``finish_reason`` is "stop", "length" where known, or "stopped" by a stop."""

    text: str
    finish_reason: str
    model: str
    conversation_id: str
    message_id: str | None = None
    title: str | None = None
    sources: tuple[Source, ...] = ()
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return import_module("h2o_client.notebook").of_answer(self)  # type: ignore[no-any-return]


class Reply:
    """An answer as it comes: iterate for its text, or over `events` for everything.

    Leaving the iteration early is fine: the server is told to stop, and a conversation made for
    this answer is deleted, at once when the reply is closed (``with``) or dropped. One thread
    iterates; `stop`, `close` and the attributes may be used from others.
    """

    def __init__(self, exchange: Exchange, *, model: str, message_id: str | None) -> None:
        self.model = model
        self.message_id = message_id
        self.answer: Answer | None = None
        self.finish_reason: str | None = None
        self._exchange = exchange
        self._batch: Iterator[Event] = iter(())
        self._texts: Iterator[str] = iter(())
        self._over = False
        self._error: H2oError | None = None
        self._abandoned = weakref.finalize(self, exchange.end_later)

    @property
    def text(self) -> str:
        """All text received so far."""
        return self._exchange.transcript.text

    @property
    def title(self) -> str | None:
        """The conversation's title, where the server sends one with the answer."""
        return self._exchange.transcript.title

    @property
    def conversation_id(self) -> str:
        """The id of the conversation the answer is given in."""
        return self._exchange.conversation_id

    @property
    def elicitation(self) -> Elicitation | None:
        """What a tool asks the user and nobody has answered yet (the newest servers)."""
        return self._exchange.transcript.elicitation

    @property
    def resumed(self) -> int:
        """How often the answer was taken up again after its connection broke (newest servers)."""
        resumption = self._exchange.resumption
        return 0 if resumption is None else resumption.count

    @property
    def resume_token(self) -> str | None:
        """A short text with which another process can go on: see `H2oSession.resume`.

        It says where: the server, the conversation, the run, and how much of the text has been
        taken. It holds no secret. None where servers keep no runs (before July 2026).
        """
        resumption = self._exchange.resumption
        if resumption is None or not self.conversation_id:
            return None
        position = max(0, self._position - resumption.began_at)
        return resumption.run.token(position)

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from the prompt's sending to the first token; None until it came."""
        first = self._exchange.first_token_at
        return None if first is None else first - self._exchange.sent_at

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while True:
            for token in self._texts:
                return token
            if not self._advance():
                raise StopIteration

    def events(self) -> Iterator[Event | Answer]:
        """Everything the server says, as it comes; the last event is the `Answer`.

        Events that were taken by iterating the text do not come again.
        """
        while True:
            while (event := self._next_event()) is not None:
                yield event
            if not self._advance():
                break
        if self.answer is not None:
            yield self.answer

    def read(self) -> Answer:
        """Waits for the whole answer. Raises what broke it off, with ``.partial``."""
        for _ in self:
            pass
        return self._outcome()

    def answer_elicitation(
        self,
        action: str = "accept",
        content: Mapping[str, object] | None = None,
        *,
        elicitation_id: str | None = None,
    ) -> None:
        """Answers what a tool asks the user: see `Elicitation` among the `events`.

        action: "accept", with the ``content`` of the form's fields by their names; "decline" or
            "cancel".
        elicitation_id: which one; else the one that is open.

        A stream that has ended because of the question goes on when it is iterated again. Raises
        `UnsupportedError` where servers have no such questions, `NotFoundError` for one that does
        not exist, `ElicitationClosedError` for one that was answered before or has expired.
        """
        if not isinstance(action, str) or action not in _ACTIONS:
            raise ConfigurationError(f"action={action!r}: it is one of {', '.join(_ACTIONS)}.")
        action = text(action, "action=")
        content = None if content is None else document(content, "content=")
        elicitation_id = optional_text(elicitation_id, "elicitation_id=")
        self._exchange.answer_elicitation(action, content, elicitation_id)

    def stop(self) -> None:
        """Ends the answer where it is, from any thread; the iteration then ends without an error.

        The server is asked once to stop; what it still sends is handed over for 1.5 s at most.
        Then all is let go, as by `close`. Returns at once.
        """
        self._exchange.stop()

    def close(self) -> None:
        """Lets everything go: the connection, the model's work, a conversation made for this."""
        self._exchange.end()
        if self.finish_reason is None:
            self.finish_reason = "stopped"

    def leave(self) -> None:
        """Let the connection go and leave the model at work; the conversation stays on the server.

        `resume_token` says where the answer can be read on. Servers before July 2026 have none:
        some of them go on and store the answer, others stop at what came so far.
        """
        self._exchange.leave_running()
        self._exchange.hand_over()
        self.close()

    def _when_ended(self, afterwards: Callable[[], None]) -> None:
        """Has ``afterwards`` called when all is cleaned up."""
        self._exchange.afterwards = afterwards

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self.finish_reason or "unfinished"
        return f"<Reply {state}, {len(self.text)} characters>"

    def _ipython_display_(self) -> None:
        import_module("h2o_client.notebook").show(self)

    def __reduce__(self) -> str:
        raise TypeError("a Reply cannot be pickled: it holds a connection")

    @property
    def _position(self) -> int:
        """The characters of the answer that the caller has taken."""
        waiting = [*copy(self._batch), *self._exchange.looked_at]
        tokens = [event for event in waiting if isinstance(event, Token) and not event.special]
        untaken = sum(len(token.text) for token in tokens)
        taken = self._exchange.transcript.characters - untaken
        return max(self._exchange.resumed_from, taken)

    def _advance(self) -> bool:
        """Gets the next batch of events; False when there will be none. Raises what went wrong."""
        if self._over:
            return False
        transcript = self._exchange.transcript
        try:
            if transcript.ended or transcript.malformed is not None:
                events = self._exchange.drain()
            else:
                events = self._exchange.receive()
            if not events:
                if not self._exchange.waiting:
                    self._conclude()
                return False
        except BaseException as exc:
            self._fail(exc)
            raise
        self._take(events)
        return True

    def _outcome(self) -> Answer:
        """The answer, now that the iteration has ended. Raises what broke it off."""
        if self._error is not None:
            raise self._error
        if self.answer is None and self._over:
            broken_off = IncompleteAnswerError()
            self._exchange.blame(broken_off)
            raise broken_off
        if self.answer is None:
            raise ConfigurationError(
                "The answer waits for the user: see .elicitation, and answer it with "
                "answer_elicitation(). What came so far is on .text."
            )
        return self.answer

    def _next_event(self) -> Event | None:
        """The next event in this batch that is the caller's to know."""
        for event in self._batch:
            if not isinstance(event, Final | Malformed):
                return event
        return None

    def _has_event(self) -> bool:
        """Whether `events` has another event in this batch, so that taking it does not wait."""
        return any(not isinstance(event, Final | Malformed) for event in copy(self._batch))

    def _take_ready(self) -> bool | None:
        """Gets the next batch without waiting. None: nothing is here yet; False: see `_advance`."""
        transcript = self._exchange.transcript
        if self._over or transcript.ended or transcript.malformed is not None:
            return False
        events = self._exchange.receive_ready()
        if not events:
            return None if events is None else False
        self._take(events)
        return True

    def _take(self, events: list[Event]) -> None:
        self._batch = batch = iter(events)
        # What is taken as text is taken from the events.
        self._texts = (
            event.text
            for event in batch
            if type(event) is Token and event.text and not event.special
        )

    def _conclude(self) -> None:
        """The stream has ended: with an answer, or with the error it amounts to."""
        transcript = self._exchange.transcript
        if not self._exchange.stopping:
            _raise_for_end(transcript)
        self._over = True
        self.finish_reason = "stopped"
        if transcript.final is not None and not self._was_stopped(transcript.final):
            self.finish_reason = transcript.final.finish_reason
        self._learn_id()
        self.answer = Answer(
            text=transcript.text,
            finish_reason=self.finish_reason,
            model=self.model,
            conversation_id=self.conversation_id,
            message_id=self.message_id,
            title=transcript.title,
            sources=transcript.sources,
            files=transcript.files,
        )
        # Not waiting for another thread that closes this: it may wait for us to go.
        self._exchange.end(wait=False)

    def _was_stopped(self, final: Final) -> bool:
        if final.interrupted is None:
            # v0.7 does not tell, and gives what came so far as the answer's text.
            return self._exchange.stopping and final.text is not None
        return final.interrupted

    def _learn_id(self) -> None:
        if self._exchange.is_foreign:
            self.message_id = None  # the server did not take ours
        if self._exchange.learned is not None:
            try:
                self.message_id = self._exchange.learned()
            except H2oError as exc:
                log.info("the id of an answer is not known: %s", exc)

    def _fail(self, exc: BaseException) -> None:
        if not self._over:
            self._over = True
            self.finish_reason = _reason_of(exc)
        try:
            if isinstance(exc, H2oError) and self._error is None:
                self._exchange.blame(exc)
                # A copy, for the traceback of this one would keep the reply alive.
                self._error = copy(exc)
        finally:
            self._exchange.end(wait=False)


def _raise_for_end(transcript: Transcript) -> None:
    """Raises what an answer's end amounts to, unless it is a good one."""
    failure, line = transcript.failure, transcript.malformed
    if failure is not None and failure.error_type == "redirect":
        raise login_wall(200, failure.message)
    if failure is not None:
        raise GenerationError(failure.message, error_type=failure.error_type, status=failure.status)
    if line is not None and transcript.final is None:
        where = f"line {line.line} of the answer" if line.line else "the answer"
        raise ProtocolError(f"{where} ({line.reason})", line.excerpt)
    if transcript.final is None:
        raise IncompleteAnswerError
    if transcript.final.interrupted and not transcript.text:
        raise IncompleteAnswerError(
            "The answer was stopped before its first word, and not by this reply"
        )


def _reason_of(exc: BaseException) -> str:
    if isinstance(exc, IncompleteAnswerError):
        return "incomplete"
    return "error" if isinstance(exc, H2oError) else "stopped"
