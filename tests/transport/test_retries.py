"""Which requests the transport sends again, on real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from h2o_client.errors import TransportError, TransportTimeout
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.transport import Transport
from h2o_client.wire.request import get, post_form, post_json
from local_service import PATIENCE
from scripted import Exchange, ScriptedServer, hang_up, refusing_port
from transport_calls import call, cut_in_a_body, ok, woken_after


def refuses_referer(exchange: Exchange) -> None:
    if (exchange.request.headers["Referer"] or "").startswith("https:"):
        ok(exchange)
    else:
        exchange.answer(403, b"Invalid referer for POST request")


def test_after_a_refused_referer_the_other_scheme_is_used_and_remembered(
    to: Callable[..., Transport],
) -> None:
    with ScriptedServer(refuses_referer) as server:
        transport = to(server.url)
        form = post_form("/settings", [("a", "b")])
        assert transport.request(form, call()).status == 200
        assert transport.request(form, call()).status == 200
        sent = [(each.headers["Referer"], each.headers["Origin"]) for each in server.requests]
    address = server.url.removeprefix("http://")
    https = (f"https://{address}/", f"https://{address}")
    assert sent == [(f"http://{address}/", f"http://{address}"), https, https]


def test_threads_whose_referers_are_refused_together_both_try_the_other_scheme(
    to: Callable[..., Transport],
) -> None:
    both = threading.Barrier(2)

    def refuses(exchange: Exchange) -> None:
        if exchange.request.headers["Referer"].startswith("http:"):
            both.wait(PATIENCE)
        refuses_referer(exchange)

    with ScriptedServer(refuses) as server:
        transport = to(server.url)
        statuses: list[int] = []

        def submit() -> None:
            form = post_form("/settings", [("a", "b")])
            statuses.append(transport.request(form, call()).status)

        threads = [threading.Thread(target=submit) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [200, 200]


def test_a_referer_that_is_refused_twice_is_an_error(to: Callable[..., Transport]) -> None:
    def refuses(exchange: Exchange) -> None:
        exchange.answer(403, b"Invalid referer for POST request")

    with ScriptedServer(refuses) as server:
        assert to(server.url).request(post_form("/settings", []), call()).status == 403
        assert len(server.requests) == 2


def test_an_idempotent_request_is_retried_after_a_network_failure(
    to: Callable[..., Transport],
) -> None:
    with ScriptedServer([hang_up, cut_in_a_body, ok]) as server:
        assert to(server.url, max_retries=2).request(get("/"), call()).status == 200
        assert len(server.requests) == 2
        assert server.connections == 3


def test_a_request_that_may_have_been_received_is_not_retried(
    to: Callable[..., Transport],
) -> None:
    def takes_and_hangs_up(exchange: Exchange) -> None:
        exchange.cut()

    with ScriptedServer(takes_and_hangs_up) as server:
        sent = call()
        with pytest.raises(TransportError):
            to(server.url, max_retries=5).request(post_json("/conversation", {}), sent)
        assert sent.sent
        assert len(server.requests) == 1


def test_a_request_that_failed_before_a_byte_was_sent_is_retried(
    to: Callable[..., Transport],
) -> None:
    with refusing_port() as port:
        refused = call()
        began = time.monotonic()
        with pytest.raises(TransportError):
            to(f"http://127.0.0.1:{port}", max_retries=1).request(post_json("/", {}), refused)
        assert not refused.sent
        assert time.monotonic() - began > 0.2  # one pause


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_with_retry_after_is_retried(to: Callable[..., Transport], status: int) -> None:
    def busy(exchange: Exchange) -> None:
        exchange.answer(status, b"busy", headers={"Retry-After": "0"})

    with ScriptedServer([busy, ok]) as server:
        response = to(server.url, max_retries=1).request(post_json("/conversation", {}), call())
        assert response.status == 200


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "61"}, {"Retry-After": "soon"}])
def test_a_refusal_without_or_with_a_long_retry_after_is_not_retried(
    to: Callable[..., Transport], headers: dict[str, str]
) -> None:
    def busy(exchange: Exchange) -> None:
        exchange.answer(429, b"busy", headers=headers)

    with ScriptedServer(busy) as server:
        assert to(server.url, max_retries=3).request(get("/"), call()).status == 429
        assert len(server.requests) == 1


def test_waiting_for_a_busy_server_obeys_the_total_timeout(to: Callable[..., Transport]) -> None:
    def busy(exchange: Exchange) -> None:
        exchange.answer(429, b"busy", headers={"Retry-After": "30"})

    with ScriptedServer(busy) as server, pytest.raises(TransportTimeout) as caught:
        to(server.url, max_retries=1).request(get("/"), call(total=0.3))
    assert caught.value.which == "total"


def test_waiting_for_a_busy_server_can_be_woken(to: Callable[..., Transport]) -> None:
    def busy(exchange: Exchange) -> None:
        exchange.answer(429, b"busy", headers={"Retry-After": "30"})

    with ScriptedServer(busy) as server:
        waiting = call()
        thread = woken_after(waiting, lambda: server.wait_for(lambda server: server.requests))
        with pytest.raises(Woken):
            to(server.url, max_retries=1).request(get("/"), waiting)
        thread.join()


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "0"},
        {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {
            "Date": "Sun, 06 Nov 2094 08:49:37 GMT",
            "Retry-After": "Sun, 06 Nov 2094 08:49:37 GMT",
        },
    ],
    ids=["none", "past", "now, by the server's clock"],
)
def test_a_retry_after_of_zero_still_has_a_pause(
    to: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Call, "pause", lambda self, seconds: waits.append(seconds))
    with ScriptedServer(lambda exchange: exchange.answer(503, headers=headers)) as server:
        assert to(server.url, max_retries=3).request(get("/"), call()).status == 503
        assert server.count("GET") == 4
    assert len(waits) == 3
    assert all(0.2 <= each <= 8 for each in waits)
    assert waits[0] < waits[2]
