"""Parse and check the body of a chat completion request. No I/O.

A parameter that chat-ui does not support is refused, and the error names it. Parameters that do not
change the answer (``user``, ``metadata``, ``store`` and the like) are accepted and have no effect.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from h2o_client.gateway.openai_error import invalid
from h2o_client.wire import json

Role = Literal["user", "assistant"]

SAMPLING = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "top_k",
    "repetition_penalty",
)
"""The names of sampling parameters in requests: OpenAI's, and two that other servers accept."""

_MOST_STOPS = 16
_LONGEST_STOP = 1000  # characters: each token is searched for stops, which delays all clients
_TOO_LARGE = 2**63
_NUMBERS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0, 10),
}
_COUNTS = ("max_tokens", "max_completion_tokens", "top_k")
# Model servers of 2023 refuse a temperature of 0 and a top_p of 0 or 1.
_LEAST, _MOST = 0.01, 0.999


class Turn(msgspec.Struct, frozen=True):
    """One message of a user or of the model; ``files`` are the bytes of its images and files."""

    role: Role
    text: str
    files: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Turn {self.role}>"  # error trackers show variables: no text here


class ChatRequest(msgspec.Struct, frozen=True):
    """A checked request.

    ``system`` joins all system and developer messages. ``sampling`` maps the names of `Options` to
    the caller's values, and ``sampling_names`` are their names in the request.
    """

    model: str
    system: str | None
    turns: tuple[Turn, ...]
    stream: bool
    with_usage: bool
    stop: tuple[str, ...]
    sampling: Mapping[str, float | int]
    sampling_names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<ChatRequest {self.model}>"

    @property
    def history(self) -> tuple[Turn, ...]:
        """All turns before ``latest``."""
        return self.turns[: len(self.turns) - len(self.latest)]

    @property
    def latest(self) -> tuple[Turn, ...]:
        """The user's turns at the end; empty if the last turn is the model's."""
        place = len(self.turns)
        while place and self.turns[place - 1].role == "user":
            place -= 1
        return self.turns[place:]


def read_request(body: bytes) -> ChatRequest:
    """Parse a body. Raises `ApiError` (400) if it is invalid or not supported."""
    try:
        document = json.read(body)
    except json.InvalidJson as exc:
        raise invalid(f"The body is not JSON: {exc}.") from exc
    if not isinstance(document, dict):
        raise invalid("The body must be a JSON object.")
    _refuse_unsupported(document)
    model = document.get("model")
    if not isinstance(model, str) or not model.strip():
        raise invalid("'model' must be the name of a model. See /v1/models.", "model")
    system, turns = _read_messages(document.get("messages"))
    stream = _flag(document, "stream")
    return ChatRequest(
        model=_text(model, "model"),
        system=system,
        turns=turns,
        stream=stream,
        with_usage=_with_usage(document.get("stream_options"), stream),
        stop=_read_stop(document.get("stop")),
        sampling=_read_sampling(document),
        sampling_names=tuple(name for name in SAMPLING if document.get(name) is not None),
    )


def _refuse_unsupported(document: Mapping[str, object]) -> None:
    for name in ("tools", "functions"):
        if document.get(name):
            raise invalid(
                f"chat-ui does not support tools in requests. Leave {name!r} out.",
                name,
                "unsupported_parameter",
            )
    for name in ("tool_choice", "function_call"):
        if document.get(name) not in (None, "none", "auto"):
            raise invalid(
                f"chat-ui does not support tools in requests. Leave {name!r} out.",
                name,
                "unsupported_parameter",
            )
    if _flag(document, "logprobs") or document.get("top_logprobs"):
        name = "logprobs" if document.get("logprobs") else "top_logprobs"
        raise invalid(
            "chat-ui does not report log probabilities. Leave 'logprobs' out.",
            name,
            "unsupported_parameter",
        )
    count = document.get("n")
    if count is not None and not _is_count(count):
        raise invalid("'n' must be an integer.", "n")
    if count not in (None, 1):
        raise invalid(
            "chat-ui returns one choice for each request. Send several requests instead of 'n'.",
            "n",
            "unsupported_parameter",
        )
    _refuse_format(document.get("response_format"))
    modalities = document.get("modalities")
    if document.get("audio") is not None or (modalities is not None and modalities != ["text"]):
        raise invalid("chat-ui answers with text only.", "modalities", "unsupported_parameter")
    if document.get("web_search_options") is not None:
        raise invalid(
            "The gateway does not search the web. Leave 'web_search_options' out.",
            "web_search_options",
            "unsupported_parameter",
        )


