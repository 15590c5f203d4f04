"""For tests of services: see the spans of an instrumented application without a broker.

>>> from mobius_instrumentation.testing import record_spans
>>> with record_spans(app) as spans:  # doctest: +SKIP
...     client.get("/orders/7")
...     assert spans.one(route="/orders/{order_id}").status == 200
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.attach import attach, detach
from mobius_instrumentation.sampling import ConsistentSampler
from mobius_instrumentation.spans import LightTracerProvider
from mobius_instrumentation.synthetic import SyntheticTraffic
from mobius_instrumentation.wire import EncodedSpan, SpanEncoder, build_request

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["RecordedSpan", "SpanRecorder", "decode_request", "record_spans"]


@dataclass(frozen=True, slots=True)
class RecordedSpan:
    """A span as it would leave the process: after the allow-list, ids in hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_span_id: str
    trace_state: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str
    events: tuple[tuple[str, dict[str, Any]], ...]
    links: tuple[tuple[str, str, dict[str, Any]], ...]
    status_code: int
    status_message: str

    @property
    def route(self) -> str | None:
        """``http.route``."""
        return self.attributes.get("http.route")

    @property
    def status(self) -> int | None:
        """``http.response.status_code``."""
        return self.attributes.get("http.response.status_code")


def decode_request(payload: bytes) -> list[RecordedSpan]:
    """Read a Kafka message of ours (an OTLP ``ExportTraceServiceRequest``) with the generated classes.

    Raises
    ------
    google.protobuf.message.DecodeError
        It is none.
    """
    return [
        RecordedSpan(
            name=span.name,
            kind=span.kind,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_span_id=span.parent_span_id.hex(),
            trace_state=span.trace_state,
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes=_pairs(span.attributes),
            resource=_pairs(group.resource.attributes),
            scope=scoped.scope.name,
            events=tuple((event.name, _pairs(event.attributes)) for event in span.events),
            links=tuple(
                (link.trace_id.hex(), link.span_id.hex(), _pairs(link.attributes))
                for link in span.links
            ),
            status_code=span.status.code,
            status_message=span.status.message,
        )
        for group in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]


def _pairs(attributes: Any) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


class SpanRecorder(SpanProcessor):
    """Keeps the encoded spans in memory. Grows without bound: for tests only.

    Attributes
    ----------
    tracer_provider
        Of the recorded application: pass it to other instrumentations, so that their spans are recorded too.
    """

    def __init__(self, policy: AttributePolicy | None = None) -> None:
        self.tracer_provider: TracerProvider | None = None
        self._encoder = SpanEncoder(policy or AttributePolicy())
        self._lock = threading.Lock()
        self._spans: list[EncodedSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a sampled span."""
        if span.context is not None and span.context.trace_flags.sampled:
            encoded, _ = self._encoder.span(span)
            with self._lock:
                self._spans.append(encoded)

    @property
    def spans(self) -> list[RecordedSpan]:
        """The spans so far, in the order in which they ended within each scope."""
        with self._lock:
            return decode_request(build_request(self._spans))

    def one(self, *, route: str | None = None, name: str | None = None) -> RecordedSpan:
        """Return the only span of a route or name.

        Raises
        ------
        AssertionError
            There is none, or more than one; names what there is.
        """
        spans = self.spans
        found = [s for s in spans if route in (None, s.route) and name in (None, s.name)]
        if len(found) != 1:
            raise AssertionError(
                f"{len(found)} spans of route={route} name={name} among {[s.name for s in spans]}"
            )
        return found[0]


@contextmanager
def record_spans(
    app: Starlette,
    *,
    synthetic_key: str | None = None,
    attributes: Sequence[str] = (),
    resource: dict[str, str] | None = None,
) -> Iterator[SpanRecorder]:
    """Record the spans of a fresh, uninstrumented application, with our allow-list and markers.

    Use it instead of ``instrument(app)``; afterwards the application is as it was.
    """
    policy = AttributePolicy.with_extra(attributes)
    recorder = SpanRecorder(policy)
    provider = LightTracerProvider(
        resource=Resource.create(resource or {}),
        sampler=ConsistentSampler(1),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(recorder)
    recorder.tracer_provider = provider
    attach(app, provider, SyntheticTraffic(synthetic_key), allowed=policy.allowed)
    app.middleware_stack = None  # built anew at the next request, now with the recorder
    try:
        yield recorder
    finally:
        detach(app)
        provider.shutdown()
