from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.errors import (
    AuthenticationError,
    ModelUnavailableError,
    NotFoundError,
    OriginError,
    RateLimitError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
)
from h2o_client.wire.refusal import (
    is_referer_refusal,
    login_wall,
    refusal,
    retry_after,
)
from recordings import recording

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=timezone.utc)
JSON = {"content-type": "application/json"}
TEXT = {"content-type": "text/plain"}
HTML = {"content-type": "text/html; charset=utf-8"}
COOKIE = {"set-cookie": "hf-chat=x"}
NOT_FOUND = b'{"message":"Conversation not found"}'
LOGGED_IN = b'{"error":"You have to be logged in."}'
MODAL = "You need to accept the welcome modal first"

# (status, headers, body, class, message)
SERVER: dict[str, tuple[int, dict[str, str], bytes, type[StatusError], str]] = {
    "unknown conversation": (404, JSON, NOT_FOUND, NotFoundError, "Conversation not found"),
    "malformed id": (500, JSON, b'{"message":"Internal Error"}', ServerError, "Internal Error"),
    "malformed id, v2": (
        400, JSON, b'{"message":"Invalid conversation ID"}', StatusError, "Invalid conversation ID",
    ),
    "server error with an id": (
        500, JSON, b'{"message":"An error occurred","errorId":"5"}', ServerError,
        "An error occurred",
    ),
    "model withdrawn": (
        410, JSON, b'{"message":"Model not available anymore"}', ModelUnavailableError,
        "Model not available anymore",
    ),
    "terms, as text": (405, TEXT, MODAL.encode(), TermsNotAcceptedError, MODAL),
    "terms, as JSON": (
        405, JSON, b'{"error":"%b"}' % MODAL.encode(), TermsNotAcceptedError, MODAL,
    ),
    "no such method": (
        405, {"allow": "GET, POST", **TEXT}, b"PUT method not allowed", StatusError,
        "PUT method not allowed",
    ),
    "login": (401, JSON, LOGGED_IN, AuthenticationError, "You have to be logged in."),
    "no access": (403, JSON, b'{"message":"No access"}', AuthenticationError, "No access"),
    "referer": (
        403, TEXT, b"Invalid referer for POST request", OriginError,
        "Invalid referer for POST request",
    ),
    "no referer": (
        403, JSON, b'{"error":"Non-JSON form requests need to have a referer"}', OriginError,
        "Non-JSON form requests need to have a referer",
    ),
    "no origin": (
        403, TEXT, b"Non-JSON form requests need to have an origin", OriginError,
        "Non-JSON form requests need to have an origin",
    ),
    "SvelteKit's own check": (
        403, JSON, b'{"message":"Cross-site POST form submissions are forbidden"}', OriginError,
        "Cross-site POST form submissions are forbidden",
    ),
    "limit": (429, JSON, b'{"message":"Try again later."}', RateLimitError, "Try again later."),
    "message too long": (400, JSON, b'{"message":"Too long."}', StatusError, "Too long."),
    "body too large": (
        413, TEXT, b"Content-length of 600000 exceeds limit of 524288 bytes.", StatusError,
        "Content-length of 600000 exceeds limit of 524288 bytes.",
    ),
    "an action's error": (
        500, JSON, b'{"type":"error","error":{"message":"Internal Error"}}', ServerError,
        "Internal Error",
    ),
    "a page": (500, HTML, b"<title>x</title><i data-sveltekit>", ServerError,
               'an HTML page, "x"'),
    "a page without a title": (500, HTML, b"<!doctype html><i data-sveltekit>", ServerError,
                               "an HTML page"),
    "a method that is not there": (405, TEXT, b"", StatusError, ""),
    "a request that was too slow": (408, TEXT, b"", StatusError, ""),
    "a route that is not there": (404, JSON, b'{"message":"Not Found"}', NotFoundError,
                                  "Not Found"),
    "a page of the chat-ui's": (404, HTML, b"<title>chat-ui</title><link href=./_app/immutable/a>",
                                NotFoundError, 'an HTML page, "chat-ui"'),
    "words on several lines": (500, TEXT, b"upstream\r\n  request\ttimeout", ServerError,
                               "upstream request timeout"),
    "nothing": (503, {}, b"", ServerError, ""),
    "an object without words": (500, JSON, b'{"a": {"b": 1}}', ServerError, '{"a": {"b": 1}}'),
    "an error without words": (500, JSON, b'{"error": {"a":1}}', ServerError, '{"error": {"a":1}}'),
    "words that are a number": (500, JSON, b'{"message": 5}', ServerError, "5"),
    "a list": (500, JSON, b'["x"]', ServerError, '["x"]'),
    "broken JSON": (500, JSON, b'{"message":', ServerError, '{"message":'),
    "no UTF-8": (500, TEXT, b"\xff!", ServerError, "\ufffd!"),
    "a nesting bomb": (500, JSON, b"[" * 100_000, ServerError, "[" * 200),
    "teapot": (418, TEXT, b"no", StatusError, "no"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "headers", "body", "kind", "said"), SERVER.values(), ids=SERVER)
