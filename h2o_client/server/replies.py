"""How SvelteKit words things: refusals, form actions and page data, as JSON or as HTML."""

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
    """A route's error: JSON, or a page for who asks for HTML. ``retry_after`` is in seconds.

    Where nothing is ``said``, the dialect has its own words for that.
    """

    def __init__(
        self, status: int = 500, said: str | None = None, *, retry_after: int | None = None
    ) -> None:
        super().__init__(said)
        self.status = status
        self.said = said
        self.retry_after = retry_after


def page_data(nodes: Sequence[Node]) -> Response:
    """The document of ``nodes``."""
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
        "This is the server of h2o_client, for programs and tests. It speaks the API of chat-ui, "
        "and has no page to chat on. In a shell:",
        f'    h2o-chat --url {address} "Why is the sky blue?"\n    h2o-chat --url {address}',
        "In Python:",
        "    from h2o_client import H2oSession\n\n"
        f'    with H2oSession("{address}") as client:\n'
        '        print(client.chat("Why is the sky blue?").text)',
        status=200,
    )


def internal_error(request: Request) -> Response:
    """What a route says when it failed, as JSON or as HTML."""
    return _fatal(request, 500, None)


def action_redirect(request: Request, location: str) -> Response:
    """A form action's success: a redirect, in JSON for scripts."""
    if wants_html(request, unsaid="application/json"):
        return Response(status_code=303, headers={"location": location})
    return JSONResponse({"type": "redirect", "status": 303, "location": location})


def action_error(request: Request) -> Response:
    """A form action's failure."""
    if wants_html(request, unsaid="application/json"):
        return _page("Internal Error", status=500)
    return JSONResponse({"type": "error", "error": {"message": "Internal Error"}}, 500)


def answer_refusal(request: Request, refusal: Exception) -> Response:
    """The answer for a `Refusal`."""
    assert isinstance(refusal, Refusal)
    answer = _fatal(request, refusal.status, refusal.said)
    if refusal.retry_after is not None:
        answer.headers["retry-after"] = str(refusal.retry_after)
    return answer


def answer_full(request: Request, full: Exception) -> Response:
    """The answer where a limit of what is kept is reached."""
    return _fatal(request, 429, str(full))


def answer_overload(request: Request, overload: Exception) -> Response:
    """The answer where too many wait for their answers already."""
    said = "Too many messages are being answered. Try again in a moment."
    return answer_refusal(request, Refusal(503, said, retry_after=2))


def answer_http_exception(request: Request, error: Exception) -> Response:
    """The answer where no route fits, or the body is too large."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _page("Not Found", status=404)  # whatever Accept says
    said = error.detail if error.status_code != 405 else f"{request.method} method not allowed"
    headers = {**(error.headers or {}), "content-type": "text/plain;charset=UTF-8"}
    if "Allow" in headers:
        headers["Allow"] = ", ".join(each for each in _METHODS if each in headers["Allow"])
    return Response(said, error.status_code, headers)


def answer_crash(request: Request, error: Exception) -> Response:
    """The answer where this server itself is wrong."""
    log_failure(f"{request.method} {request.url.path}", error)
    return internal_error(request)


def answer_nobody(request: Request, error: Exception) -> Response:
    """The client left in the middle of its request."""
    return Response(status_code=400)


def _fatal(request: Request, status: int, said: str | None) -> Response:
    if wants_html(request, unsaid="text/html"):
        return _page(said or "Internal Error", status=status)
    return JSONResponse({"message": said} if said else request.app.state.crash(), status)


def opens_page(request: Request) -> bool:
    """Whether a page is wanted by whoever has its address: a browser, or anything but JSON."""
    accept = request.headers.get("accept", "*/*")
    return "application/json" not in accept or wants_html(request, unsaid="text/html")


def wants_html(request: Request, *, unsaid: str) -> bool:
    """Whether Accept, or ``unsaid`` where there is none, ranks HTML before JSON."""
    accept = request.headers.get("accept") or unsaid
    ranks = [_rank(accept, kind) for kind in ("application/json", "text/html")]
    return ranks[0] is None or (ranks[1] is not None and ranks[1] < ranks[0])


def _rank(accept: str, media_type: str) -> int | None:
    # Kit's negotiate(): by quality, then exact before wildcard, then as written.
    kind, _, subtype = media_type.partition("/")
    # At the start of each part alone: searching for a slash from everywhere is quadratic.
    found = [match.groups() for part in accept.split(",") if (match := _MEDIA_RANGE.match(part))]
    ordered = sorted(found, key=lambda each: (-float(each[2] or 1), each[1] == "*", each[0] == "*"))
    for rank, (its_kind, its_subtype, _) in enumerate(ordered):
        if its_kind in (kind, "*") and its_subtype in (subtype, "*"):
            return rank
    return None


# A quality that is not a number counts as none.
_MEDIA_RANGE = re.compile(r"\s*([^/\s]+)/([^;\s]+)\s*(?:;\s*q=([0-9]*\.?[0-9]+))?")


def _page(title: str, *lines: str, status: int) -> Response:
    text = html.escape(title)
    rest = "".join(map(_paragraph, lines))
    # Marked as SvelteKit's are, by which a client tells them from a gateway's.
    head = f'<meta charset="utf-8"><title>{text}</title><style>{_STYLE}</style>'
    body = f"<body data-sveltekit><h1>{text}</h1>\n{rest}"
    return HTMLResponse(f"<!doctype html>{head}{body}", status)


def _paragraph(text: str) -> str:
    # As it was written, blanks and lines kept. What is indented is code.
    if text.startswith(_INDENT):
        return f"<pre>{html.escape(textwrap.dedent(text))}</pre>\n"
    return f'<p style="white-space:pre-wrap">{html.escape(text)}</p>\n'


_INDENT = "    "
_STYLE = "body{font:1rem/1.5 sans-serif;max-width:45rem;margin:2rem auto;padding:0 1rem}"


_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")

ALL_METHODS = (*_METHODS, "PUT", "OPTIONS")
"""For a route that says itself which methods it takes."""

NO_ACCESS = (
    "You don't have access to this conversation. "
    "If someone gave you this link, ask them to use the 'share' feature instead."
)
"""What another session's conversation is answered with, where that is told apart."""