def _refuse_format(format: object) -> None:
    if format is None:
        return
    kind = format.get("type") if isinstance(format, dict) else None
    if not isinstance(kind, str):
        raise invalid("'response_format' must be an object with a 'type'.", "response_format")
    if kind != "text":
        raise invalid(
            f"chat-ui does not support the 'response_format' {kind!r}. Describe the format in the "
            "prompt.",
            "response_format",
            "unsupported_parameter",
        )


def _read_messages(messages: object) -> tuple[str | None, tuple[Turn, ...]]:
    if not isinstance(messages, list) or not messages:
        raise invalid("'messages' must be a list of at least one message.", "messages")
    systems: list[str] = []
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        param = f"messages[{place}]"
        if not isinstance(message, dict):
            raise invalid(f"{param!r} must be an object.", param)
        role = message.get("role")
        if role in ("system", "developer"):
            systems.append(_read_content(message.get("content"), f"{param}.content")[0])
        elif role == "user":
            turns.append(Turn("user", *_read_content(message.get("content"), f"{param}.content")))
        elif role == "assistant":
            turns.append(_read_assistant(message, param))
        elif role in ("tool", "function"):
            raise invalid(
                f"chat-ui does not support messages with the role {role!r}.",
                f"{param}.role",
                "unsupported_value",
            )
        else:
            raise invalid(
                f"Unknown role {str(role)[:40]!r}. Use system, developer, user or assistant.",
                f"{param}.role",
            )
    last = next((turn for turn in reversed(turns) if turn.role == "user"), None)
    if last is None:
        raise invalid("At least one message must have the role 'user'.", "messages")
    if not last.text.strip():
        raise invalid("The last user message is blank. Add some text.", "messages")
    joined = "\n\n".join(each for each in systems if each.strip())
    return joined or None, tuple(turns)


def _read_assistant(message: Mapping[str, object], param: str) -> Turn:
    for name in ("tool_calls", "function_call", "audio"):
        if message.get(name):
            raise invalid(
                f"chat-ui does not support {name!r} in messages.",
                f"{param}.{name}",
                "unsupported_value",
            )
    content = message.get("content")
    if content is None:
        content = message.get("refusal") or ""
    return Turn("assistant", *_read_content(content, f"{param}.content", parts=("text", "refusal")))


def _read_content(
    content: object, param: str, *, parts: tuple[str, ...] = ("text", "image_url", "file")
) -> tuple[str, tuple[bytes, ...]]:
    """The text and the files of a message's content."""
    if isinstance(content, str):
        return _text(content, param), ()
    if not isinstance(content, list) or not content:
        raise invalid(f"{param!r} must be a text or a list of parts.", param)
    texts: list[str] = []
    files: list[bytes] = []
    for place, part in enumerate(content):
        where = f"{param}[{place}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str):
            raise invalid(f"{where!r} must be an object with a 'type'.", where)
        if kind not in parts:
            raise invalid(
                f"Unsupported type {kind[:40]!r} of a part. Supported here: {', '.join(parts)}.",
                f"{where}.type",
                "unsupported_value",
            )
        if kind in ("text", "refusal"):
            text = part.get(kind)
            if not isinstance(text, str):
                raise invalid(f"'{where}.{kind}' must be a text.", f"{where}.{kind}")
            texts.append(_text(text, f"{where}.{kind}"))
        elif kind == "image_url":
            files.append(_read_image(part.get("image_url"), f"{where}.image_url"))
        else:
            files.append(_read_file(part.get("file"), f"{where}.file"))
    return "\n".join(texts), tuple(files)


