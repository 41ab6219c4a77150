"""Hypothesis tests of the readers: any document, division and nesting, with bounded memory.

Each reader's own test file has its properties. Here are the properties of all readers.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_chatui import FakeChatUi
from fake_store import VERSIONS
from h2o_client import H2oError, H2oSession
from h2o_client.dialects import detection, pages
from h2o_client.dialects.detection import DIALECTS
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.endpoint import Endpoint, Moved, Refused
from h2o_client.wire import superjson, tgi, updates
from h2o_client.wire.decoder import Decoder
from h2o_client.wire.events import Malformed
from h2o_client.wire.framing import Chunked, FramingError, write_chunk
from h2o_client.wire.transcript import Transcript

ID = "6b02c9d11306e1473508e3f3"

NAMES = st.sampled_from(
    [
        *("type", "status", "token", "text", "special", "generated_text", "details", "message"),
        *("error", "error_type", "finish_reason", "interrupted", "webSources", "sources", "title"),
        *("subtype", "call", "result", "name", "request", "elicitationId", "fields", "statusCode"),
        *("json", "meta", "values", "v", "nodes", "data", "uses", "id", "_id", "conversationId"),
        *("conversation", "conversations", "messages", "rootMessageId", "from", "content", "files"),
        *("ancestors", "children", "updates", "createdAt", "updatedAt", "models", "settings"),
        *("generationId", "customPrompts", "parameters", "user", "searches", "webSearchId"),
        *("hasMore", "shareId", "url", "link", "uri", "location", "resume", "unlisted", "args"),
        *("activeModel", "modelId", "model", "webSearch", "contextSources", "list", "answer"),
    ]
)
WORDS = st.one_of(
    st.sampled_from(
        [
            *("stream", "finalAnswer", "status", "error", "title", "tool", "reasoning", "file"),
            *("webSearch", "routerMetadata", "elicitation", "redirect", "data", "skip", "chunk"),
            *("keepAlive", "finished", "started", "request", "length", "assistant", "user", "Date"),
            *("undefined", "bigint", "number", "Map", "Set", "2024-01-01T00:00:00.000Z", ID),
            *(
                "\ud83e",
                "\uddea",
                "\x00",
                "\u2028",
                "9" * 400,
                "result",
                "Browsing result",
                "1e400",
            ),
        ]
    ),
    st.text(max_size=8),
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.integers(),
    st.floats(),
    WORDS,
)
DOCUMENTS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.one_of(NAMES, WORDS), inner, max_size=6)
    ),
    max_leaves=25,
)


def written(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=True).encode()


@given(DOCUMENTS)
def test_any_document_is_an_event_or_a_value_error(document: object) -> None:
    body = written(document)
    for read in (updates.read, tgi.read):
        try:
            read(body)
        except (ValueError, RecursionError):
            continue
    tgi.read_whole(json.loads(body))


@given(st.lists(DOCUMENTS, max_size=6), st.integers(1, 50), st.sampled_from([b"data:", b""]))
def test_any_documents_are_an_answer_whose_text_can_be_printed(
    documents: list[object], size: int, prefix: bytes
) -> None:
    body = b"".join(prefix + written(each) + b"\n\n" for each in documents)
    decoder, transcript = Decoder(), Transcript()
    for at in range(0, len(body), size):
        transcript.add(decoder.feed(body[at : at + size]))
        decoder.text_bytes = transcript.text_bytes
    events = decoder.end()
    transcript.add(events)
    transcript.text.encode()
    (transcript.title or "").encode()
    for source in transcript.sources:
        assert isinstance(source.link, str)


def endpoints(dialect: Dialect) -> list[Endpoint[Any]]:
    """All values read from the responses of this dialect."""
    makers: list[Callable[[], Any]] = [
        *(pages.layout, dialect.models, dialect.settings, dialect.user),
        lambda: dialect.conversations(0),
        lambda: dialect.create("m", None),
        lambda: dialect.conversation(ID),
        lambda: dialect.web_search(ID, "x"),
        lambda: dialect.summarize(ID),
        lambda: dialect.share(ID),
        lambda: dialect.answer_elicitation(ID, "e", "accept", None),
    ]
    found: list[Endpoint[Any]] = []
    for make in makers:
        try:
            made = make()
        except H2oError:
            continue
        found += list(made) if isinstance(made, tuple) else [made] if made is not None else []
    return found


READABLE = (ValueError, RecursionError, msgspec.MsgspecError, Refused, Moved)


@pytest.mark.parametrize("dialect", DIALECTS, ids=[each.name for each in DIALECTS])
@given(document=DOCUMENTS)
def test_any_document_is_read_or_refused_by_every_dialect(
    dialect: Dialect, document: object
) -> None:
    paged = written({"type": "data", "nodes": [{"type": "data", "data": document}] * 2})
    bodies = (written(document), written({"json": document}), paged)
    for endpoint in endpoints(dialect):
        for body in bodies:
            try:
                endpoint.read(body)
            except READABLE:
                continue


@given(st.one_of(DOCUMENTS.map(written), st.binary(max_size=100)))
def test_any_response_identifies_a_dialect_or_none(body: bytes) -> None:
    detection.by_models(body)
    detection.is_enough(body)
    for status, kind in ((200, "application/json"), (403, "text/sveltekit-data")):
        try:
            detection.by_page(body, status, kind, body)
        except READABLE:
            continue


@given(st.one_of(DOCUMENTS.map(written), st.binary(max_size=100)), st.binary(max_size=100))
def test_any_superjson_is_a_value_or_a_value_error(document: bytes, meta: bytes) -> None:
    for body in (document, b'{"json":%b,"meta":{"values":%b}}' % (document, document), meta):
        try:
            superjson.read(body)
        except ValueError:
            continue


@given(st.binary(max_size=300), st.integers(1, 40), st.integers(1, 60))
def test_any_bytes_in_any_chunks_are_the_same_answer(body: bytes, chunk: int, cut: int) -> None:
    pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    framed = b"".join(write_chunk(piece) for piece in pieces) + b"0\r\n\r\n"
    frame, payload = Chunked(), b""
    for at in range(0, len(framed), cut):
        payload += frame.feed(framed[at : at + cut])
    assert frame.done
    assert payload == body


@pytest.mark.parametrize(
    "piece",
    [
        *(b"x", b" ", b"\n", b"\r", b"\r\n", b": x", b"data:\n", b"data: [\n"),
        *(b"[", b"[[", b"{", b'{"a":', b'"', b"\\", b"\x00", b"\xff", b"\xef\xbb\xbf", b"0,"),
    ],
)
@pytest.mark.parametrize("begin", [b"", b"data:", b"{", b"[", b'{"type":"stream","token":"'])
def test_no_repeated_bytes_are_kept_in_memory(
    begin: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a limit of 1 MiB per line instead of 16 MiB."""
    monkeypatch.setattr("h2o_client.wire.decoder._LONGEST_LINE", 0)
    decoder, much = Decoder(), piece * ((1 << 15) // len(piece))
    decoder.feed(begin)
    tracemalloc.start()
    # A line is kept only until its end, so a few repetitions are enough.
    for _ in range(12 if piece.endswith((b"\n", b"\r")) else 40):
        if any(isinstance(event, Malformed) for event in decoder.feed(much)):
            break
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20
    assert held < (1 << 20 if piece.endswith((b"\n", b"\r")) else 2 << 20)


@pytest.mark.parametrize(
    "piece", [b"x", b"0", b"1;", b"1;x=y", b"\r\n", b"0\r\nX: y\r\n", b"X: y\r\n"]
)
@pytest.mark.parametrize("begin", [b"", b"5;", b"0\r\n", b"5\r\nhello"])
def test_no_long_framing_is_kept_in_memory(begin: bytes, piece: bytes) -> None:
    frame = Chunked()
    much = piece * ((1 << 16) // len(piece))
    tracemalloc.start()
    with suppress(FramingError):
        frame.feed(begin)
        for _ in range(64):
            if frame.done:
                break
            frame.feed(much)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1 << 20


@given(
    st.lists(st.one_of(DOCUMENTS.map(written), st.binary(max_size=30)), max_size=4),
    st.sampled_from(["0.4", "0.10.0"]),
    st.booleans(),
)
@settings(max_examples=settings().max_examples // 4)
def test_any_response_is_an_answer_or_an_error_of_this_package(
    lines: list[bytes], version: str, proper: bool
) -> None:
    """On a real socket, whatever the documents of the stream are."""
    prefix = b"data:" if VERSIONS[version].before(0, 7) else b""

    def message(exchange: Any) -> bool:
        path = exchange.request.path
        if exchange.request.method != "POST" or not path.startswith("/conversation/"):
            return False
        if path.endswith("/stop-generating"):
            return False
        exchange.head(200)
        for line in lines:
            exchange.write(prefix + line + b"\n\n")
        exchange.end() if proper else exchange.cut()
        return True

    with (
        FakeChatUi(version, before=message) as server,
        H2oSession(server.url, max_retries=0) as session,
    ):
        try:
            reply = session.stream("Hi")
            text = "".join(reply)
            text.encode()
            reply.text.encode()
        except H2oError as exc:
            exc.partial.encode()
            str(exc).encode()
    assert server.conversations == {}
