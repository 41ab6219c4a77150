"""Write chat completions in the format of OpenAI's API: whole, or as events of a stream. No I/O.

chat-ui does not report ``usage``. It is left out, or null if the client requests it.
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
    """Writes the events of one streamed completion. The part that they share is encoded once."""

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
        """The first event, with the role."""
        return self._begin + b'{"role":"assistant","content":""' + self._end

    def text(self, piece: str) -> bytes:
        """An event with a piece of the answer."""
        return self._text + _encode(piece) + self._end

    def reasoning(self, piece: str) -> bytes:
        """An event with a piece of the model's reasoning."""
        return self._reasoning + _encode(piece) + self._end

    def finish(self, reason: str) -> bytes:
        """The last event, with the reason for the end."""
        return self._begin + b'{},"finish_reason":%b}]}\n\n' % _encode(reason)


def error_event(document: bytes) -> bytes:
    """The event that ends a stream with an error."""
    return b"data: %b\n\n" % document


def model_document(id: str, created: int) -> dict[str, object]:
    """One entry of the list of models."""
    return {"id": id, "object": "model", "created": created, "owned_by": "chat-ui"}