def _read_image(image: object, param: str) -> bytes:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise invalid(f"'{param}.url' must be a text.", f"{param}.url")
    if not url.startswith("data:"):
        raise invalid(
            "The gateway does not download images. Send the image itself as a data: URL.",
            f"{param}.url",
            "unsupported_value",
        )
    return _read_data(url, f"{param}.url")


def _read_file(file: object, param: str) -> bytes:
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(data, str):
        raise invalid(
            f"'{param}.file_data' must be the file in base64. The gateway does not store files.",
            f"{param}.file_data",
        )
    return _read_data(data, f"{param}.file_data")


def _read_data(url: str, param: str) -> bytes:
    """Decode a ``data:`` URL or plain base64."""
    head, comma, data = url.partition(",") if url.startswith("data:") else ("", "", url)
    if comma and not head.lower().endswith(";base64"):
        raise invalid(f"{param!r} must be in base64.", param)
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{param!r} is not valid base64.", param) from None
    if not content:
        raise invalid(f"{param!r} is empty.", param)
    return content


def _read_stop(stop: object) -> tuple[str, ...]:
    if stop is None:
        return ()
    given = [stop] if isinstance(stop, str) else stop
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise invalid("'stop' must be a text or a list of texts.", "stop")
    if len(given) > _MOST_STOPS:
        raise invalid(f"'stop' must have at most {_MOST_STOPS} texts.", "stop")
    if any(len(each) > _LONGEST_STOP for each in given):
        raise invalid(f"A text of 'stop' must have at most {_LONGEST_STOP} characters.", "stop")
    return tuple(_text(each, "stop") for each in given if each)


def _read_sampling(document: Mapping[str, object]) -> dict[str, float | int]:
    """The sampling parameters with their names in `Options`. Only chat-ui of 2023 uses them."""
    for name, (least, most) in _NUMBERS.items():
        value = document.get(name)
        if value is not None and not (_is_number(value) and least <= value <= most):  # type: ignore[operator]
            raise invalid(f"{name!r} must be a number from {least:g} to {most:g}.", name)
    for name in _COUNTS:
        value = document.get(name)
        if value is not None and not (_is_count(value) and value > 0):  # type: ignore[operator]
            raise invalid(f"{name!r} must be an integer above 0.", name)
    seed, bias = document.get("seed"), document.get("logit_bias")
    if seed is not None and not _is_count(seed):
        raise invalid("'seed' must be an integer.", "seed")
    if bias is not None and not isinstance(bias, dict):
        raise invalid("'logit_bias' must be an object.", "logit_bias")
    given: dict[str, float | int | None] = {
        "temperature": _at_least(_LEAST, document.get("temperature")),
        "top_p": _at_least(_LEAST, document.get("top_p"), most=_MOST),
        "top_k": _whole(document.get("top_k")),
        "repetition_penalty": _at_least(_LEAST, document.get("repetition_penalty")),
        "max_new_tokens": _whole(
            document.get("max_completion_tokens") or document.get("max_tokens")
        ),
        "seed": abs(value) if (value := _whole(seed)) is not None else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _at_least(least: float, value: object, *, most: float = math.inf) -> float | None:
    return min(most, max(least, float(value))) if isinstance(value, int | float) else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _with_usage(options: object, stream: bool) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict):
        raise invalid("'stream_options' must be an object.", "stream_options")
    if not stream:
        raise invalid("'stream_options' needs 'stream': true.", "stream_options")
    return _flag(options, "include_usage", param="stream_options.include_usage")


def _flag(document: Mapping[str, object], name: str, *, param: str | None = None) -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{param or name!r} must be true or false.", param or name)
    return bool(value)


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < _TOO_LARGE  # False for NaN, infinity and integers of 400 digits


def _is_count(value: object) -> bool:
    """Whether it is an integer. JSON's 1.0 counts as one."""
    return isinstance(value, int | float) and _is_number(value) and value == int(value)


def _text(value: str, param: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(f"{param!r} has an unpaired surrogate.", param) from None
    return value
