"""Traces and metrics with OpenTelemetry: one span for each reply, by the GenAI conventions.

`instrument` turns this on for the whole process, `uninstrument` turns it off. The package imports
OpenTelemetry only in this module.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from h2o_client.answer.observing import observe_with
from h2o_client.errors import H2oError
from h2o_client.plugins import genai_conventions as names
from h2o_client.timeouts import monotonic
from h2o_client.version import __version__
from h2o_client.wire.events import Token

if TYPE_CHECKING:
    from h2o_client.answer.stream import AnswerStream
    from h2o_client.wire.events import Event

__all__ = ["instrument", "uninstrument"]


def instrument(
    *,
    capture_content: bool = False,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """Record a span and metrics for each reply that is opened from now on.

    Calling it again replaces the earlier settings.

    capture_content: whether to record the prompt, the answer and the messages of errors. If False,
        the span has no text from the server except the model's name.
    tracer_provider: the tracer provider, by default the global one.
    meter_provider: the meter provider, by default the global one.
    """
    telemetry = _Telemetry(capture_content, tracer_provider, meter_provider)
    observe_with(lambda base_url: _ReplySpan(telemetry, base_url))


def uninstrument() -> None:
    """Stop recording replies that are opened from now on."""
    observe_with(None)


class _Telemetry:
    """The tracer and the metrics that all replies share."""

    def __init__(
        self,
        captures_content: bool,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
    ) -> None:
        self.captures_content = captures_content
        self.tracer = trace.get_tracer("h2o_client", __version__, tracer_provider)
        meter = metrics.get_meter("h2o_client", __version__, meter_provider)
        self.duration = meter.create_histogram(
            names.METRIC_DURATION,
            unit="s",
            description="Duration of a reply.",
            explicit_bucket_boundaries_advisory=names.DURATION_BOUNDS,
        )
        self.first_chunk = meter.create_histogram(
            names.METRIC_TIME_TO_FIRST_CHUNK,
            unit="s",
            description="Time from the prompt to the first token.",
            explicit_bucket_boundaries_advisory=names.FIRST_CHUNK_BOUNDS,
        )
        self.per_chunk = meter.create_histogram(
            names.METRIC_TIME_PER_OUTPUT_CHUNK,
            unit="s",
            description="Time between tokens after the first.",
            explicit_bucket_boundaries_advisory=names.CHUNK_BOUNDS,
        )


class _ReplySpan:
    """The span of one reply: an `Observation`."""

    def __init__(self, telemetry: _Telemetry, base_url: str) -> None:
        self._telemetry = telemetry
        address = urlsplit(base_url)
        port = address.port or (443 if address.scheme == "https" else 80)
        self._attributes: dict[str, str | int] = {
            names.OPERATION_NAME: names.CHAT,
            names.PROVIDER_NAME: names.PROVIDER,
            names.SERVER_ADDRESS: address.hostname or "",
            names.SERVER_PORT: port,
        }
        self._parent = context.get_current()
        self._span = telemetry.tracer.start_span(
            names.CHAT, self._parent, SpanKind.CLIENT, self._attributes
        )
        self._started = self._chunk_at = monotonic()
        self._has_text = False
        # Guards `_has_finished`: a reader, a stop and the cleanup may call `finish` concurrently.
        self._finishing = threading.Lock()
        self._has_finished = False

    def send(self, model: str, prompt: str | None) -> None:
        if model:
            self._attributes[names.REQUEST_MODEL] = model
            self._span.set_attribute(names.REQUEST_MODEL, model)
            self._span.update_name(f"{names.CHAT} {model}")
        if self._telemetry.captures_content and prompt is not None:
            self._span.set_attribute(names.INPUT_MESSAGES, _message("user", prompt))

    def receive(self, events: Iterable[Event]) -> None:
        tokens = sum(1 for each in events if isinstance(each, Token) and each.text)
        if not tokens:
            return
        now = monotonic()
        if self._has_text:
            each = (now - self._chunk_at) / tokens
        else:
            self._has_text = True
            tokens -= 1
            each = 0.0  # the others arrived together with the first token
            self._telemetry.first_chunk.record(
                now - self._started, self._attributes, context=self._parent
            )
        for _ in range(tokens):
            self._telemetry.per_chunk.record(each, self._attributes, context=self._parent)
        self._chunk_at = now

    def finish(self, stream: AnswerStream, reason: str, error: BaseException | None) -> None:
        with self._finishing:
            if self._has_finished:
                return
            self._has_finished = True
        span, attributes = self._span, self._attributes
        span.set_attribute(names.FINISH_REASONS, [reason])
        if stream.conversation_id:
            span.set_attribute(names.CONVERSATION_ID, stream.conversation_id)
        if stream.timing.to_first_token is not None:
            span.set_attribute(names.TIME_TO_FIRST_CHUNK, stream.timing.to_first_token)
        if names.REQUEST_MODEL in attributes and self._has_text:
            # chat-ui answers with the requested model.
            attributes[names.RESPONSE_MODEL] = attributes[names.REQUEST_MODEL]
            span.set_attribute(names.RESPONSE_MODEL, attributes[names.RESPONSE_MODEL])
        if isinstance(error, H2oError):
            attributes[names.ERROR_TYPE] = type(error).__name__
            span.set_attribute(names.ERROR_TYPE, type(error).__name__)
            description = str(error) if self._telemetry.captures_content else None
            span.set_status(Status(StatusCode.ERROR, description))
        if self._telemetry.captures_content:
            answer = _message("assistant", stream.transcript.text, finish_reason=reason)
            span.set_attribute(names.OUTPUT_MESSAGES, answer)
        self._telemetry.duration.record(
            monotonic() - self._started, attributes, context=self._parent
        )
        span.end()


def _message(role: str, text: str, **more: str) -> str:
    part = {"type": "text", "content": text}
    return json.dumps([{"role": role, "parts": [part], **more}], ensure_ascii=False)
