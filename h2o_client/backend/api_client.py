"""Send API requests and parse the responses. Error statuses raise `H2oError`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urljoin

import msgspec

from h2o_client.dialects.endpoint import Endpoint, Moved, Refused
from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    NotFoundError,
    ProtocolError,
    ServerError,
    StatusError,
    UnsupportedError,
)
from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call
from h2o_client.transport.response import Response
from h2o_client.transport.transport import Transport
from h2o_client.wire import json
from h2o_client.wire.checkpoint import checked_by
from h2o_client.wire.refusal import login_wall, page_title, refusal
from h2o_client.wire.request import Request

T = TypeVar("T")

_EXCERPT = 80


class ApiClient:
    """The way to a server, for those who want answers and not statuses. Threads may share it."""

    def __init__(self, transport: Transport, timeouts: Timeouts) -> None:
        self.transport = transport
        self.timeouts = timeouts

    def fetch(self, ask: Endpoint[T], call: Call | None = None) -> T:
        """What ``ask`` reads in the answer. Raises as `body`, and `ProtocolError`."""
        call = call or Call(self.timeouts)
        return self.understood(ask, self.body(ask.request, call), call)

    def understood(self, ask: Endpoint[T], body: bytes, call: Call) -> T:
        """What ``ask`` reads in ``body``. The call's times go on meanwhile."""
        with self.decoding(call):
            return self._understood(ask, body)

    @contextmanager
    def decoding(self, call: Call) -> Iterator[None]:
        """Long work on an answer ends when the call's time is over, or the call is woken."""
        with self.transport.translating(call), checked_by(call.go_on):
            yield

    def _understood(self, ask: Endpoint[T], body: bytes) -> T:
        url = self.transport.base_url + ask.request.path.partition("?")[0]
        document = plain(body)
        if document.get("type") == "redirect":
            raise login_wall(302, str(document.get("location", "")), url=url)
        try:
            return ask.read(body)
        except Refused as exc:
            if exc.status == 403:
                # Another session's conversation: no login helps.
                raise NotFoundError(exc.status, exc.message, url=url) from None
            said = msgspec.json.encode({"message": exc.message})
            raise refusal(exc.status, {}, said, url=url) from None
        except Moved as exc:
            raise login_wall(exc.status, exc.location, url=url) from None
        except ValueError as exc:
            raise ProtocolError(f"the answer to {ask.request}", excerpt(body)) from exc

    def do(self, request: Request, call: Call | None = None, *, feature: str = "") -> None:
        """A request whose success says nothing. Raises as `body`.

        With a ``feature``, a server that does not know the route raises `UnsupportedError`.
        """
        try:
            body = self.body(request, call)
        except StatusError as exc:
            if feature and _is_no_route(exc):
                raise UnsupportedError(feature, "this version of chat-ui") from exc
            raise
        document = plain(body)
        if document.get("type") == "redirect":
            raise login_wall(302, str(document.get("location", "")), url=self.transport.base_url)
        if document.get("type") in ("error", "failure"):
            raise ServerError(200, f"{request} was refused: {document}")
        _check_no_page(request, body)

    def submit(self, form: Request, call: Call | None = None) -> None:
        """A form, whose success is a redirect to where it came from, or to the base URL."""
        response = self.transport.ask(form, call or Call(self.timeouts))
        location = response.headers.get("location", "")
        if not 300 <= response.status < 400:
            self.judge(response)
            document = plain(response.whole())
            if document.get("type") in ("error", "failure"):
                raise ServerError(response.status, f"{form} was refused: {document}")
            if document.get("type") != "redirect":
                _check_no_page(form, response.whole())
                return
            location = str(document.get("location", ""))
        place = _joined(response.referer, location).rstrip("/")
        home = (response.referer, self.transport.base_url, self.transport.referer)
        if place in [each.rstrip("/") for each in home]:
            return
        if 300 <= response.status < 400:
            raise self._redirected(response)
        raise login_wall(response.status, location, url=response.url)

    def body(self, request: Request, call: Call | None = None) -> bytes:
        """The body of a success. Raises `StatusError`, `TransportError`, `ProtocolError`."""
        response = self.transport.ask(request, call or Call(self.timeouts))
        self.judge(response)
        return response.whole()

    def first(self, request: Request, read: Callable[[bytes], T | None], call: Call) -> T:
        """What ``read`` first finds in a line of an answer that would go on for ever."""
        with self.open(request, call, passes_model_on=False) as response:
            for line in response.iter_lines():
                try:
                    found = read(line)
                except json.InvalidJson as exc:
                    raise ProtocolError(f"the answer to {request}", excerpt(line)) from exc
                if found is not None:
                    return found
        raise ProtocolError(f"the answer to {request}, which ended early")

    def until(self, request: Request, read: Callable[[bytes], T | None], call: Call) -> T:
        """What ``read`` finds, given the body piece by piece, in an answer that never ends."""
        with self.open(request, call, passes_model_on=False) as response:
            while data := response.read():
                try:
                    found = read(data)
                except ValueError as exc:
                    raise ProtocolError(f"the answer to {request}", excerpt(data)) from exc
                if found is not None:
                    return found
                call.clock.allow("idle", call.timeouts.idle)
        raise ProtocolError(f"the answer to {request}, which ended early")

    def open(self, request: Request, call: Call, *, passes_model_on: bool) -> Response:
        """The answer to a message, unread. Raises as `body`."""
        response = self.transport.open(request, call)
        try:
            self.judge(response, passes_model_on=passes_model_on)
        except BaseException:
            response.close()
            raise
        return response

    def judge(self, response: Response, *, passes_model_on: bool = False) -> None:
        """Raises for an answer that is no success."""
        if 300 <= response.status < 400:
            raise self._redirected(response)
        if response.status >= 400:
            raise refusal(
                response.status,
                response.headers,
                response.whole(),
                url=response.url,
                passes_model_on=passes_model_on,
            )

    def _redirected(self, response: Response) -> H2oError:
        """What a redirect means: the server is elsewhere, it wants a login, or it is confused."""
        status, location = response.status, response.headers.get("location", "")
        place = _joined(response.url, location).partition("?")[0]
        if location and not place.endswith(response.path):
            return login_wall(status, location, url=response.url)
        found = place.removesuffix(response.path)
        if location and found != self.transport.base_url:
            return ConfigurationError(
                f"The server at {self.transport.base_url} says that it is at another address: "
                f"use {found}."
            )
        return StatusError(
            status,
            "a redirect to the same address" if location else "a redirect without a Location",
            url=response.url,
            origin="gateway",
            hint="Look at what stands between you and the server, as a cache or a proxy.",
        )


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # no address at all, as "http://["


def plain(body: bytes) -> dict[str, object]:
    """A JSON object, or an empty one for anything else."""
    if body[:1] != b"{":
        return {}
    try:
        document = json.read(body)
    except json.InvalidJson:
        return {}
    return document if isinstance(document, dict) else {}


def excerpt(body: bytes) -> str:
    """What an answer is, for an error: the title of a page, or its first bytes."""
    if body.lstrip()[:1] == b"<" and (title := page_title(body.decode("utf-8", "replace"))):
        return f"<title>{title[:_EXCERPT]}</title>"
    return body[:_EXCERPT].decode("utf-8", "replace")


def _check_no_page(request: Request, body: bytes) -> None:
    # A page with status 200 is no success: a proxy's, most often, that wants a login.
    if body.lstrip()[:1] == b"<":
        raise ProtocolError(f"the answer to {request}", excerpt(body))


def _is_no_route(exc: StatusError) -> bool:
    if exc.origin == "gateway":
        return False
    # SvelteKit's own words for a route it does not have; chat-ui's name what was not found.
    if exc.status == 405:
        return type(exc) is StatusError
    is_silent = exc.said == "" or exc.body.lstrip()[:1] == "<"
    return exc.status == 404 and (is_silent or exc.said.startswith("Not "))
