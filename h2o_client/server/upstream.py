"""`UpstreamEngine`: any OpenAI-compatible server as the model, by the standard library alone."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from h2o_client.errors import ConfigurationError
from h2o_client.server.engine import AnswerCut, EngineFailure, Turn
from h2o_client.server.sampling import Sampling, read_sampling
from h2o_client.wire import sse
from h2o_client.wire.events import Final, Token
from h2o_client.wire.lines import LineSplitter

logger: logging.Logger = logging.getLogger("h2o_client.server")

KEYS = ("H2O_UPSTREAM_KEY", "OPENAI_API_KEY")
"""The environment variables the key is looked for in; the first that is set counts."""

_CONNECT = 10.0  # seconds; a stop is not seen meanwhile
_LONGEST_REFUSAL = 65536


class UpstreamEngine:
    """Answers with ``POST {url}/chat/completions``, streamed.

    ``url`` is the API's base ("http://host:8000/v1"; without a path, /v1 is added). ``model`` is
    the upstream's name for it, by default the first it lists. The key comes from the environment
    variable H2O_UPSTREAM_KEY or OPENAI_API_KEY, if there is one. Of the sampling parameters the
    API has max_new_tokens, temperature (0 where do_sample is false), top_p, stop and seed; it has
    no word for the others. Its errors are passed on with status, error type and Retry-After.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        timeout: float = 300.0,
    ) -> None:
        """``timeout`` is in seconds, between two signs of life. Raises `ConfigurationError`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigurationError(f"{url!r} is no address of an OpenAI-compatible server.")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        self._path = path or "/v1"
        found = (os.environ.get(name) for name in KEYS)
        self._key = key if key is not None else next(filter(None, found), "")
        self._timeout = timeout
        self.model: str = model or self._first_model()

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        """Tokens as the upstream sends them."""
        document = {
            **openai_parameters(read_sampling(parameters)),
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
        }
        body = json.dumps(document).encode()
        with self._answer("POST", "/chat/completions", body, stopped) as response:
            if response.status != 200:
                raise _refusal(response)
            if "json" in response.headers.get("content-type", ""):
                yield from _read_whole(response)
            else:
                yield from _read_stream(response)

    def _first_model(self) -> str:
        try:
            with self._answer("GET", "/models", None, lambda: False) as response:
                return str(json.loads(response.read())["data"][0]["id"])
        except (AnswerCut, ValueError, LookupError, TypeError) as exc:
            raise ConfigurationError(
                f"{self._host} does not say which models it has: name one with --model."
            ) from exc

    @contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None, stopped: Callable[[], bool]
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, */*"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        done = threading.Event()
        watcher = threading.Thread(
            target=_watch, args=(connection, stopped, done), name="h2o-upstream", daemon=True
        )
        try:
            connection.connect()
            connection.sock.settimeout(self._timeout)
            watcher.start()
            connection.request(method, self._path + path, body, headers)
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            if not stopped():
                logger.warning("The upstream %s failed: %r", self._host, exc)
            raise AnswerCut(str(exc)) from exc
        finally:
            done.set()
            if watcher.is_alive():
                watcher.join()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=_CONNECT, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=_CONNECT)


def openai_parameters(sampling: Sampling) -> dict[str, object]:
    """What OpenAI's API calls the parameters; those it has no word for are left out."""
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
    # A reader that waits for the next token is only woken by shutting its socket down.
    sock: socket.socket = connection.sock
    while not done.wait(0.05):
        if stopped():
            with suppress(OSError):  # it has gone already
                sock.shutdown(socket.SHUT_RDWR)
            return


def _read_stream(response: http.client.HTTPResponse) -> Iterator[Token | Final]:
    lines = LineSplitter(carriage_returns=True)
    while data := response.read1(65536):
        for line in lines.feed(data):
            name, value = sse.field(line)
            if name == b"data" and value != b"[DONE]":
                yield from _read_chunk(value)


def _read_whole(response: http.client.HTTPResponse) -> Iterator[Token | Final]:
    yield from _read_chunk(response.read(), part="message")


def _read_chunk(data: bytes, *, part: str = "delta") -> Iterator[Token | Final]:
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise _failure(chunk, status=500)
        for choice in chunk.get("choices") or ():
            said = choice.get(part) or {}
            if text := said.get("content"):
                yield Token(str(text))
            if reason := choice.get("finish_reason"):
                yield Final(finish_reason="length" if reason == "length" else "stop")
    except (ValueError, TypeError, AttributeError) as exc:
        raise EngineFailure(
            "The model server sent something that is no completion", error_type="generation"
        ) from exc


def _refusal(response: http.client.HTTPResponse) -> EngineFailure:
    body = response.read(_LONGEST_REFUSAL)
    try:
        document = json.loads(body)
    except ValueError:
        document = {"error": body.decode("utf-8", "replace").strip() or response.reason}
    wait = response.headers.get("retry-after", "")
    # What is no error of HTTP's (a redirect, a 204) is no answer either: a bad gateway.
    status = response.status if response.status >= 400 else 502
    return _failure(document, status, float(wait) if wait.isdecimal() else None)


def _failure(document: Any, status: int, retry_after: float | None = None) -> EngineFailure:
    said: dict[str, Any] = document if isinstance(document, dict) else {}
    error, kind = said.get("error"), said.get("error_type")
    if isinstance(error, dict):
        kind = error.get("type")
        error = error.get("message")
    return EngineFailure(
        str(error or "The model server refused"),
        error_type=kind if isinstance(kind, str) else None,
        status=status,
        retry_after=retry_after,
    )
