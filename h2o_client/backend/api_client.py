"""Send API requests and parse the responses. Error statuses raise `H2oError`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
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
from h2o_client.wire import json
from h2o_client.wire.checkpoint import checked_by
from h2o_client.wire.refusal import login_wall, page_title, refusal
from h2o_client.wire.request import Request

if TYPE_CHECKING:
    from h2o_client.transport.response import Response
    from h2o_client.transport.transport import Transport

T = TypeVar("T")

_EXCERPT = 80


class ApiClient:
    """Sends requests to one server and parses the responses. It has no state of its own."""

    def __init__(self, transport: Transport, timeouts: Timeouts) -> None:
        self.transport = transport
        self.timeouts = timeouts

    def fetch(self, endpoint: Endpoint[T], call: Call | None = None) -> T:
        """Send a request and parse the response. Raises as `body`, and `ProtocolError`."""
        call = call or Call(self.timeouts)
        return self.parse(endpoint, self.body(endpoint.request, call), call)

    def parse(self, endpoint: Endpoint[T], body: bytes, call: Call) -> T:
        """Parse ``body``, within the timeouts of ``call``. Raises `H2oError`."""
        with self.decoding(call):
            return self._parse(endpoint, body)

    @contextmanager
    def decoding(self, call: Call) -> Iterator[None]:
        """End long work on a response when the call times out or is woken."""
        with self.transport.translating(call), checked_by(call.check_timeouts):
            yield

    def _parse(self, endpoint: Endpoint[T], body: bytes) -> T:
        url = self.transport.base_url + endpoint.request.path.partition("?")[0]
        document = plain(body)
        if document.get("type") == "redirect":
            raise login_wall(302, str(document.get("location", "")), url=url)
        try:
            return endpoint.read(body)
        except Refused as exc:
            if exc.status == 403:
                # Another session's conversation: no login helps.
                raise NotFoundError(exc.status, exc.message, url=url) from None
            said = msgspec.json.encode({"message": exc.message})
            raise refusal(exc.status, {}, said, url=url) from None
        except Moved as exc:
            raise login_wall(exc.status, exc.location, url=url) from None
        except ValueError as exc:
            raise ProtocolError(f"the response to {endpoint.request}", excerpt(body)) from exc

    def send(self, request: Request, call: Call | None = None, *, feature: str = "") -> None:
        """Send a request whose response has no content on success. Raises as `body`.

        With a ``feature``, raises `UnsupportedError` if the server does not know the route.
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
            raise ServerError(200, f"{request} refused: {document}")
        _check_no_page(request, body)

    def submit_form(self, form: Request, call: Call | None = None) -> None:
        """Send a form. On success the server redirects to its page, or to the base URL."""
        response = self.transport.request(form, call or Call(self.timeouts))
        location = response.headers.get("location", "")
        if not 300 <= response.status < 400:
            self.raise_for_status(response)
            document = plain(response.whole())
            if document.get("type") in ("error", "failure"):
                raise ServerError(response.status, f"{form} refused: {document}")
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
        """Send a request and return the body. Raises `StatusError`, `TransportError`."""
        response = self.transport.request(request, call or Call(self.timeouts))
        self.raise_for_status(response)
        return response.whole()

    def first_line(self, request: Request, read: Callable[[bytes], T | None], call: Call) -> T:
        """Read a response that never ends, up to the first line in which ``read`` finds a value."""
        with self.open(request, call, passes_model_on=False) as response:
            for line in response.iter_lines():
                try:
                    found = read(line)
                except json.InvalidJson as exc:
                    raise ProtocolError(f"the response to {request}", excerpt(line)) from exc
                if found is not None:
                    return found
        raise ProtocolError(f"the response to {request}: it ended early")

    def read_until(self, request: Request, read: Callable[[bytes], T | None], call: Call) -> T:
        """Read a response that never ends, piece by piece, until ``read`` returns a value."""
        with self.open(request, call, passes_model_on=False) as response:
            while data := response.read():
                try:
                    found = read(data)
                except ValueError as exc:
                    raise ProtocolError(f"the response to {request}", excerpt(data)) from exc
                if found is not None:
                    return found
                call.clock.allow("idle", call.timeouts.idle)
        raise ProtocolError(f"the response to {request}: it ended early")

    def open(self, request: Request, call: Call, *, passes_model_on: bool) -> Response:
        """Send a request and return the response, unread. Raises as `body`."""
        response = self.transport.open(request, call)
        try:
            self.raise_for_status(response, passes_model_on=passes_model_on)
        except BaseException:
            response.close()
            raise
        return response

    def raise_for_status(self, response: Response, *, passes_model_on: bool = False) -> None:
        """Raise `StatusError`, or another `H2oError`, unless the status is a success."""
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
        """The error for a redirect: to a login, to another address, or to the same address."""
        status, location = response.status, response.headers.get("location", "")
        place = _joined(response.url, location).partition("?")[0]
        if location and not place.endswith(response.path):
            return login_wall(status, location, url=response.url)
        found = place.removesuffix(response.path)
        if location and found != self.transport.base_url:
            return ConfigurationError(
                f"The server at {self.transport.base_url} redirects to another address",
                hint=f"Use {found}.",
                argument="base_url",
                suggestion=found,
            )
        return StatusError(
            status,
            "a redirect to the same address" if location else "a redirect without a Location",
            url=response.url,
            origin="gateway",
            hint="Check what is between you and the server, such as a cache or a proxy.",
        )


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # an invalid address, such as "http://["


def plain(body: bytes) -> dict[str, object]:
    """Parse a JSON object. Return an empty one for anything else."""
    if body[:1] != b"{":
        return {}
    try:
        document = json.read(body)
    except json.InvalidJson:
        return {}
    return document if isinstance(document, dict) else {}


def excerpt(body: bytes) -> str:
    """The part of a response to show in an error: the title of a page, or the first bytes."""
    if body.lstrip()[:1] == b"<" and (title := page_title(body.decode("utf-8", "replace"))):
        return f"<title>{title[:_EXCERPT]}</title>"
    return body[:_EXCERPT].decode("utf-8", "replace")


def _check_no_page(request: Request, body: bytes) -> None:
    # A page with status 200 is not a success. Usually it is the login page of a proxy.
    if body.lstrip()[:1] == b"<":
        raise ProtocolError(f"the response to {request}", excerpt(body))


def _is_no_route(exc: StatusError) -> bool:
    if exc.origin == "gateway":
        return False
    # For an unknown route, SvelteKit's own messages; chat-ui's messages name the missing object.
    if exc.status == 405:
        return type(exc) is StatusError
    is_silent = exc.said == "" or exc.body.lstrip()[:1] == "<"
    return exc.status == 404 and (is_silent or exc.said.startswith("Not "))
