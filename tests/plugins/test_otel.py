"""Ten ways to end a reply, with both APIs: each is one ended span with the right reason."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from fake_chatui import FakeChatUi
from fake_model import Prompt, Says
from h2o_client import AsyncH2oSession, H2oError, H2oSession, Timeouts
from h2o_client.answer.observing import new_observation
from h2o_client.plugins.otel import instrument, uninstrument
from h2o_client.wire.events import Token
from local_service import PATIENCE

HOLDS = Says(("a", "b"), holds=True)


class Spans:
    """The exported spans and metrics."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def only(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: metric.data.data_points
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    instrument(tracer_provider=spans.tracers, meter_provider=spans.meters)
    yield spans
    uninstrument()


def says(way: str) -> Says:
    if way in ("break", "close", "stop", "dropped", "cancelled", "timeout"):
        return HOLDS
    if way == "refused":
        return Says(status=503)
    if way == "failed":
        return Says(("a", "b"), end="error")
    if way == "cut":
        return Says(("a", "b"), end="eof")
    if way == "resumed":
        return Says(("a", "b"), breaks=True, rest=("c",))
    return Says(("a", "b"))


# The expected end of each way, and the type of its error.
WAYS = {
    "read": ("stop", None),
    "break": ("stopped", None),
    "close": ("stopped", None),
    "stop": ("stopped", None),
    "dropped": ("stopped", None),
    "cancelled": ("stopped", None),
    "refused": ("error", "ServerError"),
    "failed": ("error", "GenerationError"),
    "timeout": ("error", "TransportTimeout"),
    "cut": ("incomplete", "IncompleteAnswerError"),
    "resumed": ("stop", None),
}


def fake(way: str) -> FakeChatUi:
    version = {"resumed": "head", "cut": "0.9.4", "refused": "0.4"}.get(way, "0.10.0")
    return FakeChatUi(version, answer=lambda prompt: says(way))


def leave(client: H2oSession, way: str) -> None:
    timeout = Timeouts(idle=0.3) if way == "timeout" else None
    reply = client.stream("open sesame", timeout=timeout)
    if way == "break":
        with reply:
            for _ in reply:
                break
    elif way == "dropped":
        next(reply)
    elif way == "close":
        next(reply)
        reply.close()
    elif way == "stop":
        next(reply)
        reply.stop()
        list(reply)
    elif way == "cancelled":
        with suppress(KeyboardInterrupt), reply:
            next(reply)
            raise KeyboardInterrupt
    else:
        reply.read()


async def leave_async(client: AsyncH2oSession, way: str) -> None:
    timeout = Timeouts(idle=0.3) if way == "timeout" else None
    reply = client.stream("open sesame", timeout=timeout)
    if way == "break":
        async with reply:
            async for _ in reply:
                break
    elif way == "dropped":
        await anext(reply)
    elif way == "close":
        await anext(reply)
        await reply.aclose()
    elif way == "stop":
        await anext(reply)
        await reply.stop()
        async for _ in reply:
            pass
    elif way == "cancelled":
        with anyio.CancelScope() as scope:
            async for _ in reply:
                scope.cancel()
    else:
        await reply.read()


def check(spans: Spans, server: FakeChatUi, way: str) -> None:
    reason, error = WAYS[way]
    span = spans.only()
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.attributes is not None
    assert span.attributes["gen_ai.response.finish_reasons"] == (reason,)
    assert span.attributes.get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) == (error is not None)
    assert span.status.description is None
    assert span.attributes["gen_ai.operation.name"] == "chat"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes["server.port"] == urlsplit(server.url).port
    assert span.name == f"chat {span.attributes['gen_ai.request.model']!s}"
    assert "sesame" not in span.to_json()


@pytest.mark.parametrize("way", WAYS)
def test_a_reply_is_one_span_however_it_ends(spans: Spans, way: str) -> None:
    with fake(way) as server:
        with H2oSession(server.url, max_retries=1) as client:
            with suppress(H2oError):
                leave(client, way)
            gc.collect()
            server.wait_for(lambda fake: spans.exporter.get_finished_spans())
        check(spans, server, way)


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_an_async_reply_is_one_span_however_it_ends(spans: Spans, way: str) -> None:
    with fake(way) as server:
        async with AsyncH2oSession(server.url, max_retries=1) as client:
            with suppress(H2oError):
                await leave_async(client, way)
            gc.collect()
            with anyio.fail_after(PATIENCE):
                while not spans.exporter.get_finished_spans():
                    await anyio.sleep(0.01)
        check(spans, server, way)


