"""Parse and check one prompt of a batch, from a caller or a line of a file.

The only I/O is reading the files that a prompt names, so that a missing one is found before
anything is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import cast

import msgspec

from h2o_client.arguments import document, optional_text, text
from h2o_client.errors import ConfigurationError
from h2o_client.messages import (
    Message,
    Messages,
    PromptFormat,
    as_prompt,
    parse_messages,
)
from h2o_client.options import SAMPLING, Options, check_options

PromptId = str | int
"""The id of a prompt in the input, or the number of its line, from 1."""

Prompt = str | Mapping[str, object] | Sequence[Message | Mapping[str, object]]
"""A text, a list of messages, or a mapping like a line of a JSON file (see docs/batch.rst)."""

RESERVED = frozenset(
    ("id", "index", "text", "finish_reason", "model", "server", "attempts", "seconds", "error")
)
"""The keys of a line in the answers file. Extra keys of a prompt cannot have these names."""

_OWN = ("prompt", "messages", "id", "system", "model", "files", "options")
_OPTIONS = tuple(name for name in Options.__annotations__ if name not in ("prompt_format", "files"))
_OPENAI_URL = "/v1/chat/completions"
_OPENAI_NAMES = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "seed": "seed",
}
_OPENAI_PARAMETERS = ("frequency_penalty", "presence_penalty")
_OPENAI_IGNORED = ("model", "messages", "metadata", "service_tier", "store", "stream", "user")


class InvalidPrompt(ValueError):
    """A prompt that cannot be sent; ``str()`` is the reason."""


class Upload(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that is sent with a prompt: its path or its bytes."""

    path: str = ""
    content: bytes = b""


class Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of one prompt, and the ``extra`` keys that are copied to its answer."""

    messages: tuple[tuple[str, str], ...]
    system: str | None = None
    model: str | None = None
    options: dict[str, object] = {}
    files: tuple[Upload, ...] = ()
    extra: dict[str, object] = {}
    is_openai: bool = False

    def to_send(self) -> Messages:
        """The messages as a session accepts them."""
        if len(self.messages) == 1:
            return self.messages[0][1]
        return [Message(role, content) for role, content in self.messages]

    def all_options(self) -> Options:
        """The options, including the files."""
        files = [each.path or each.content for each in self.files]
        found = {**self.options, **({"files": files} if files else {})}
        return cast(Options, found)


class Row(msgspec.Struct, frozen=True):
    """A row of a CSV file. All other columns are copied to the answer.

    They never set options: a column "model" may contain models of cars.
    """

    prompt: str
    id: str | None
    extra: dict[str, object]


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """The values for prompts that do not have values of their own."""

    model: str | None = None
    system: str | None = None
    options: dict[str, object] = {}
    files: tuple[Upload, ...] = ()
    prompt_format: PromptFormat | None = None

    @classmethod
    def of(cls, model: object, system: object, options: Options) -> Defaults:
        """Check the values. Raises `ConfigurationError` or TypeError if one cannot be sent."""
        check_options(options)
        given = {name: value for name, value in options.items() if value is not None}
        files = given.pop("files", ())
        prompt_format = given.pop("prompt_format", None)
        if not isinstance(given.get("timeout", 0.0), int | float):
            raise ConfigurationError(
                "The timeout of a batch must be a number of seconds",
                hint="Pass a Timeouts to the session instead.",
                argument="timeout",
            )
        try:
            uploads = tuple(_upload(each) for each in cast("Iterable[object]", files))
        except InvalidPrompt as exc:
            raise ConfigurationError(f"Invalid files: {exc}", argument="files") from exc
        return cls(
            model=optional_text(model, "The model", "model"),
            system=optional_text(system, "The system prompt", "system"),
            options=document(given, "The options"),
            files=uploads,
            prompt_format=cast("PromptFormat | None", prompt_format),
        )


class BatchPrompt(msgspec.Struct, frozen=True):
    """A checked prompt. ``key`` is a hash that identifies it; it changes if the prompt does."""

    id: PromptId
    payload: Payload
    key: bytes
    line: int


def parse_prompt(value: object, line: int, defaults: Defaults) -> BatchPrompt:
    """Parse the prompt in ``value``, from the line with that number. Raises `InvalidPrompt`."""
    try:
        if isinstance(value, str):
            found, given_id = _of_object({"prompt": value}, defaults), None
        elif isinstance(value, Row):
            found, given_id = _of_row(value, defaults), value.id
        elif isinstance(value, Mapping):
            is_openai = "custom_id" in value
            found = _of_openai(value, defaults) if is_openai else _of_object(value, defaults)
            given_id = value.get("custom_id" if is_openai else "id")
        elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            found, given_id = _of_object({"messages": value}, defaults), None
        else:
            raise InvalidPrompt(f"A prompt must be a text or an object, not {_kind(value)}.")
        prompt_id = line if given_id is None else _prompt_id(given_id)
        return BatchPrompt(prompt_id, found, _key(prompt_id, found, defaults.prompt_format), line)
    except (ConfigurationError, TypeError) as exc:
        raise InvalidPrompt(str(exc)) from exc


def _of_row(row: Row, defaults: Defaults) -> Payload:
    return msgspec.structs.replace(
        _of_object({"prompt": row.prompt}, defaults), extra=_carried(row.extra)
    )


def _of_object(value: Mapping[str, object], defaults: Defaults) -> Payload:
    if ("prompt" in value) == ("messages" in value):
        raise InvalidPrompt('An object needs either "prompt" or "messages".')
    extra = _carried({name: each for name, each in value.items() if name not in _OWN})
    options = value.get("options")
    if options is not None and not isinstance(options, Mapping):
        raise InvalidPrompt('"options" must be an object of names and values.')
    return _payload(
        value["prompt"] if "prompt" in value else value["messages"],
        is_text="prompt" in value,
        system=optional_text(value.get("system"), '"system"'),
        model=optional_text(value.get("model"), '"model"'),
        options=_options(options or {}),
        files=value.get("files"),
        extra=extra,
        defaults=defaults,
    )


def _of_openai(value: Mapping[str, object], defaults: Defaults) -> Payload:
    body, url = value.get("body"), value.get("url", _OPENAI_URL)
    if not isinstance(body, Mapping) or "messages" not in body:
        raise InvalidPrompt('A line of OpenAI\'s Batch API needs a "body" with "messages".')
    if value.get("method", "POST") != "POST" or url != _OPENAI_URL:
        raise InvalidPrompt(f"Only POST {_OPENAI_URL} is supported, not {url!r}.")
    return _payload(
        body["messages"],
        is_text=False,
        system=None,
        model=optional_text(body.get("model"), '"model"'),
        options=_openai_options(body),
        files=None,
        extra={},
        defaults=defaults,
        is_openai=True,
    )


def _openai_options(body: Mapping[str, object]) -> dict[str, object]:
    options: dict[str, object] = {}
    parameters: dict[str, object] = {}
    for name, value in body.items():
        if value is None or name in _OPENAI_IGNORED or (name == "n" and value == 1):
            continue
        if name in _OPENAI_NAMES:
            options[_OPENAI_NAMES[name]] = value
        elif name in _OPENAI_PARAMETERS:
            parameters[name] = value
        elif not (name == "response_format" and value == {"type": "text"}):
            raise InvalidPrompt(f'chat-ui does not support "{name}" in the body.')
    return _options({**options, **({"parameters": parameters} if parameters else {})})


def _payload(
    messages: object,
    *,
    is_text: bool,
    system: str | None,
    model: str | None,
    options: dict[str, object],
    files: object,
    extra: dict[str, object],
    defaults: Defaults,
    is_openai: bool = False,
) -> Payload:
    if is_text and not isinstance(messages, str):
        raise InvalidPrompt(f'"prompt" must be a text, not {_kind(messages)}.')
    if is_openai and isinstance(messages, Sequence):
        messages = [_developer(each) for each in messages]
    parsed = parse_messages(cast(Messages, messages))
    systems = [each.content for each in parsed if each.role == "system"]
    first = defaults.system if system is None and not systems else system
    systems = [each for each in (first, *systems) if each is not None]
    uploads = defaults.files
    if files is not None:
        if isinstance(files, str | bytes) or not isinstance(files, Sequence):
            raise InvalidPrompt('"files" must be a list of paths.')
        uploads = tuple(_upload(each) for each in files)
    return Payload(
        messages=tuple((each.role, each.content) for each in parsed if each.role != "system"),
        system="\n\n".join(systems) if systems else None,
        model=defaults.model if model is None else model,
        options={**defaults.options, **options},
        files=uploads,
        extra=extra,
        is_openai=is_openai,
    )


def _developer(message: object) -> object:
    """Replace "developer", OpenAI's newer role name for system messages."""
    if isinstance(message, Mapping) and message.get("role") == "developer":
        return {**message, "role": "system"}
    return message


