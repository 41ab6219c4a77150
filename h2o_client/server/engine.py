"""What an engine is: the turns of a conversation come in, tokens go out.

An engine knows nothing of HTTP or sessions; any callable of the shape of `Engine` is one.
`LlamaEngine` runs a model, `UpstreamEngine` asks a server, `ScriptedEngine` says what it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from h2o_client.errors import GenerationError
from h2o_client.wire.events import Final, Token


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation so far; the last one is the user's new question.

    The first one can be what the system is told to be; up to chat-ui v0.6 there is no such thing.
    """

    role: Literal["system", "user", "assistant"]
    content: str


class Engine(Protocol):
    """What generates: a callable, called in a thread of its own for each answer.

    It yields the answer's tokens and, where the model itself came to an end, a last `Final` with
    the finish reason "stop" or "length"; without one the answer counts as incomplete.
    ``parameters`` are text-generation-inference's (temperature, max_new_tokens, ...). When
    ``stopped()`` turns true nobody wants the rest: the engine may end at once, and it is closed
    at its next token in any case.

    A failure is raised as `EngineFailure` (or `GenerationError`): before the first token it is the
    answer's HTTP status, later an event in the stream. A connection that broke on the way is
    raised as `AnswerCut`. Three things an engine may have besides: ``slots``, how many answers it
    writes at once; ``prompt(turns, parameters)``, the text its model is given; and
    ``title(message)``, a conversation's title by other means than asking it for one.
    """

    def __call__(
        self,
        turns: Sequence[Turn],
        parameters: Mapping[str, object],
        stopped: Callable[[], bool],
        /,
    ) -> Iterator[Token | Final]: ...


class EngineFailure(GenerationError):
    """The model said no: ``status`` and ``retry_after`` (seconds) are its HTTP answer's."""

    def __init__(
        self,
        said: str,
        *,
        error_type: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(said, error_type=error_type, status=status)
        self.retry_after = retry_after


class AnswerCut(Exception):
    """The connection to the model broke: the answer ends as it stands, without its last chunk.

    Before the first token it is an HTTP 500, as where chat-ui cannot reach its model server.
    """


def prompt_of(engine: Engine, turns: Sequence[Turn], parameters: Mapping[str, object]) -> str:
    """The text the model is given for ``turns``; h2oGPT's form where the engine has none."""
    own = getattr(engine, "prompt", None)
    if own is not None:
        return str(own(turns, parameters))
    written = [f"{_MARKS[turn.role]}{turn.content}<|endoftext|>" for turn in turns]
    return "".join(written) + _MARKS["assistant"]


_MARKS = {"system": "<|system|>", "user": "<|prompt|>", "assistant": "<|answer|>"}
