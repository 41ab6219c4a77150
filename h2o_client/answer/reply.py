"""`Reply`: an answer as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

    from h2o_client.answer.steps import Answer, AnswerSteps
    from h2o_client.wire.events import Elicitation, Event


class Reply:
    """An answer as it comes: iterate for its text, or over `events` for everything.

    Leaving the iteration early is fine: the server is told to stop, and a conversation made for
    this answer is deleted, at once when the reply is closed (``with``) or dropped. One thread
    iterates; `stop`, `close` and the attributes may be used from others.
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
    def finish_reason(self) -> str | None:
        """How it ended: see `Answer`; "error" or "incomplete" after an error. None until then."""
        return self._steps.finish_reason

    @property
    def text(self) -> str:
        """All text received so far."""
        return self._stream.transcript.text

    @property
    def title(self) -> str | None:
        """The conversation's title, where the server sends one with the answer."""
        return self._stream.transcript.title

    @property
    def conversation_id(self) -> str:
        """The id of the conversation the answer is given in."""
        return self._stream.conversation_id

    @property
    def elicitation(self) -> Elicitation | None:
        """What a tool asks the user and nobody has answered yet (the newest servers)."""
        return self._stream.transcript.elicitation

    @property
    def resumed(self) -> int:
        """How often the answer was resumed after its connection broke (the newest servers)."""
        return self._stream.times_resumed

    @property
    def resume_token(self) -> str | None:
        """A short text with which another process can read on: see `H2oSession.resume`.

        It says where: the server, the conversation, the run, and how much of the text has been
        taken. It holds no secret. None where servers keep no runs (before July 2026).
        """
        return self._steps.resume_token()

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from the prompt's sending to the first token; None until it came."""
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
        """Everything the server says, as it comes; the last event is the `Answer`.

        Events that were taken by iterating the text do not come again.
        """
        while True:
            while (event := self._steps.next_event()) is not None:
                yield event
            if not self._steps.advance():
                break
        if self.answer is not None:
            yield self.answer

    def read(self) -> Answer:
        """Wait for the whole answer, and return it. Raises what broke it off, with ``.partial``."""
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
        """Answer what a tool asks the user: see `Elicitation` among the `events`.

        action: "accept", with the ``content`` of the form's fields by their names; "decline" or
            "cancel".
        elicitation_id: which one; else the one that is open.

        A stream that has ended because of the question is continued when it is iterated again.
        Raises `UnsupportedError` where servers have no such questions, `NotFoundError` for one that
        does not exist, `ElicitationClosedError` for one that was answered before or has expired.
        """
        self._steps.answer_elicitation(action, content, elicitation_id)

    def stop(self) -> None:
        """End the answer where it is, from any thread; the iteration then ends without an error.

        The server is told once to stop; what it still sends is handed over for 1.5 s at most. Then
        everything is cleaned up, as by `close`. Returns at once.
        """
        self._stream.stop()

    def close(self) -> None:
        """Close the connection, stop the model, delete a conversation made for this answer."""
        self._steps.close()

    def leave(self) -> None:
        """Let the connection go and leave the model at work; the conversation stays on the server.

        `resume_token` says where the answer can be read on. Servers before July 2026 have none:
        some of them continue and store the answer, others stop at what came so far.
        """
        self._stream.leave()
        self.close()

    def _has_event(self) -> bool:
        """Whether `events` has another event in this batch, so that taking it does not wait."""
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
        raise TypeError("a Reply cannot be pickled: it holds a connection")


def leave_running(reply: Reply) -> None:
    """Do not have the model stopped when ``reply`` is closed: the answer is for another reader."""
    reply._stream.state.leave_running()
