"""The interface of engines, which generate answers from the turns of a conversation.

An engine does not deal with HTTP or sessions; any callable with the signature of `Engine` is one.
`LlamaEngine` runs a model, `UpstreamEngine` calls a server, `ScriptedEngine` has fixed answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from h2o_client.errors import GenerationError
from h2o_client.wire.events import Final, Token


class Turn(msgspec.Struct, frozen=True):
    """One message of a conversation. The last one is the user's new prompt.

    The first one may be a system message, but not on chat-ui up to v0.6.
    """

    role: Literal["system", "user", "assistant"]
    content: str


class Engine(Protocol):
    """A callable that generates an answer. It is called in a separate thread for each answer.

    It yields the answer's tokens. If the model ends normally, the last item is a `Final` with the
    finish reason "stop" or "length"; without it, the answer is incomplete. ``parameters`` are those
    of text-generation-inference (temperature, max_new_tokens, ...). When ``stopped()`` returns
    True, the rest of the answer is not needed: the engine may return at once; otherwise it is
    closed at its next token.

    If the model fails, the engine raises `EngineFailure` (or `GenerationError`). Before the first
    token, this sets the HTTP status; later, it becomes an event in the stream. For a broken
    connection, the engine raises `AnswerCut`. An engine may have three optional attributes:
    ``slots``, the number of concurrent answers; ``prompt(turns, parameters)``, which returns the
    text that its model gets; and ``title(message)``, which returns the title of a conversation, if
    the model should not generate it.
    """

    def __call__(
        self,
        turns: Sequence[Turn],
        parameters: Mapping[str, object],
        stopped: Callable[[], bool],
        /,
    ) -> Iterator[Token | Final]: ...


class EngineFailure(GenerationError):
    """The model failed or refused. The response gets ``status`` and ``retry_after`` (seconds)."""

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
    """The connection to the model broke. The response ends without its last chunk.

    Before the first token, the response has status 500, as when chat-ui cannot reach its model.
    """


def prompt_of(engine: Engine, turns: Sequence[Turn], parameters: Mapping[str, object]) -> str:
    """The text that the model gets for ``turns``, by default in the format of h2oGPT."""
    own = getattr(engine, "prompt", None)
    if own is not None:
        return str(own(turns, parameters))
    written = [f"{_MARKS[turn.role]}{turn.content}<|endoftext|>" for turn in turns]
    return "".join(written) + _MARKS["assistant"]


_MARKS = {"system": "<|system|>", "user": "<|prompt|>", "assistant": "<|answer|>"}