def test_a_response_becomes_its_error(
    status: int, headers: dict[str, str], body: bytes, kind: type[StatusError], said: str
) -> None:
    error = refusal(status, headers, body, url="http://a/b")
    assert type(error) is kind
    assert (error.status, error.said, error.url) == (status, said, "http://a/b")
    assert (error.origin, error.retry_after, error.request_id) == ("server", None, None)
    assert error.error_type is None
    assert str(status) in str(error)
    assert (said or "no reason given").rstrip(".") in str(error)
    assert error.hint
    assert str(error).endswith(error.hint)


NGINX = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx/1.25.3</center>\r\n</body>\r\n</html>\r\n"
)
CLOUDFLARE = (
    '<!DOCTYPE html><html lang="en-US"><head><title>{0}</title><meta http-equiv="Content-Type" '
    'content="text/html; charset=UTF-8"><meta name="robots" content="noindex,nofollow"></head>'
)
# (status, page, class, title, a word that its hint does not contain)
GATEWAYS: dict[str, tuple[int, str, type[StatusError], str, str]] = {
    "a browser check": (
        403, CLOUDFLARE.format("Just a moment..."), StatusError, "Just a moment...",
        "session cookie",
    ),
    "a firewall": (
        403, "<HTML><TITLE>Web page blocked by FortiGuard &amp; Co</TITLE></HTML>", StatusError,
        "Web page blocked by FortiGuard & Co", "session cookie",
    ),
    "nginx's own login": (
        401, NGINX.format("401 Authorization Required"), AuthenticationError,
        "401 Authorization Required", "session cookie",
    ),
    "nginx without the chat-ui": (
        404, NGINX.format("404 Not Found"), NotFoundError, "404 Not Found", "deleted",
    ),
    "nginx and a POST to files": (
        405, NGINX.format("405 Not Allowed"), StatusError, "405 Not Allowed", "terms",
    ),
    "a withdrawn page": (410, NGINX.format("410 Gone"), StatusError, "410 Gone", "models"),
    "nginx and a long body": (
        413, NGINX.format("413 Request Entity Too Large"), StatusError,
        "413 Request Entity Too Large", "the same would be refused",
    ),
    "a limit of Cloudflare's": (
        429, CLOUDFLARE.format("Access denied | Error 1015"), RateLimitError,
        "Access denied | Error 1015", "models",
    ),
    "HAProxy, without a title": (
        503, "<html><body><h1>503 Service Unavailable</h1>\nNo server is available\n", ServerError,
        "503 Service Unavailable", "terms",
    ),
    "a time that ran out at Cloudflare": (
        524, CLOUDFLARE.format("chat.example | 524: A timeout occurred"), ServerError,
        "chat.example | 524: A timeout occurred", "terms",
    ),
    "a hotel's network": (
        511, "<html><head>\n<title>\n  Sign in\n to the network </title>", ServerError,
        "Sign in to the network", "terms",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "page", "kind", "title", "unsaid"), GATEWAYS.values(), ids=GATEWAYS
)
def test_a_page_of_a_gateway_is_not_the_refusal_of_the_chat_ui(
    status: int, page: str, kind: type[StatusError], title: str, unsaid: str
) -> None:
    error = refusal(status, HTML, page.encode())
    assert type(error) is kind
    assert error.origin == "gateway"
    assert str(error).startswith(
        f'A gateway in front of the chat-ui answered {status}: an HTML page, "{title}"'
    )
    assert unsaid not in str(error)
    assert error.hint
    assert str(error).endswith(error.hint)


