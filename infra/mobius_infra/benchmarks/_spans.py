"""Spans for measurements: a shop's traces of six spans, as OTLP messages; the same for the same seed."""

from __future__ import annotations

import random
import time
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from mobius_instrumentation.allowlist import LIST_APPLIED

__all__ = ["SPANS_PER_TRACE", "make_messages"]

SPANS_PER_TRACE: Final = 6
_TRACES_PER_MESSAGE: Final = 80
_ROUTES: Final = (
    ("GET", "/products/{product_id}", "SELECT"),
    ("GET", "/search", "SELECT"),
    ("POST", "/checkout", "INSERT"),
    ("GET", "/orders/{order_id}", "SELECT"),
    ("GET", "/recommendations", "SELECT"),
)


def make_messages(spans: int, *, region: str, seed: int = 1, ours: bool = True) -> list[bytes]:
    """Serialised ``ExportTraceServiceRequest`` messages of at least ``spans`` spans of the last half hour.

    ``ours``: the resources say that our package sent them.
    """
    rng = random.Random(seed)
    begin = time.time_ns() - 1_800_000_000_000
    traces = -(-spans // SPANS_PER_TRACE)
    messages = []
    for first in range(0, traces, _TRACES_PER_MESSAGE):
        request = ExportTraceServiceRequest()
        storefront = _scope(request, "storefront", region, ours=ours)
        catalog = _scope(request, "catalog", region, ours=ours)
        for number in range(first, min(first + _TRACES_PER_MESSAGE, traces)):
            start = begin + number * 1_800_000_000_000 // traces
            _trace(rng, start, storefront, catalog)
        messages.append(request.SerializeToString())
    return messages


def _scope(
    request: ExportTraceServiceRequest, service: str, region: str, *, ours: bool
) -> ScopeSpans:
    resource = request.resource_spans.add()
    for key, value in (
        ("service.name", service),
        ("service.version", "1.5.0"),
        ("service.instance.id", f"{service}-{region}-0"),
        ("deployment.environment.name", "production"),
        ("cloud.region", region),
        ("telemetry.sdk.language", "python"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.45.2"),
        *([LIST_APPLIED] if ours else []),
    ):
        resource.resource.attributes.append(_pair(key, value))
    scope = resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.fastapi"
    scope.scope.version = "0.66b2"
    return scope


def _trace(rng: random.Random, start: int, storefront: ScopeSpans, catalog: ScopeSpans) -> None:
    method, route, statement = rng.choice(_ROUTES)
    trace_id = rng.randbytes(16)
    total = int(rng.lognormvariate(17.5, 0.6))
    path = route.replace("{", "").replace("}", str(rng.randrange(10_000)))
    http = {"http.request.method": method, "url.scheme": "http", "network.protocol.version": "1.1"}
    answer = {"http.response.status_code": 500 if rng.random() < 0.01 else 200}
    server = _span(
        storefront, rng, trace_id, b"", f"{method} {route}", Span.SPAN_KIND_SERVER, start, total,
        {**http, **answer, "http.route": route, "url.path": path, "server.address": "shop.example", "server.port": 443,
         "client.address": "198.51.100.0", "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)"},
    )  # fmt: skip
    call = _span(
        storefront, rng, trace_id, server, method, Span.SPAN_KIND_CLIENT, start + total // 10, total * 7 // 10,
        {**http, **answer, "server.address": "catalog", "server.port": 8080},
    )  # fmt: skip
    inner = _span(
        catalog, rng, trace_id, call, f"{method} /items", Span.SPAN_KIND_SERVER, start + total // 9, total * 6 // 10,
        {**http, **answer, "http.route": "/items", "url.path": "/items", "server.address": "catalog"},
    )  # fmt: skip
    for offset, share in ((8, 3), (3, 2)):
        _span(
            catalog, rng, trace_id, inner, f"{statement} shop", Span.SPAN_KIND_CLIENT, start + total // offset,
            total * share // 10,
            {"db.system.name": "sqlite", "db.namespace": "shop", "db.operation.name": statement,
             "db.query.text": f"{statement} ... FROM item WHERE id = ?"},
        )  # fmt: skip
    _span(
        storefront, rng, trace_id, server, "render", Span.SPAN_KIND_INTERNAL, start + total * 8 // 10, total // 10,
        {"shop.template": route},
    )  # fmt: skip


def _span(  # noqa: PLR0917 - a table of spans reads best without names at each value
    scope: ScopeSpans,
    rng: random.Random,
    trace_id: bytes,
    parent: bytes,
    name: str,
    kind: Span.SpanKind.ValueType,
    start: int,
    duration: int,
    attributes: dict[str, str | int],
) -> bytes:
    span = scope.spans.add()
    span.trace_id = trace_id
    span.span_id = rng.randbytes(8)
    span.parent_span_id = parent
    span.name = name
    span.kind = kind
    span.start_time_unix_nano = start
    span.end_time_unix_nano = start + duration
    span.attributes.extend(_pair(key, value) for key, value in attributes.items())
    return span.span_id


def _pair(key: str, value: str | int) -> KeyValue:
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))
