"""`AnswerSteps` reads an answer step by step; `Answer` is the whole answer.

`Reply` and `AsyncReply` wait in different ways. Both take events with `next_event`, or texts from
``texts``, and call `advance` to get more.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from h2o_client.answer.state import Stage
from h2o_client.arguments import document, optional_text, text
from h2o_client.errors import (
    ConfigurationError,
    GenerationError,
    H2oError,
    Hint,
    IncompleteAnswerError,
    ProtocolError,
)
from h2o_client.log import log, without_frames
from h2o_client.wire.events import (
    Event,
    Final,
    FinishReason,
    Malformed,
    ReplyEnd,
    Source,
    Token,
)
from h2o_client.wire.refusal import login_wall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from h2o_client.answer.reader import AnswerReader
    from h2o_client.answer.stream import AnswerStream
    from h2o_client.wire.transcript import Transcript


_ACTIONS = ("accept", "decline", "cancel")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. ``finish_reason`` is "stop", "length" (if known), or "stopped".

    ``seconds`` is the time from sending the prompt to the end of the answer, and
    ``time_to_first_token`` the time to its first token. Both are None for answers that a batch
    read back from the server.
    """

    text: str
    finish_reason: FinishReason
    model: str
    conversation_id: str
    message_id: str | None = None
    title: str | None = None
    sources: tuple[Source, ...] = ()
    files: tuple[str, ...] = ()
    seconds: float | None = None
    time_to_first_token: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values, for example for a log."""
        return {
            **msgspec.structs.asdict(self),
            "sources": [msgspec.structs.asdict(source) for source in self.sources],
            "files": list(self.files),
        }

    def __str__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return import_module("h2o_client.notebook").of_answer(self)  # type: ignore[no-any-return]


class AnswerSteps:
    """Reads an answer in batches of events, and notes how it ended.

    ``texts`` iterates over the texts of the current batch; a text that is taken there does not come
    as an event again. Only one thread may take events; others may read the attributes. ``reader``
    says what to wait for before the next `advance_ready`; it is None if nothing was sent.
    ``fetch_id`` reads the id of the answer from the server, if the server chooses it.
    """

    def __init__(
        self,
        stream: AnswerStream,
        *,
        model: str,
        message_id: str | None,
        position: int = 0,
        fetch_id: Callable[[], str | None] | None = None,
    ) -> None:
        self.stream: AnswerStream = stream
        self.model: str = model
        self.message_id: str | None = message_id
        self.answer: Answer | None = None
        self.finish_reason: ReplyEnd | None = None
        self.texts: Iterator[str] = iter(())
        self.reader: AnswerReader | None = stream.reader
        self._batch: Iterator[Event] = iter(())
        self._has_ended = False
        self._is_interrupted = False  # a reader was cancelled
        self._error: H2oError | None = None
        self._position = position  # characters that the caller already had
        self._fetch_id = fetch_id
        self._finalizer = weakref.finalize(self, stream.end_later)

    def __str__(self) -> str:
        """The text for the ``repr`` of a reply."""
        state = self.finish_reason or "unfinished"
        return f"{state}, {len(self.stream.transcript.text)} characters"

    def next_event(self) -> Event | None:
        """Return the next event in this batch for the caller, or None."""
        for event in self._batch:
            if not isinstance(event, Final | Malformed):
                return event
        return None

    def has_event(self) -> bool:
        """Whether `next_event` has another event in this batch."""
        return any(not isinstance(event, Final | Malformed) for event in copy(self._batch))

    def take_all(self) -> None:
        """Take all events of this batch."""
        self._batch, self.texts = iter(()), iter(())

    def advance(self) -> bool:
        """Wait for the next batch of events. Return False at the end. Raises the answer's error."""
        if self._is_interrupted:
            raise self._interrupted()
        if self._has_ended:
            return False
        try:
            events = self._received()
            if not events:
                if self.reader is None or not self.reader.is_waiting_for_user:
                    self._conclude()
                return False
        except BaseException as exc:
            self.fail(exc)
            raise without_frames(exc)  # noqa: B904 - it is the same error
        self._take(events)
        return True

    def advance_ready(self) -> bool | None:
        """Like `advance`, without waiting. None: nothing has arrived. False: call `advance`."""
        transcript = self.stream.transcript
        reader = self.reader
        if self._has_ended or reader is None:
            return False
        if transcript.ended or transcript.malformed is not None:
            return False
        events = reader.receive_ready()
        if not events:
            return None if events is None else False
        self._take(events)
        return True

    def can_conclude(self) -> bool:
        """Whether `advance` ends the answer without waiting for anything."""
        reader = self.reader
        if reader is None or self._has_ended or self._fetch_id is not None:
            return False
        return reader.has_read_all and self.stream.ends_at_once()

    def hold(self) -> None:
        """Stop the clock while the caller works."""
        if self.reader is not None:
            self.reader.hold()

    def answer_elicitation(
        self, action: str, content: Mapping[str, object] | None, elicitation_id: str | None
    ) -> None:
        """Send the user's answer to a tool's question: see `Reply.answer_elicitation`."""
        if not isinstance(action, str) or action not in _ACTIONS:
            raise ConfigurationError(
                f"Unknown action {action!r}",
                hint=f"Available: {', '.join(_ACTIONS)}.",
                argument="action",
            )
        action = text(action, "The action", "action")
        content = None if content is None else document(content, "content", "content")
        elicitation_id = optional_text(elicitation_id, "The elicitation id", "elicitation_id")
        if self.reader is None:
            raise ConfigurationError("No tool has an open question to the user")
        self.reader.answer_elicitation(action, content, elicitation_id)

    def outcome(self) -> Answer:
        """Return the answer after its last event. Raises the error that ended it."""
        if self._error is not None:
            raise self._error
        if self.answer is None and self._has_ended:
            raise self._interrupted()
        if self.answer is None:
            raise ConfigurationError(
                "A tool has an open question to the user, in .elicitation",
                hint="Answer it with answer_elicitation(). The text so far is in .text.",
            )
        return self.answer

    def fail(self, exc: BaseException) -> None:
        """End the answer because of ``exc``, and set the error's fields.

        Sends requests, for a few seconds at most: it reads back the stored messages, and cleans up.
        """
        if not self._has_ended:
            self._has_ended = True
            self._is_interrupted = not isinstance(exc, H2oError)
            self.finish_reason = reason_of(exc)
            self.stream.observe_end(self.finish_reason, exc)
        try:
            if isinstance(exc, H2oError) and self._error is None:
                self.stream.describe(exc)
                self.stream.read_back_after(exc)
                # A copy, because the traceback of `exc` would keep the reply alive.
                self._error = copy(exc)
        finally:
            self.stream.end(wait=False)

    def close(self) -> None:
        """End the answer, finished or not."""
        if not self._has_ended:
            self.stream.observe_end("stopped")
        self.stream.end()
        if self.finish_reason is None:
            self.finish_reason = "stopped"

    def resume_token(self) -> str | None:
        """The token for resuming the answer after the text that the caller has taken."""
        resumption = self.stream.resumption
        if resumption is None or not self.stream.conversation_id:
            return None
        return resumption.run.token(max(0, self._taken - resumption.started_at))

    def _interrupted(self) -> IncompleteAnswerError:
        error = IncompleteAnswerError(
            "The answer was stopped, because its reader was cancelled",
            hint=Hint("To limit the wait for an answer, pass {timeout}."),
        )
        self.stream.describe(error)
        return error

    @property
    def _taken(self) -> int:
        """The characters of the answer that the caller has taken."""
        ahead = [] if self.reader is None else self.reader.read_ahead
        waiting = [*copy(self._batch), *ahead]
        tokens = [event for event in waiting if isinstance(event, Token) and not event.special]
        untaken = sum(len(token.text) for token in tokens)
        return max(self._position, self.stream.transcript.characters - untaken)

    def _received(self) -> list[Event]:
        reader, transcript = self.reader, self.stream.transcript
        if reader is None:
            return []
        if transcript.ended or transcript.malformed is not None:
            return reader.drain()
        return reader.receive()

    def _take(self, events: list[Event]) -> None:
        self._batch = batch = iter(events)
        if self.stream.observation is not None:
            self.stream.observation.receive(events)
        self.texts = (
            event.text
            for event in batch
            if type(event) is Token and event.text and not event.special
        )

    def _conclude(self) -> None:
        """Set the answer at the end of the stream, or raise the error that ended it."""
        transcript, state = self.stream.transcript, self.stream.state
        was_stopped = state.stage is not Stage.OPEN
        if not was_stopped:
            _raise_for_end(transcript)
        self._has_ended = True
        reason: FinishReason = "stopped"
        final = transcript.final
        if final is not None and not _was_interrupted(final, was_stopped=was_stopped):
            reason = final.finish_reason
        self.finish_reason = reason
        seconds = self.stream.timing.since_sent
        self._find_id()
        self.answer = Answer(
            text=transcript.text,
            finish_reason=reason,
            model=self.model,
            conversation_id=self.stream.conversation_id,
            message_id=self.message_id,
            title=transcript.title,
            sources=transcript.sources,
            files=transcript.files,
            seconds=seconds,
            time_to_first_token=self.stream.timing.to_first_token,
        )
        self.stream.observe_end(reason)
        # Do not wait for another thread that closes this: it may wait for this one.
        self.stream.end(wait=False)

    def _find_id(self) -> None:
        if self.stream.state.is_foreign:
            self.message_id = None  # the server did not use the client's id
        if self._fetch_id is not None:
            try:
                self.message_id = self._fetch_id()
            except H2oError as exc:
                log.info("cannot read the id of an answer: %s", exc)


def _was_interrupted(final: Final, *, was_stopped: bool) -> bool:
    if final.interrupted is None:
        # v0.7 does not report interruptions, and sends the text so far as the whole answer.
        return was_stopped and final.text is not None
    return final.interrupted


def _raise_for_end(transcript: Transcript) -> None:
    """Raise an error if the answer did not end normally."""
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
            "The answer was stopped before its first token, but not by this reply"
        )


def reason_of(exc: BaseException) -> ReplyEnd:
    """The `Reply.finish_reason` of an answer that ``exc`` ended."""
    if isinstance(exc, IncompleteAnswerError):
        return "incomplete"
    return "error" if isinstance(exc, H2oError) else "stopped"
