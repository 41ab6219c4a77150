"""Fuzz the readers of a server's bytes: any division gives the same result or a known error.

``python tests/fuzz/decoder.py -max_total_time=60`` runs it for 60 seconds (``pip install
atheris``); without a time it runs until it finds an error. `test_decoder_target.py` runs it without
atheris.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any

atheris: Any = import_module("atheris") if __name__ == "__main__" else None

with atheris.instrument_imports(include=["h2o_client"]) if atheris else nullcontext():
    import msgspec

    from h2o_client.dialects import detection, pages
    from h2o_client.dialects.detection import DIALECTS
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.dialects.endpoint import Endpoint, Moved, Refused
    from h2o_client.errors import H2oError
    from h2o_client.wire import pagedata, superjson
    from h2o_client.wire.decoder import Decoder
    from h2o_client.wire.events import Event, Failure, Final, Malformed, Title, Token
    from h2o_client.wire.framing import Chunked, FramingError
    from h2o_client.wire.refusal import refusal, retry_after
    from h2o_client.wire.transcript import Transcript

HELD = 4  # a decoder may keep at most this many times the bytes fed
_ID = "6b02c9d11306e1473508e3f3"
# Exceptions of readers of documents. Their callers convert these to errors of this package.
_READABLE = (ValueError, RecursionError, msgspec.MsgspecError, Refused, Moved)


def check(data: bytes) -> None:
    """One input. Its first byte chooses the reader, the second one the division."""
    if len(data) >= 2:
        TARGETS[data[0] % len(TARGETS)](data[2:], data[1] + 1)


def stream(data: bytes, cut: int) -> None:
    """An answer: the same events in one piece or several, without half surrogate pairs."""
    whole = decoded([data])
    assert joined(decoded(pieces(data, cut))) == joined(whole)
    assert Malformed not in [type(event) for event in whole[:-1]]
    for event in whole:
        shown(event).encode()
    transcript = Transcript()
    transcript.add(whole)
    transcript.text.encode()
    assert transcript.text_bytes <= HELD * len(data) + 16


def chunked(data: bytes, cut: int) -> None:
    """A chunked body around an answer: the same payload or framing error in any division."""
    assert unframed([data]) == unframed(pieces(data, cut))


def page(data: bytes, cut: int) -> None:
    """Page data: values, or a ValueError."""
    try:
        pagedata.read(data)
    except ValueError:
        return


def document(data: bytes, cut: int) -> None:
    """superjson: a value, or a ValueError."""
    try:
        superjson.read(data)
    except ValueError:
        return


def refused(data: bytes, cut: int) -> None:
    """A refusal: always an error of this package with a message."""
    error = refusal(300 + cut, {"retry-after": data[:40].decode("latin-1")}, data)
    assert isinstance(error, H2oError)
    str(error)
    waits = retry_after(data.decode("utf-8", "replace"))
    assert waits is None or waits >= 0


def records(data: bytes, cut: int) -> None:
    """The documents of every dialect, and the detection of the dialect."""
    endpoint = ENDPOINTS[cut % len(ENDPOINTS)]
    by_page = partial(detection.by_page, b"", 404, "")
    for read in (endpoint.read, detection.by_models, by_page):
        try:
            read(data)
        except _READABLE:
            continue


TARGETS: tuple[Callable[[bytes, int], None], ...] = (
    stream,
    chunked,
    page,
    document,
    refused,
    records,
)


def endpoints_of(dialect: Dialect) -> Iterable[Endpoint[Any]]:
    """All requests of a dialect whose responses are read."""
    makers: tuple[Callable[[], Any], ...] = (
        pages.layout,
        dialect.models,
        dialect.settings,
        dialect.user,
        lambda: dialect.conversations(0),
        lambda: dialect.create("m", None),
        lambda: dialect.conversation(_ID),
        lambda: dialect.web_search(_ID, "x"),
        lambda: dialect.summarize(_ID),
        lambda: dialect.share(_ID),
        lambda: dialect.answer_elicitation(_ID, "e", "accept", None),
    )
    for make in makers:
        try:
            made = make()
        except H2oError:
            continue  # this dialect does not support it
        yield from made if isinstance(made, tuple) else [made] if made is not None else []


ENDPOINTS = [endpoint for dialect in DIALECTS for endpoint in endpoints_of(dialect)]


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def decoded(parts: Iterable[bytes]) -> list[Event]:
    decoder = Decoder()
    events = [event for part in parts for event in decoder.feed(part)]
    events += decoder.end()
    assert decoder.end() == []
    return events


def joined(events: Iterable[Event]) -> list[object]:
    """Events with adjacent tokens joined. The excerpt of a Malformed depends on the division."""
    told: list[object] = []
    for event in events:
        if isinstance(event, Token) and not event.special:
            if told and isinstance(told[-1], str):
                told[-1] += event.text
            else:
                told.append(event.text)
        else:
            told.append(event.reason if isinstance(event, Malformed) else comparable(event))
    return told


def comparable(event: Event) -> object:
    # NaN is not equal to itself.
    return json.dumps(msgspec.to_builtins(event), sort_keys=True, default=repr)


def shown(event: Event) -> str:
    """The printable text of an event."""
    if isinstance(event, Token | Final):
        return event.text or ""
    if isinstance(event, Failure):
        return event.message
    return event.title if isinstance(event, Title) else ""


def unframed(parts: Iterable[bytes]) -> tuple[bytes, bool, bool]:
    """The payload, whether it is complete, and whether the framing is invalid."""
    frame, payload = Chunked(), b""
    for part in parts:
        if frame.done:
            break
        try:
            payload += frame.feed(part)
        except FramingError as exc:
            return payload + exc.payload, False, True
        assert len(frame._held) <= 1 << 17
    return payload, frame.done, False


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