def _carried(extra: Mapping[str, object]) -> dict[str, object]:
    for name in extra:
        if name in RESERVED:
            raise InvalidPrompt(
                f"The key {name!r} is reserved for the answers. Rename it in the prompts."
            )
    return document(extra, "A key")


def _options(options: Mapping[str, object]) -> dict[str, object]:
    for name in options:
        if name not in _OPTIONS:
            raise InvalidPrompt(_unknown_option(name))
    given = {name: value for name, value in options.items() if value is not None}
    check_options(cast(Options, given))
    return document(given, "An option")


def _unknown_option(name: str) -> str:
    usual = str(name).lower()
    near = {"max_tokens": ["max_new_tokens"]}.get(usual) or get_close_matches(usual, _OPTIONS, n=1)
    if near:
        return f"Unknown option {name!r}. Did you mean {near[0]!r}?"
    return f"Unknown option {name!r}. Available: {', '.join((*SAMPLING, 'parameters', 'timeout'))}."


def _upload(file: object) -> Upload:
    if isinstance(file, bytes | bytearray):
        return Upload(content=bytes(file))
    if not isinstance(file, str | os.PathLike):
        raise InvalidPrompt(f"A file must be a path, not {_kind(file)}.")
    path = os.fspath(file)
    if not isinstance(path, str) or not os.path.isfile(path):
        raise InvalidPrompt(f"The file {path!r} does not exist.")
    return Upload(path=path)


def _prompt_id(value: object) -> PromptId:
    if isinstance(value, str):
        return text(value, "An id")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InvalidPrompt(f"An id must be a text or an integer, not {_kind(value)}.")


def _kind(value: object) -> str:
    return {bool: "true or false", type(None): "null", dict: "an object", list: "a list"}.get(
        type(value), type(value).__name__
    )


def _key(prompt_id: PromptId, payload: Payload, prompt_format: PromptFormat | None) -> bytes:
    """A hash of everything that the answer depends on, except the server."""
    formatted = None
    if prompt_format is not None:
        parsed = [Message(role, content) for role, content in payload.messages]
        formatted = as_prompt(parsed, prompt_format)
    options = {name: value for name, value in payload.options.items() if name != "timeout"}
    files = [_digest(each) for each in payload.files]
    said = [prompt_id, payload.messages, payload.system, payload.model, options, files, formatted]
    written = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(written.encode()).digest()[:16]


def _digest(upload: Upload) -> str:
    if not upload.path:
        return hashlib.sha256(upload.content).hexdigest()
    try:
        with open(upload.path, "rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
            return digest.hexdigest()
    except OSError as exc:
        raise InvalidPrompt(f"Cannot read {upload.path!r}: {exc.strerror or exc}.") from exc
