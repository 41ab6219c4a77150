"""`Reply`: an answer that is being received."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from typing_extensions import Self

    from h2o_client.answer.steps import Answer, AnswerSteps
    from h2o_client.wire.events import Elicitation, Event


class Reply:
    """A streamed answer. Iterate over it for the text, or over `events` for everything.

    You can leave the iteration early. When the reply is closed (``with``) or garbage-collected, the
    library stops the model, and deletes the conversation if it was created for this answer. Only
    one thread may iterate; others may call `stop` and `close`, and read the attributes.
    """

    def __init__(self, steps: AnswerSteps) -> None:
        self._steps = steps
        self._stream = steps.stream

    @property
    def model(self) -> str:
        """The model that the prompt was sent to."""
        return self._steps.model

    @property
    def message_id(self) -> str | None:
        """The id of the answer, once it is known."""
        return self._steps.message_id

    @property
    def answer(self) -> Answer | None:
        """The whole answer, once it has ended."""
        return self._steps.answer

    @property
    def finish_reason(
        self,
    ) -> Literal["stop", "length", "stopped", "error", "incomplete"] | None:
        """How the answer ended: see `Answer`; "error" or "incomplete" if it failed. None before."""
        return self._steps.finish_reason

    @property
    def text(self) -> str:
        """All text received so far."""
        return self._stream.transcript.text

    @property
    def title(self) -> str | None:
        """The conversation's title, if the server sends one with the answer."""
        return self._stream.transcript.title

    @property
    def conversation_id(self) -> str:
        """The id of the answer's conversation."""
        return self._stream.conversation_id

    @property
    def elicitation(self) -> Elicitation | None:
        """A tool's question that the user has not answered yet (servers since July 2026)."""
        return self._stream.transcript.elicitation

    @property
    def resumed(self) -> int:
        """How often the answer was resumed after a broken connection (servers since July 2026)."""
        return self._stream.times_resumed

    @property
    def resume_token(self) -> str | None:
        """A short string with which another process can resume the answer: see `H2oSession.resume`.

        It contains the server's address, the ids of the conversation and the answer, and how much
        of the text has been read. It contains no secret. None on servers before July 2026.
        """
        return self._steps.resume_token()

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from sending the prompt to the first token; None until then."""
        return self._stream.timing.to_first_token

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while True:
            for token in self._steps.texts:
                return token
            if not self._steps.advance():
                raise StopIteration

    def events(self) -> Iterator[Event | Answer]:
        """Iterate over everything that the server sends; the last event is the `Answer`.

        Events that were already consumed by iterating over the text are not repeated.
        """
        while True:
            while (event := self._steps.next_event()) is not None:
                yield event
            if not self._steps.advance():
                break
        if self.answer is not None:
            yield self.answer

    def read(self) -> Answer:
        """Wait for the whole answer and return it. If it fails, the error has ``.partial``."""
        for _ in self:
            pass
        return self._steps.outcome()

    def answer_elicitation(
        self,
        action: str = "accept",
        content: Mapping[str, object] | None = None,
        *,
        elicitation_id: str | None = None,
    ) -> None:
        """Answer a tool's question to the user: see `Elicitation` among the `events`.

        action: "accept", "decline" or "cancel".
        content: with "accept", the values of the form's fields by name.
        elicitation_id: the question to answer; the default is the open one.

        If the stream has ended because of the question, iterate again to continue it. Raises
        `UnsupportedError` if the server's version has no elicitations, `NotFoundError` for an
        unknown one, `ElicitationClosedError` for one that was answered before or has expired.
        """
        self._steps.answer_elicitation(action, content, elicitation_id)

    def stop(self) -> None:
        """Stop the answer. Any thread may call this; the iteration then ends without an error.

        Returns at once. The server gets one stop request. Text that arrives within the next 1.5 s
        is still returned. Then the cleanup follows, as by `close`.
        """
        self._stream.stop()

    def close(self) -> None:
        """Close the connection, stop the model, delete the conversation if temporary."""
        self._steps.close()

    def leave(self) -> None:
        """Close the connection without stopping the model; the conversation is kept.

        `resume_token` can be used to resume the answer. Servers before July 2026 cannot resume:
        some of them continue and store the answer, others store the text sent so far.
        """
        self._stream.leave()
        self.close()

    def _has_event(self) -> bool:
        """Whether `events` can yield another event without waiting."""
        return self._steps.has_event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Reply {self._steps}>"

    def _ipython_display_(self) -> None:
        import_module("h2o_client.notebook").show(self)

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle a Reply: it holds a connection")


def leave_running(reply: Reply) -> None:
    """Do not stop the model when ``reply`` is closed: another reader needs the answer."""
    reply._stream.state.leave_running()