def test_prompts_and_answers_are_recorded_only_on_request() -> None:
    spans = Spans()
    instrument(capture_content=True, tracer_provider=spans.tracers)
    try:
        with (
            FakeChatUi("head", answer=lambda prompt: Says(("Hello", " there"))) as server,
            H2oSession(server.url) as client,
        ):
            client.chat("open sesame")
    finally:
        uninstrument()
    attributes = spans.only().attributes
    assert attributes is not None
    (asked,) = json.loads(str(attributes["gen_ai.input.messages"]))
    (said,) = json.loads(str(attributes["gen_ai.output.messages"]))
    assert asked["parts"][0]["content"] == "open sesame"
    assert said["parts"][0]["content"] == "Hello there"


def test_the_metrics_are_the_duration_and_the_times_of_the_tokens(spans: Spans) -> None:
    with FakeChatUi("head") as server, H2oSession(server.url) as client:
        answer = client.chat("open sesame")
        assert answer.text
    found = spans.metrics()
    (duration,) = found["gen_ai.client.operation.duration"]
    (first,) = found["gen_ai.client.operation.time_to_first_chunk"]
    (chunks,) = found["gen_ai.client.operation.time_per_output_chunk"]
    assert (duration.count, first.count) == (1, 1)
    assert chunks.count > 1
    assert 0 < first.sum <= duration.sum
    assert duration.attributes["gen_ai.request.model"] == answer.model


def test_the_span_is_a_child_of_the_callers(spans: Spans) -> None:
    tracer = spans.tracers.get_tracer("mine")
    with (
        FakeChatUi("head") as server,
        H2oSession(server.url) as client,
        tracer.start_as_current_span("outer"),
    ):
        client.chat("Hello")
    inner, outer = spans.exporter.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id


@pytest.mark.anyio
async def test_the_span_of_an_async_reply_is_also_a_child(spans: Spans) -> None:
    tracer = spans.tracers.get_tracer("mine")
    with FakeChatUi("head") as server:
        async with AsyncH2oSession(server.url) as client:
            with tracer.start_as_current_span("outer"):
                await client.chat("Hello")
    inner, outer = spans.exporter.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id


def test_a_turn_of_a_conversation_has_its_id(spans: Spans) -> None:
    def answer(prompt: Prompt) -> Says:
        return Says((prompt.last,))

    with (
        FakeChatUi("0.4", answer=answer) as server,
        H2oSession(server.url) as client,
        client.conversation() as chat,
    ):
        chat.chat("one")
        chat.retry().read()
        expected = chat.id
    found = [each.attributes or {} for each in spans.exporter.get_finished_spans()]
    assert [each["gen_ai.conversation.id"] for each in found] == [expected] * 2


def test_after_uninstrument_nothing_is_recorded(spans: Spans) -> None:
    uninstrument()
    with FakeChatUi("head") as server, H2oSession(server.url) as client:
        client.chat("Hello")
    assert spans.exporter.get_finished_spans() == ()


def test_without_the_plugin_opentelemetry_is_not_imported() -> None:
    code = (
        "import sys, h2o_client; h2o_client.H2oSession('http://localhost:1');"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_tokens_that_arrive_with_the_first_one_have_no_waiting_time(
    spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 5.0, 5.5])
    monkeypatch.setattr("h2o_client.plugins.otel.monotonic", lambda: next(times))
    observation = new_observation("http://localhost:1")
    assert observation is not None
    observation.receive([Token("a"), Token("b")])
    observation.receive([Token("c"), Token("d")])
    metrics = spans.metrics()
    assert metrics["gen_ai.client.operation.time_to_first_chunk"][0].sum == 5.0
    (each,) = metrics["gen_ai.client.operation.time_per_output_chunk"]
    assert (each.count, each.min, each.max) == (3, 0.0, 0.25)