def test_an_empty_page_is_not_a_page() -> None:
    error = refusal(401, HTML, b"", url="http://a/b")
    assert (type(error), error.said, error.origin) == (AuthenticationError, "", "gateway")
    assert "HTML" not in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (502, {}, b""),
        (504, TEXT, b"upstream request timeout"),
        (511, TEXT, b"log in to the network"),
        (520, TEXT, b"error code: 520"),
        (524, TEXT, b"error code: 524"),
        (401, {"www-authenticate": "Key", **JSON}, b'{"message":"Unauthorized"}'),
    ],
)
def test_a_response_that_no_chat_ui_sends_is_a_gateways(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    error = refusal(status, headers, body)
    assert error.origin == "gateway"
    assert "session cookie" not in str(error)


@pytest.mark.parametrize(
    ("body", "is_route"),
    [
        (b"404 page not found", False),
        (b"default backend - 404", False),
        (b'{"message":"no Route matched with those values"}', False),
        (b'{"message":"Not Found"}', False),
        (b"", False),
        (NOT_FOUND, True),
        (b'{"message":"Message not found"}', True),
    ],
)
def test_a_missing_route_is_not_a_missing_conversation(body: bytes, is_route: bool) -> None:
    error = refusal(404, {}, body)
    assert type(error) is NotFoundError
    assert ("session cookie" in str(error)) is is_route


def test_a_page_with_many_title_tags_is_searched_in_linear_time() -> None:
    assert refusal(500, HTML, b"<title" * 1_000_000).said == "an HTML page"


def test_the_contents_of_an_error_are_short() -> None:
    error = refusal(500, TEXT, b"x" * 1000)
    assert (len(error.said), len(error.body)) == (200, 500)
    error = refusal(500, JSON, b'{"message":"%b"}' % (b"x" * 1000))
    assert (len(error.said), len(error.body)) == (200, 500)


def test_an_error_contains_the_facts_of_the_headers() -> None:
    headers = {"x-request-id": "r1", "retry-after": "7", **JSON}
    error = refusal(429, headers, b'{"error":"x","error_type":"overloaded"}')
    assert (error.request_id, error.retry_after, error.error_type) == ("r1", 7.0, "overloaded")
    assert refusal(500, JSON, b'{"error":"x","error_type":5}').error_type is None
    later = {"retry-after": format_datetime(NOW + timedelta(seconds=30), usegmt=True)}
    assert refusal(503, later, b"", now=NOW).retry_after == 30


# (status, message, class): a response with Set-Cookie to a message of v0.3 to v0.6.
MODEL: dict[str, tuple[int, bytes, type[StatusError]]] = {
    "400": (400, b'{"error":"bad request"}', StatusError),
    "401": (401, b'{"error":"Authorization header is invalid"}', StatusError),
    "403": (403, b'{"error":"x"}', StatusError),
    "404": (404, b'{"error":"Model does not exist"}', StatusError),
    "405": (405, b'{"error":"x"}', StatusError),
    "410": (410, b'{"error":"x"}', StatusError),
    "422": (422, b'{"error":"must have less than 1024 tokens","error_type":"x"}', StatusError),
    "429": (429, b'{"error":"Model is overloaded"}', RateLimitError),
    "500": (500, b'{"error":"Incomplete generation"}', ServerError),
    "503": (503, b'{"error":"is currently loading","estimated_time":20.0}', ServerError),
    "504 as text": (504, b"upstream request timeout", ServerError),
}


@pytest.mark.parametrize(("status", "body", "kind"), MODEL.values(), ids=MODEL)
def test_a_refusal_of_the_model_server_is_recognized(
    status: int, body: bytes, kind: type[StatusError]
) -> None:
    error = refusal(status, COOKIE, body, passes_model_on=True)
    assert type(error) is kind
    assert error.origin == "model"
    assert str(error).startswith(f"The model server behind the chat-ui answered {status}: ")
    assert "cookie" not in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "body", "passes_model_on"),
    [
        (401, {}, LOGGED_IN, True),  # the hook sets no cookie
        (404, COOKIE, NOT_FOUND, True),  # chat-ui's routes say "message"
        (500, COOKIE, b'{"message":"Internal Error"}', True),
        (413, COOKIE, b"Content-length of 600000 exceeds limit", True),
        (401, COOKIE, LOGGED_IN, False),  # a route that passes nothing on
    ],
)
def test_a_refusal_of_the_server_is_not_the_models(
    status: int, headers: dict[str, str], body: bytes, passes_model_on: bool
) -> None:
    error = refusal(status, headers, body, passes_model_on=passes_model_on)
    assert error.origin == "server"
    assert str(error).startswith("The server answered")


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "Your session works. The operator of the server has to check its model."),
        (422, "Change it, or ask"),
        (429, "Wait before you send"),
        (503, "Try again later"),
    ],
)
def test_a_refusal_of_the_model_server_has_a_hint(status: int, hint: str) -> None:
    # All of them, including one for a long input, used to tell the user to ask the operator.
    assert hint in str(refusal(status, COOKIE, b'{"error":"x"}', passes_model_on=True))


