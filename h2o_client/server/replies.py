"""Responses as SvelteKit sends them: refusals, form actions and page data, as JSON or HTML."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from h2o_client.server.failure_log import log_failure
from h2o_client.wire import pagedata
from h2o_client.wire.pagedata import Node


class Refusal(Exception):
    """An error of a route: JSON, or a page if the client prefers HTML.

    ``retry_after`` is in seconds. If ``said`` is None, the dialect's own message is used.
    """

    def __init__(
        self, status: int = 500, said: str | None = None, *, retry_after: int | None = None
    ) -> None:
        super().__init__(said)
        self.status = status
        self.said = said
        self.retry_after = retry_after


def page_data(nodes: Sequence[Node]) -> Response:
    """A response with ``nodes`` as page data."""
    headers = {"cache-control": "private, no-store", "content-type": "application/json"}
    return Response(pagedata.write(nodes), headers=headers)


def page(title: str, *lines: str) -> Response:
    """A page for people who open the server in a browser."""
    return _page(title, *lines, status=200)


def home(request: Request, model: str) -> Response:
    """The page at the server's address: what this is, and how to send it a prompt."""
    address = str(request.base_url).rstrip("/")
    return _page(
        "A chat-ui server",
        f"The model is {model}.",
        "This is the server of h2o_client, for programs and tests. It has the API of chat-ui, but "
        "no page for chatting. In a shell:",
        f'    h2o-chat --url {address} "Why is the sky blue?"\n    h2o-chat --url {address}',
        "In Python:",
        "    from h2o_client import H2oSession\n\n"
        f'    with H2oSession("{address}") as client:\n'
        '        print(client.chat("Why is the sky blue?").text)',
        status=200,
    )


def internal_error(request: Request) -> Response:
    """The response of a failed route, as JSON or HTML."""
    return _fatal(request, 500, None)


def action_redirect(request: Request, location: str) -> Response:
    """The response of a successful form action: a redirect, or JSON for scripts."""
    if wants_html(request, unsaid="application/json"):
        return Response(status_code=303, headers={"location": location})
    return JSONResponse({"type": "redirect", "status": 303, "location": location})


def action_error(request: Request) -> Response:
    """The response of a failed form action."""
    if wants_html(request, unsaid="application/json"):
        return _page("Internal Error", status=500)
    return JSONResponse({"type": "error", "error": {"message": "Internal Error"}}, 500)


def answer_refusal(request: Request, refusal: Exception) -> Response:
    """The response for a `Refusal`."""
    assert isinstance(refusal, Refusal)
    answer = _fatal(request, refusal.status, refusal.said)
    if refusal.retry_after is not None:
        answer.headers["retry-after"] = str(refusal.retry_after)
    return answer


def answer_full(request: Request, full: Exception) -> Response:
    """The response if a limit of stored data is reached."""
    return _fatal(request, 429, str(full))


def answer_overload(request: Request, overload: Exception) -> Response:
    """The response if too many messages are already waiting."""
    said = "Too many messages are being answered. Try again in a moment."
    return answer_refusal(request, Refusal(503, said, retry_after=2))


def answer_http_exception(request: Request, error: Exception) -> Response:
    """The response if there is no such route, or the body is too large."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _page("Not Found", status=404)  # without regard to the Accept header
    said = error.detail if error.status_code != 405 else f"{request.method} method not allowed"
    headers = {**(error.headers or {}), "content-type": "text/plain;charset=UTF-8"}
    if "Allow" in headers:
        headers["Allow"] = ", ".join(each for each in _METHODS if each in headers["Allow"])
    return Response(said, error.status_code, headers)


def answer_crash(request: Request, error: Exception) -> Response:
    """The response for a bug in this server."""
    log_failure(f"{request.method} {request.url.path}", error)
    return internal_error(request)


def answer_disconnected(request: Request, error: Exception) -> Response:
    """The response if the client disconnected during its request."""
    return Response(status_code=400)


def _fatal(request: Request, status: int, said: str | None) -> Response:
    if wants_html(request, unsaid="text/html"):
        return _page(said or "Internal Error", status=status)
    return JSONResponse({"message": said} if said else request.app.state.crash(), status)


def opens_page(request: Request) -> bool:
    """Whether to respond with a page: to a browser, or if JSON is not accepted."""
    accept = request.headers.get("accept", "*/*")
    return "application/json" not in accept or wants_html(request, unsaid="text/html")


def wants_html(request: Request, *, unsaid: str) -> bool:
    """Whether Accept, by default ``unsaid``, prefers HTML to JSON."""
    accept = request.headers.get("accept") or unsaid
    ranks = [_rank(accept, kind) for kind in ("application/json", "text/html")]
    return ranks[0] is None or (ranks[1] is not None and ranks[1] < ranks[0])


def _rank(accept: str, media_type: str) -> int | None:
    # Like negotiate() of SvelteKit: by quality, then exact before wildcard, then in their order.
    kind, _, subtype = media_type.partition("/")
    # Match only at the start of each part: a search would take quadratic time.
    found = [match.groups() for part in accept.split(",") if (match := _MEDIA_RANGE.match(part))]
    ordered = sorted(found, key=lambda each: (-float(each[2] or 1), each[1] == "*", each[0] == "*"))
    for rank, (its_kind, its_subtype, _) in enumerate(ordered):
        if its_kind in (kind, "*") and its_subtype in (subtype, "*"):
            return rank
    return None


# A quality that is not a number is ignored.
_MEDIA_RANGE = re.compile(r"\s*([^/\s]+)/([^;\s]+)\s*(?:;\s*q=([0-9]*\.?[0-9]+))?")


def _page(title: str, *lines: str, status: int) -> Response:
    text = html.escape(title)
    rest = "".join(map(_paragraph, lines))
    # With SvelteKit's mark, so that a client does not mistake it for a gateway's page.
    head = f'<meta charset="utf-8"><title>{text}</title><style>{_STYLE}</style>'
    body = f"<body data-sveltekit><h1>{text}</h1>\n{rest}"
    return HTMLResponse(f"<!doctype html>{head}{body}", status)


def _paragraph(text: str) -> str:
    # Keep spaces and line ends. Indented text is code.
    if text.startswith(_INDENT):
        return f"<pre>{html.escape(textwrap.dedent(text))}</pre>\n"
    return f'<p style="white-space:pre-wrap">{html.escape(text)}</p>\n'


_INDENT = "    "
_STYLE = "body{font:1rem/1.5 sans-serif;max-width:45rem;margin:2rem auto;padding:0 1rem}"


_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")

ALL_METHODS = (*_METHODS, "PUT", "OPTIONS")
"""For a route that checks its methods itself."""

NO_ACCESS = (
    "You don't have access to this conversation. "
    "If someone gave you this link, ask them to use the 'share' feature instead."
)
"""The message for another session's conversation."""
