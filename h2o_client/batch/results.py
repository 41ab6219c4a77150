"""The result of a prompt: `Result`, its form in the journal, and its line in the answers file."""

from __future__ import annotations

from copy import copy
from typing import Literal

import msgspec

from h2o_client.answer.steps import Answer
from h2o_client.batch.prompts import Payload, PromptId
from h2o_client.errors import H2oError
from h2o_client.wire import json
from h2o_client.wire.events import FinishReason, Source


class PromptError(H2oError):
    """A prompt of a batch has failed.

    ``type`` is the name of the original error's class, ``message`` its message, and ``partial`` the
    text received before it.
    """

    def __init__(self, type: str, message: str, partial: str = "") -> None:
        super().__init__(message)
        self.type = type
        self.partial = partial


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The ``answer`` to a prompt, or the ``error``.

    id: the prompt's id, or the number of its line, from 1.
    index: the position of the prompt, from 0.
    attempts: how often the prompt was sent. Attempts that a rate limit refused are not counted.
    server: the base URL of the server that answered.
    seconds: how long the last attempt took.
    extra: the other keys of the prompt.
    """

    id: PromptId
    index: int
    answer: Answer | None
    error: PromptError | None
    attempts: int
    server: str
    seconds: float
    extra: dict[str, object] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A result as the journal stores it. ``ended_at`` is in seconds since 1970."""

    attempts: int
    seconds: float
    server: str
    ended_at: float
    text: str = ""
    finish_reason: FinishReason | Literal[""] = ""
    model: str = ""
    conversation_id: str = ""
    message_id: str | None = None
    title: str | None = None
    sources: tuple[Source, ...] = ()
    files: tuple[str, ...] = ()
    error_type: str = ""
    error_message: str = ""
    partial: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether there is no answer."""
        return bool(self.error_type)

    @classmethod
    def from_answer(
        cls, answer: Answer, *, attempts: int, seconds: float, server: str, ended_at: float
    ) -> Outcome:
        """The outcome of an answered prompt."""
        return cls(
            attempts=attempts,
            seconds=round(seconds, 3),
            server=server,
            ended_at=round(ended_at, 3),
            text=answer.text,
            finish_reason=answer.finish_reason,
            model=answer.model,
            conversation_id=answer.conversation_id,
            message_id=answer.message_id,
            title=answer.title,
            sources=answer.sources,
            files=answer.files,
        )

    @classmethod
    def from_error(
        cls, error: H2oError, *, attempts: int, seconds: float, server: str, ended_at: float
    ) -> Outcome:
        """The outcome of a prompt that has finally failed."""
        bare = copy(error)
        bare.partial, bare.stored = "", ()  # the outcome has its own field for `partial`
        return cls(
            attempts=attempts,
            seconds=round(seconds, 3),
            server=server,
            ended_at=round(ended_at, 3),
            error_type=error.type if isinstance(error, PromptError) else type(error).__name__,
            error_message=str(bare),
            partial=error.partial,
        )

    def result(self, prompt_id: PromptId, index: int, payload: Payload) -> Result:
        """The result for the caller."""
        error = answer = None
        if self.has_failed:
            error = PromptError(self.error_type, self.error_message, self.partial)
        else:
            answer = Answer(
                text=self.text,
                finish_reason=self.finish_reason or "stop",
                model=self.model,
                conversation_id=self.conversation_id,
                message_id=self.message_id,
                title=self.title,
                sources=self.sources,
                files=self.files,
            )
        return Result(
            id=prompt_id,
            index=index,
            answer=answer,
            error=error,
            attempts=self.attempts,
            server=self.server,
            seconds=self.seconds,
            extra=payload.extra,
        )

    def line(self, prompt_id: PromptId, index: int, payload: Payload, key: bytes) -> bytes:
        """The line for the answers file. Equal arguments return equal lines."""
        if payload.is_openai:
            document = self._openai(prompt_id, key)
        else:
            document = {**self._own(prompt_id, index), **payload.extra}
        return msgspec.json.encode(document) + b"\n"

    def _own(self, prompt_id: PromptId, index: int) -> dict[str, object]:
        failure = {
            "type": self.error_type,
            "message": self.error_message,
            "partial": self.partial,
        }
        return {
            "id": prompt_id,
            "index": index,
            "text": None if self.has_failed else self.text,
            "finish_reason": self.finish_reason or None,
            "model": self.model or None,
            "server": self.server,
            "attempts": self.attempts,
            "seconds": self.seconds,
            "error": failure if self.has_failed else None,
        }

    def _openai(self, prompt_id: PromptId, key: bytes) -> dict[str, object]:
        """The line in the format of OpenAI's Batch API, without ``usage``, which is unknown."""
        name = key.hex()
        document: dict[str, object] = {"id": f"batch_req_{name}", "custom_id": prompt_id}
        if self.has_failed:
            error = {"code": self.error_type, "message": self.error_message}
            return {**document, "response": None, "error": error}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": self.text},
            "finish_reason": self.finish_reason if self.finish_reason == "length" else "stop",
        }
        body = {
            "id": f"chatcmpl-{name}",
            "object": "chat.completion",
            "created": int(self.ended_at),
            "model": self.model,
            "choices": [choice],
        }
        response = {"status_code": 200, "request_id": name, "body": body}
        return {**document, "response": response, "error": None}


def id_of_line(line: bytes) -> PromptId | None:
    """The id of the prompt in a line of the answers file; None if it is not such a line."""
    try:
        found = json.read(line)
    except json.InvalidJson:
        return None
    if not isinstance(found, dict):
        return None
    value = found.get("id" if "index" in found else "custom_id")
    is_id = isinstance(value, str | int) and not isinstance(value, bool)
    return value if is_id else None