# Recordings of v0.4: (status, class, origin, message)
@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("path", ["conversation/nope", "api/v2/conversations/x1?a=b"])
def test_an_impossible_id_is_not_found(status: int, path: str) -> None:
    body = b'{"message":"Internal Error"}'
    found = refusal(status, {}, body, url=f"http://h/{path}", passes_model_on=True)
    assert type(found) is NotFoundError
    assert "24 characters" in str(found.hint)
    possible = refusal(500, {}, body, url=f"http://h/conversation/{'0a' * 12}/share")
    assert type(possible) is ServerError


RECORDED: dict[str, tuple[int, type[StatusError], str, str]] = {
    "upstream-http-400": (400, StatusError, "model", "bad request"),
    "upstream-http-401": (401, StatusError, "model", "Authorization header is invalid"),
    "upstream-http-404": (404, StatusError, "model", "Model h2oai/none does not exist"),
    "upstream-http-422": (
        422, StatusError, "model",
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 2048",
    ),
    "upstream-http-424": (
        424, StatusError, "model", "Request failed during generation: Server error: CANCELLED",
    ),
    "upstream-http-429": (429, RateLimitError, "model", "Model is overloaded"),
    "upstream-http-500": (500, ServerError, "model", "Incomplete generation"),
    "upstream-http-503": (503, ServerError, "model", "Model h2oai/h2ogpt is currently loading"),
    "upstream-http-504-text": (504, ServerError, "model", "upstream request timeout"),
    "unknown-id-accept-any": (404, NotFoundError, "server", "Conversation not found"),
    "malformed-id-accept-any": (500, ServerError, "server", "Internal Error"),
    "model-gone-410": (410, ModelUnavailableError, "server", "Model not available anymore"),
    "rate-limited-accept-any": (
        429, RateLimitError, "server", "You are sending too many messages. Try again later.",
    ),
    "modal-delete": (405, TermsNotAcceptedError, "server", MODAL),
    "modal-delete-accept-json": (405, TermsNotAcceptedError, "server", MODAL),
    "modal-message": (405, TermsNotAcceptedError, "server", MODAL),
    "settings-referer-http": (403, OriginError, "server", "Invalid referer for POST request"),
    "settings-no-referer": (
        403, OriginError, "server", "Non-JSON form requests need to have a referer",
    ),
    "settings-no-referer-accept-json": (
        403, OriginError, "server", "Non-JSON form requests need to have a referer",
    ),
    "settings-json-body": (500, ServerError, "server", "Internal Error"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), RECORDED.items(), ids=RECORDED)
