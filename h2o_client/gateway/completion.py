"""Writes chat completions as OpenAI's API has them: whole, and as events of a stream. Pure.

``usage`` is unknown behind a chat-ui: it is left out, or null where a client asks for it.
"""

from __future__ import annotations

import msgspec

DONE = b"data: [DONE]\n\n"
"""The event that ends a stream."""

_encode = msgspec.json.Encoder().encode


def whole(
    *, id: str, created: int, model: str, text: str, reasoning: str, finish_reason: str
) -> bytes:
    """A ``chat.completion`` document."""
    message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    return _encode(
        {
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
        }
    )


class Chunks:
    """Writes the events of one streamed completion. What they have in common is encoded once."""

    def __init__(self, *, id: str, created: int, model: str, with_usage: bool) -> None:
        head = _encode(
            {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        )
        usage = b',"usage":null' if with_usage else b""
        self._begin = b"data: %b%b" % (head[:-1], usage) + b',"choices":[{"index":0,"delta":'
        self._text = self._begin + b'{"content":'
        self._reasoning = self._begin + b'{"reasoning_content":'
        self._end = b'},"finish_reason":null}]}\n\n'

    def role(self) -> bytes:
        """The first one, which says whose words follow."""
        return self._begin + b'{"role":"assistant","content":""' + self._end

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        return self._text + _encode(piece) + self._end

    def reasoning(self, piece: str) -> bytes:
        """A piece of what the model thinks before it answers."""
        return self._reasoning + _encode(piece) + self._end

    def finish(self, reason: str) -> bytes:
        """The last one."""
        return self._begin + b'{},"finish_reason":%b}]}\n\n' % _encode(reason)


def error_event(document: bytes) -> bytes:
    """An error in a stream that had begun well, which ends it."""
    return b"data: %b\n\n" % document


def model_document(id: str, created: int) -> dict[str, object]:
    """One entry of the list of models."""
    return {"id": id, "object": "model", "created": created, "owned_by": "chat-ui"}
