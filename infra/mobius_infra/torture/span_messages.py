"""OTLP messages with spans whose ids are known beforehand; the same for the same seed and begin."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from mobius_instrumentation.allowlist import LIST_APPLIED

__all__ = ["REGION", "Made", "Planted", "make_messages", "span_number"]

REGION: Final = "eu-west-1"
Planted = Literal["", "poison", "foreign", "absurd"]
T = TypeVar("T")

_SECOND: Final = 1_000_000_000
_MINUTES: Final = 30
_PLANTED_OF_EACH: Final = 4
_MOST_TRACES: Final = 60
_ROUTES: Final = (
    ("GET", "/products/{product_id}"),
    ("GET", "/search"),
    ("POST", "/checkout"),
    ("GET", "/orders/{order_id}"),
    ("DELETE", "/cart/{item}"),
)
_STATUSES: Final = ((200, 88), (201, 4), (404, 5), (500, 2), (503, 1))
# Sampling thresholds whose weights, 1, 2, 4 and 8, and the weights' squares are exact in binary: sums of them are the
# same in every order.
_THRESHOLDS: Final = (("", 85), ("ot=th:8", 7), ("ot=th:c", 5), ("vendor=1,ot=th:e", 3))
# Spans that are not to be stored have numbers that no other span has.
_NOT_STORED: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Made:
    """One message: its number from 0, where it goes, its bytes, its spans to store, and what is wrong with it."""

    number: int
    partition: int
    value: bytes
    spans: int
    planted: Planted


def span_number(span_id: bytes) -> int:
    """Number of a span, from 1, that its id tells."""
    return int(struct.unpack(">Q", span_id)[0]) & ((1 << 48) - 1)


def make_messages(seed: int, spans: int, partitions: int, begin_ns: int) -> Iterator[Made]:
    """Yield messages with exactly ``spans`` spans to store, numbered from 1, and planted ones between them.

    Parameters
    ----------
    begin_ns
        Start of the first half hour of spans, nanoseconds since 1970.
    """
    rng = random.Random(f"spans/{seed}")
    maker = _Maker(rng, seed, begin_ns)
    per_message = 1 + _MOST_TRACES
    planted = _planted_at(rng, max(12, spans // per_message))
    number = 0
    while maker.made < spans:
        kind = planted.get(number, "")
        left = spans - maker.made
        value, count = maker.message(number, kind, left)
        yield Made(number, rng.randrange(partitions), value, count, kind)
        number += 1
    for place in sorted(planted):
        if place >= number:
            value, count = maker.message(place, planted[place], 0)
            yield Made(place, rng.randrange(partitions), value, count, planted[place])


def _planted_at(rng: random.Random, messages: int) -> dict[int, Planted]:
    kinds: list[Planted] = ["poison", "foreign", "absurd"]
    places = rng.sample(range(messages), len(kinds) * _PLANTED_OF_EACH)
    return dict(zip(places, kinds * _PLANTED_OF_EACH, strict=True))


class _Maker:
    def __init__(self, rng: random.Random, seed: int, begin_ns: int) -> None:
        self._rng = rng
        self._prefix = (seed & 0xFFFF) << 48
        self._begin = begin_ns
        self.made = 0
        self._beside = _NOT_STORED

    def message(self, number: int, planted: Planted, left: int) -> tuple[bytes, int]:
        """Return a message's bytes, and how many of its spans are to be stored (at most ``left``)."""
        if planted == "poison":
            return b"\xff" * self._rng.randint(1, 200), 0
        request = ExportTraceServiceRequest()
        stored = planted != "foreign"
        before = self.made
        traces = self._rng.choice((1, 3, 10, self._rng.randint(1, _MOST_TRACES)))
        scope = self._resource(request.resource_spans.add(), REGION if stored else "us-east-1")
        for trace in range(traces):
            budget = left - (self.made - before) if stored else 3
            if budget <= 0:
                break
            self._trace(scope, _trace_id(number, trace), budget, stored=stored)
        if planted == "absurd":
            span = self._span(
                scope, _trace_id(number, traces), b"", Span.SPAN_KIND_SERVER, stored=False
            )
            span.end_time_unix_nano = span.start_time_unix_nano - 1
        return request.SerializeToString(), self.made - before

    def _resource(self, resource: ResourceSpans, region: str) -> ScopeSpans:
        for key, value in (
            ("service.name", self._rng.choice(("storefront", "catalog", "checkout"))),
            ("service.version", self._rng.choice(("1.5.0", "1.6.0"))),
            ("deployment.environment.name", "production"),
            ("service.instance.id", f"pod-{self._rng.randrange(8)}"),
            ("cloud.region", region),
            # Both ways through the worker: untouched, and held to the allow-list.
            *([LIST_APPLIED] if self._rng.random() < 0.5 else []),
        ):
            resource.resource.attributes.append(_pair(key, value))
        scope = resource.scope_spans.add()
        scope.scope.name = "opentelemetry.instrumentation.fastapi"
        return scope

    def _trace(self, scope: ScopeSpans, trace_id: bytes, budget: int, *, stored: bool) -> None:
        server = self._span(scope, trace_id, b"", Span.SPAN_KIND_SERVER, stored=stored)
        method, route = self._rng.choice(_ROUTES)
        status = _draw(self._rng, _STATUSES)
        server.name = f"{method} {route}"
        server.trace_state = _draw(self._rng, _THRESHOLDS)
        server.attributes.extend(
            [
                _pair("http.request.method", method),
                _pair("http.route", route),
                _pair("http.response.status_code", status),
                _pair(
                    "url.path", route.replace("{", "").replace("}", str(self._rng.randrange(999)))
                ),
            ]
        )
        if status >= 500 or self._rng.random() < 0.01:
            server.status.code = Status.STATUS_CODE_ERROR
        if self._rng.random() < 0.1:
            server.attributes.append(_pair("mobius.test.run", "nightly"))
        for _ in range(min(budget - 1, self._rng.randrange(4))):
            self._span(scope, trace_id, server.span_id, Span.SPAN_KIND_CLIENT, stored=stored)

    def _span(
        self,
        scope: ScopeSpans,
        trace_id: bytes,
        parent: bytes,
        kind: Span.SpanKind.ValueType,
        *,
        stored: bool,
    ) -> Span:
        if stored:
            self.made += 1
        else:
            self._beside += 1
        span = scope.spans.add()
        span.trace_id = trace_id
        span.span_id = struct.pack(">Q", self._prefix | (self.made if stored else self._beside))
        span.parent_span_id = parent
        span.kind = kind
        span.name = "SELECT shop"
        span.start_time_unix_nano = self._begin + self._rng.randrange(_MINUTES * 60 * _SECOND)
        # In the middle of a bucket of the histogram, so that no rounding of a logarithm decides its bucket.
        bucket = self._rng.randint(-320, 64)
        span.end_time_unix_nano = span.start_time_unix_nano + round(
            _SECOND * 2 ** ((bucket + 0.5) / 32)
        )
        return span


def _trace_id(message: int, trace: int) -> bytes:
    return struct.pack(">IQI", 0x6D6F6269, message, trace)


def _draw(rng: random.Random, table: tuple[tuple[T, int], ...]) -> T:
    (value,) = rng.choices([value for value, _ in table], [weight for _, weight in table])
    return value


def _pair(key: str, value: str | int) -> KeyValue:
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))
