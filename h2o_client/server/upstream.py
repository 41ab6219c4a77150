"""`UpstreamEngine`: use any OpenAI-compatible server as the model. Only the standard library."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from h2o_client.errors import ConfigurationError, Hint
from h2o_client.printable import printable
from h2o_client.server.engine import AnswerCut, EngineFailure, Turn
from h2o_client.server.failure_log import logger
from h2o_client.server.sampling import Sampling, read_sampling
from h2o_client.wire import json, sse
from h2o_client.wire.events import Final, Token
from h2o_client.wire.lines import LineSplitter

KEYS = ("H2O_UPSTREAM_KEY", "OPENAI_API_KEY")
"""The environment variables for the key. The first one that is set counts."""

_CONNECT_WITHIN = 10.0  # seconds; a stop is not noticed during this time
_LIST_WITHIN = 30.0  # seconds for the list of models, which Ctrl-C cannot interrupt
_LONGEST_LINE = 1024 * 1024  # bytes; a line is one token
_LONGEST_DOCUMENT = 8 * 1024 * 1024  # bytes: a whole answer, or a list of models
_LONGEST_REFUSAL = 65536


class UpstreamEngine:
    """Streams answers of an OpenAI-compatible server, with ``POST {url}/chat/completions``.

    ``url`` is the API's base URL ("http://host:8000/v1"; without a path, /v1 is added). ``model``
    is the name of the model, by default the first in the server's list. ``key`` is by default the
    environment variable H2O_UPSTREAM_KEY or OPENAI_API_KEY, if it is set. The sampling parameters
    max_new_tokens, temperature (0 if do_sample is False), top_p, stop and seed are passed on;
    others are ignored. Errors are passed on with their status, error type and Retry-After.
    Responses are limited to 1 MiB for a line of a stream, and 8 MiB for a document.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        timeout: float = 300.0,
    ) -> None:
        """``timeout``: seconds between two tokens. Raises `ConfigurationError`."""
        parts = _split(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = str(parts.hostname), parts.port
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        self._path = path or "/v1"
        self._key = _checked_key(key)
        self._timeout = timeout
        self.model: str = model or self._first_model()

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        """Yield tokens as the upstream sends them."""
        document = {
            **openai_parameters(read_sampling(parameters)),
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
        }
        body = msgspec.json.encode(document)
        deadline = _Deadline(self._timeout)
        with self._answer("POST", "/chat/completions", body, deadline, stopped) as response:
            if response.status != 200:
                raise _refusal(response)
            if "json" in response.headers.get("content-type", ""):
                yield from _read_whole(response)
            else:
                yield from _read_stream(response, deadline)

    def _first_model(self) -> str:
        deadline = _Deadline(_LIST_WITHIN)
        try:
            with self._answer("GET", "/models", None, deadline, lambda: False) as response:
                listed = json.read_as(_read_document(response), _Models)
            return listed.data[0].id
        except AnswerCut as exc:
            reason = getattr(exc.__cause__, "strerror", None) or exc
            raise ConfigurationError(
                f"Cannot list the models of {self._host}: {reason}",
                hint=Hint("Is it running? To start without it, name a model as {model}."),
                argument="upstream",
            ) from exc
        except (EngineFailure, ValueError, LookupError) as exc:
            raise ConfigurationError(
                f"{self._host} does not list its models",
                hint=Hint("Pass one as {model}."),
                argument="model",
            ) from exc

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: bytes | None,
        deadline: _Deadline,
        stopped: Callable[[], bool],
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, */*"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        done = threading.Event()
        watcher = threading.Thread(
            target=_watch,
            args=(connection, lambda: stopped() or deadline.passed, done),
            name="h2o-upstream",
            daemon=True,
        )
        try:
            connection.connect()
            connection.sock.settimeout(self._timeout)
            watcher.start()
            connection.request(method, self._path + path, body, headers)
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            if not stopped():
                said = printable(repr(exc), most=_LONGEST_SAID)
                logger.warning("upstream %s failed: %s", self._host, said)
            said = deadline.words if deadline.passed else printable(str(exc), most=_LONGEST_SAID)
            raise AnswerCut(said) from exc
        finally:
            done.set()
            if watcher.is_alive():
                watcher.join()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=_CONNECT_WITHIN, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=_CONNECT_WITHIN)


def openai_parameters(sampling: Sampling) -> dict[str, object]:
    """The parameters with the names of OpenAI's API, without those that it does not support."""
    named = {
        "max_tokens": sampling.max_new_tokens,
        "temperature": 0 if sampling.do_sample is False else sampling.temperature,
        "top_p": sampling.top_p,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
    }
    return {name: value for name, value in named.items() if value is not None}


def _watch(
    connection: http.client.HTTPConnection, stopped: Callable[[], bool], done: threading.Event
) -> None:
    # Only a shutdown of the socket wakes a reader that waits for the next token.
    sock: socket.socket = connection.sock
    while not done.wait(0.05):
        if stopped():
            with suppress(OSError):  # it may be closed already
                sock.shutdown(socket.SHUT_RDWR)
            return


def _read_stream(
    response: http.client.HTTPResponse, deadline: _Deadline
) -> Iterator[Token | Final]:
    lines = LineSplitter(carriage_returns=True)
    while data := response.read1(65536):
        for line in lines.feed(data):
            name, value = sse.field(line)
            if name == b"data" and value != b"[DONE]":
                chunk = _read_chunk(value)
                yield from chunk.events
                if chunk.alive:
                    deadline.extend()
        if lines.pending > _LONGEST_LINE:
            raise _too_long()
    if deadline.passed:
        raise AnswerCut(deadline.words)


class _Deadline:
    """The time by which the next token must arrive. Comments and empty chunks do not count."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.words = f"The model server timed out: no token within {seconds:g} s"
        self.extend()

    def extend(self) -> None:
        """Restart the timeout."""
        self._due = time.monotonic() + self._seconds

    @property
    def passed(self) -> bool:
        """Whether the timeout has expired."""
        return time.monotonic() > self._due


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Chunk(msgspec.Struct):
    """The events of one document. ``alive``: it has text, reasoning or the end of the answer."""

    events: list[Token | Final]
    alive: bool


def _read_whole(response: http.client.HTTPResponse) -> Iterator[Token | Final]:
    yield from _read_chunk(_read_document(response), part="message").events


def _read_document(response: http.client.HTTPResponse) -> bytes:
    document = response.read(_LONGEST_DOCUMENT + 1)
    if len(document) > _LONGEST_DOCUMENT:
        raise _too_long()
    return document


def _read_chunk(data: bytes, *, part: str = "delta") -> _Chunk:
    found = _Chunk([], alive=False)
    try:
        chunk: Any = json.read(data)
        if "error" in chunk:
            raise _failure(chunk, status=500)
        for choice in chunk.get("choices") or ():
            said = choice.get(part) or {}
            found.alive = found.alive or any(said.get(name) for name in _SAID)
            if text := said.get("content"):
                found.events.append(Token(str(text)))
            if reason := choice.get("finish_reason"):
                found.alive = True
                found.events.append(Final(finish_reason="length" if reason == "length" else "stop"))
    except (ValueError, TypeError, AttributeError) as exc:
        raise EngineFailure(
            "The model server sent an invalid completion", error_type="generation"
        ) from exc
    return found


_SAID = ("content", "reasoning", "reasoning_content")


def _too_long() -> EngineFailure:
    return EngineFailure("The response of the model server is too long", error_type="generation")


def _split(url: str) -> SplitResult:
    # The URL is not shown: it may contain a password.
    invalid = ConfigurationError(
        "Invalid address of an OpenAI-compatible server",
        hint="An address looks like http://127.0.0.1:8000/v1. Put a key into H2O_UPSTREAM_KEY.",
        argument="upstream",
    )
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise invalid from None
    if not known or parts.query or parts.username or parts.password or not url.isprintable():
        raise invalid
    return parts


def _checked_key(key: str | None) -> str:
    found = (os.environ.get(name) for name in KEYS)
    key = (key if key is not None else next(filter(None, found), "")).strip()
    # http.client would refuse it with the key in its error.
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "The key in H2O_UPSTREAM_KEY has characters that cannot be sent",
            hint="Set it to printable ASCII on one line.",
        )
    return key


def _refusal(response: http.client.HTTPResponse) -> EngineFailure:
    body = response.read(_LONGEST_REFUSAL)
    try:
        document = json.read(body)
    except json.InvalidJson:
        document = {"error": body.decode("utf-8", "replace").strip() or response.reason}
    wait = response.headers.get("retry-after", "")
    # A status below 400 (a redirect, a 204) has no answer either: treat it as a bad gateway.
    status = response.status if response.status >= 400 else 502
    return _failure(document, status, float(wait) if re.fullmatch(r"\d{1,9}", wait) else None)


def _failure(document: object, status: int, retry_after: float | None = None) -> EngineFailure:
    said: dict[str, Any] = document if isinstance(document, dict) else {}
    error, kind = said.get("error"), said.get("error_type")
    if isinstance(error, dict):
        kind = error.get("type")
        error = error.get("message")
    return EngineFailure(
        printable(str(error or "The model server refused"), most=_LONGEST_SAID),
        error_type=printable(kind, most=100) if isinstance(kind, str) else None,
        status=status,
        retry_after=retry_after,
    )


_LONGEST_SAID = 2000
