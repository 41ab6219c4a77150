"""A server's texts in errors, titles and log lines contain no control characters."""

from __future__ import annotations

import json
import logging
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from h2o_client import (
    GenerationError,
    H2oError,
    H2oSession,
    ProtocolError,
    ServerError,
    StatusError,
)
from h2o_client.dialects.documents import read_entries, read_stored
from h2o_client.log import log
from h2o_client.printable import printable, whole_characters
from h2o_client.wire.decoder import Decoder
from h2o_client.wire.events import Title
from h2o_client.wire.refusal import refusal, retry_after
from h2o_client.wire.runlog import read_running
from scripted import Exchange, Routes, ScriptedServer

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n2026-11-29 CRITICAL forged\u2028\u202e\u2066\u200f\x9b\ud800\x7f"
STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

Open = Callable[..., H2oSession]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, ünïcode 漢字 👩‍🚀", "plain words, ünïcode 漢字 👩‍🚀"),
        ("one\r\n\ttwo\v\f\x85\u2029three\n", "one two three"),
        ("\x1b[2J\x9b\x7f\x00", "\ufffd[2J\ufffd\ufffd\ufffd"),
        ("a\u202eb\u2066c\u200fd\u061c", "a\ufffdb\ufffdc\ufffdd\ufffd"),
        ("\ud83d \ude00", "\ufffd \ufffd"),
        ("", ""),
    ],
)
def test_control_characters_are_replaced_in_a_printable_text(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_shortened_at_its_end() -> None:
    assert printable("x" * 100, most=10) == "x" * 9 + "…"
    assert printable("x" * 10, most=10) == "x" * 10


def test_whole_characters_replaces_only_half_surrogate_pairs() -> None:
    assert whole_characters("\x1b[2J\n\u202e\ud800x😀") == "\x1b[2J\n\u202e\ufffdx😀"


@pytest.mark.parametrize(
    "error",
    [
        H2oError(EVIL),
        ServerError(500, EVIL, request_id=EVIL, error_type=EVIL),
        GenerationError(EVIL, error_type=EVIL),
        ProtocolError(EVIL, EVIL),
        refusal(500, {"x-request-id": EVIL}, json.dumps({"message": EVIL}).encode()),
        refusal(
            502, {"content-type": "text/html"}, b"<title>\x1b[2J&#27;[2J&#8238;\xc2\x9b</title>"
        ),
        refusal(403, {}, EVIL.encode("utf-8", "replace")),
    ],
)
def test_no_error_contains_control_characters(error: H2oError) -> None:
    for each in (error, pickle.loads(pickle.dumps(error))):
        fields: list[Any] = [each.message, str(each), *each.args]
        fields += [getattr(each, name, None) for name in ("said", "request_id", "error_type")]
        for field in fields:
            assert field is None or not STEERS.search(field), field
            assert field is None or field.encode()


def test_every_line_of_the_log_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="h2o_client"):
        log.warning("conversation %s: %s", EVIL, ServerError(500, EVIL))
        log.debug(f"{EVIL} 100 %")
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert not STEERS.search(record.getMessage())


def test_no_title_contains_control_characters() -> None:
    (entry,) = read_entries([{"id": "a" * 24, "title": EVIL}])
    document = {"title": EVIL, "messages": []}
    stored = read_stored(document, lambda message: True)
    line = json.dumps({"type": "title", "title": EVIL}).encode() + b"\n"
    (read,) = Decoder().feed(line)
    assert isinstance(read, Title)
    running = {"running": [{"conversationId": "a" * 24, "title": EVIL}]}
    ((_, live),) = read_running(b"data: " + json.dumps(running).encode()) or []
    for title in (entry.title, stored.title, read.title, live):
        assert "forged" in title
        assert not STEERS.search(title)


def test_the_content_of_a_message_can_be_printed_and_is_otherwise_unchanged() -> None:
    said = "one\n\x1b[2J two\ud800 \ude00"
    message = {"id": "x", "from": "assistant", "content": said}
    stored = read_stored({"title": "", "messages": [message]}, lambda message: True)
    assert stored.messages[0].content == "one\n\x1b[2J two\ufffd \ufffd"


@pytest.mark.parametrize("value", ["9" * 400, "99999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_wait_is_longer_than_a_year(value: str) -> None:
    wait = retry_after(value)
    assert wait == 366 * 86400.0
    error = refusal(429, {"retry-after": value}, b"")
    assert isinstance(error, StatusError)
    assert error.retry_after == wait


# Shared pages


ID = "a" * 24


def answers(document: dict[str, str]) -> ScriptedServer:
    def share(exchange: Exchange) -> None:
        exchange.json(document)

    def settings(exchange: Exchange) -> None:
        exchange.json({"json": {}}) if exchange.request.method == "GET" else exchange.answer(200)

    path = "/api/v2/user/settings"
    table: dict[tuple[str, str | re.Pattern[str]], Callable[[Exchange], None]] = {
        ("POST", f"/conversation/{ID}/share"): share,
        ("GET", path): settings,
        ("POST", "/settings"): settings,
    }
    return ScriptedServer(Routes(table))


@pytest.mark.parametrize(
    "document",
    [
        {"url": "https://evil.example/r/MIAQOXG"},
        {"url": "http://localhost/r/MIAQOXG/"},
        {"url": "\x1b[2Jhttp://x/r/MIAQOXG"},
        {"url": "/r/MIAQOXG"},
        {"shareId": "MIAQOXG"},
        {"shareId": "MIAQOXG", "url": "javascript:alert(1)//"},
    ],
)
def test_the_url_of_a_shared_page_begins_with_the_sessions(
    document: dict[str, str], open_session: Open
) -> None:
    with answers(document) as server:
        client = open_session(server.url, server_version="0.10.0")
        assert client.conversation(ID).share() == f"{server.url}/r/MIAQOXG"


@pytest.mark.parametrize(
    "document",
    [
        {"url": "javascript:alert(document.cookie)//"},
        {"url": "file:///etc/passwd"},
        {"url": "https://evil.example/r/x?y=/r/"},
        {"url": "https://evil.example/r/x/.."},
        {"url": "https://evil.example/r/x\n"},
        {"url": "/r/" + "x" * 65},
        {"shareId": "../x"},
        {},
    ],
)
def test_a_shared_page_without_an_id_is_a_protocol_error(
    document: dict[str, str], open_session: Open
) -> None:
    with answers(document) as server:
        client = open_session(server.url, server_version="0.10.0")
        with pytest.raises(ProtocolError):
            client.conversation(ID).share()