def test_real_refusals_of_v0_4_are_distinguished(
    name: str, expected: tuple[int, type[StatusError], str, str]
) -> None:
    status, _, origin, _ = expected
    answer = recording(f"v0.4-{name}")
    to_message = not name.startswith("settings")
    error = refusal(answer.status, answer.headers, answer.payload, passes_model_on=to_message)
    assert (error.status, type(error), error.origin, error.said) == expected
    assert error.retry_after == (7 if status in (429, 503) and origin == "model" else None)


def test_a_real_response_to_a_wrong_method_is_not_a_refusal_for_the_terms() -> None:
    answer = recording("v0.4-head-conversation")
    assert type(refusal(answer.status, answer.headers, b"HEAD method not allowed")) is StatusError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        ("Sun, 22 Nov 2026 12:01:00 GMT", 60),
        ("Sun, 22 Nov 2026 13:01:00 +0100", 60),
        ("Sun, 22 Nov 2026 12:01:00", 60),
        ("Sun, 22 Nov 2026 12:01:00 -0000", 60),
        ("Sun, 22 Nov 2026 11:59:00 GMT", 0),
        ("", None),
        (" ", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("7 seconds", None),
        ("\u0663", None),
        ("\u00b2", None),
        # These raised OverflowError.
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_nothing(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_a_date_to_retry_after_is_compared_with_the_clock() -> None:
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
    seconds = retry_after(soon)
    assert seconds is not None
    assert 3500 < seconds <= 3600


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ (Jan|Feb) \d+ \d+:\d+:\d+ [+-]?\w+"))
def test_any_retry_after_is_a_time_or_none(value: str) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or seconds >= 0


@given(
    st.integers(400, 599),
    st.binary()
    | st.sampled_from([b'{"message":', b'{"error":{"message":null}}', b'{"message":[]}', b"null"]),
    st.booleans(),
)
def test_any_refusal_has_its_status_and_a_sentence(status: int, body: bytes, passes: bool) -> None:
    error = refusal(status, COOKIE, body, passes_model_on=passes)
    assert error.status == status
    assert len(str(error)) > 20


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (403, b"Invalid referer for POST request", True),
        (403, b"Cross-site POST form submissions are forbidden", True),
        (403, b"Non-JSON form requests need to have a referer", True),
        (403, b"Forbidden", False),
        (404, b"Invalid referer for POST request", False),
    ],
)
def test_a_refusal_for_the_referer_is_recognized(status: int, body: bytes, refused: bool) -> None:
    assert is_referer_refusal(status, body) == refused


@pytest.mark.parametrize(
    ("location", "place"),
    [
        (
            "https://id.example.org/authorize?client_id=a&state=s3cret",
            "https://id.example.org/authorize",
        ),
        ("/login", "/login"),
        ("/login?", "/login"),
        ("/" + "x" * 300, "/" + "x" * 199),
        ("", "another page"),
        ("?state=s3cret", "another page"),
    ],
)
def test_a_login_page_is_named_without_its_secrets(location: str, place: str) -> None:
    error = login_wall(302, location, url="http://a/settings")
    assert type(error) is AuthenticationError
    assert (error.status, error.url) == (302, "http://a/settings")
    assert error.said == f"a redirect to {place}, probably a login"
    assert "s3cret" not in f"{error} {error!r} {error.__dict__}"
    assert "H2O_CLIENT_COOKIE" in str(error)
