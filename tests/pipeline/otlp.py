"""Builds OTLP messages and publishes them, for tests of the pipeline."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from kafka import KafkaProducer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from mobius_instrumentation.allowlist import LIST_APPLIED
from mobius_instrumentation.zones import Zone

SECOND = 1_000_000_000


def key_value(key: str, value: str | bool | float | bytes) -> KeyValue:
    pair = KeyValue(key=key)
    if isinstance(value, bool):
        pair.value.bool_value = value
    elif isinstance(value, int):
        pair.value.int_value = value
    elif isinstance(value, float):
        pair.value.double_value = value
    elif isinstance(value, bytes):
        pair.value.bytes_value = value
    else:
        pair.value.string_value = value
    return pair


def make_span(
    *,
    trace_id: bytes | None = None,
    span_id: bytes | None = None,
    start_ns: int | None = None,
    duration_ns: int = 25_000_000,
    attributes: dict[str, Any] | None = None,
    **fields: Any,
) -> Span:
    """A server span of GET /orders/{order_id}, answered with 200; fields may be overridden."""
    start = time.time_ns() - SECOND if start_ns is None else start_ns
    values = {
        "http.request.method": "GET",
        "http.route": "/orders/{order_id}",
        "http.response.status_code": 200,
        **(attributes or {}),
    }
    return Span(
        trace_id=os.urandom(16) if trace_id is None else trace_id,
        span_id=os.urandom(8) if span_id is None else span_id,
        start_time_unix_nano=start,
        end_time_unix_nano=max(0, start + duration_ns),
        attributes=[key_value(k, v) for k, v in values.items() if v is not None],
        **{"name": "GET /orders/{order_id}", "kind": Span.SPAN_KIND_SERVER, **fields},
    )


def make_resource(
    spans: Sequence[Span],
    *,
    region: str | None = "eu-west-1",
    service: str = "shop",
    ours: bool = True,
    **attributes: str,
) -> ResourceSpans:
    """Spans of one resource, as our package sends them unless not ``ours``."""
    resource = ResourceSpans()
    values = {
        **dict([LIST_APPLIED] if ours else []),
        "service.name": service,
        "service.version": "1.4.0",
        "deployment.environment.name": "production",
    }
    if region is not None:
        values["cloud.region"] = region
    for key, value in {**values, **attributes}.items():
        resource.resource.attributes.append(key_value(key, value))
    scope = resource.scope_spans.add()
    scope.scope.name = "tests"
    scope.spans.extend(spans)
    return resource


def make_message(*resources: ResourceSpans) -> bytes:
    return ExportTraceServiceRequest(resource_spans=resources).SerializeToString()


def publish(zone: Zone, messages: Iterable[tuple[int, bytes | None]]) -> list[tuple[int, int]]:
    """Publish (partition, message) pairs; returns their (partition, offset)."""
    producer = KafkaProducer(bootstrap_servers=list(zone.kafka), acks="all", linger_ms=5)
    futures = [
        producer.send(
            zone.spans_topic, key=b"" if value is None else None, value=value, partition=number
        )
        for number, value in messages
    ]
    producer.flush(timeout=30)
    producer.close()
    return [(future.get().partition, future.get().offset) for future in futures]
