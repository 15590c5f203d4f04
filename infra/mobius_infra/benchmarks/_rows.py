"""The usual way in, for comparison: walks the spans of OTLP messages in Python and makes rows of them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["COLUMNS", "Walked", "rows", "walk"]

COLUMNS: Final = (
    "problem", "start", "duration_ns", "trace_id", "span_id", "parent_span_id", "trace_state", "name", "kind",
    "status_code", "status_message", "region", "service", "version", "environment", "instance", "method", "route",
    "http_status", "source", "test_run", "weight", "attributes", "resource_attributes", "scope_name", "scope_version",
    "events.time", "events.name", "events.attributes", "links.trace_id", "links.span_id", "links.attributes",
    "kafka_partition", "kafka_offset",
)  # fmt: skip
"""Columns of `span_rows`, in the order of a row of :func:`rows`."""

_OWN_COLUMNS: Final = {
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "mobius.test.run",
}
_OWN_RESOURCE: Final = {
    "cloud.region",
    "service.name",
    "service.version",
    "deployment.environment.name",
    "service.instance.id",
}
_NO_PARENT: Final = bytes(8)

Walked = tuple[int, int, dict[str, str], str, str, Span, dict[str, str]]
"""Partition, offset, resource attributes, scope name and version, span, span attributes."""


def walk(messages: Iterable[bytes]) -> Iterator[Walked]:
    """Parse messages and yield every span with what belongs to it."""
    for offset, message in enumerate(messages):
        request = ExportTraceServiceRequest.FromString(message)
        for resource_spans in request.resource_spans:
            resource = _text_map(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                name, version = scope_spans.scope.name, scope_spans.scope.version
                for span in scope_spans.spans:
                    yield 0, offset, resource, name, version, span, _text_map(span.attributes)


def rows(messages: Iterable[bytes]) -> Iterator[tuple[Any, ...]]:
    """Rows of `span_rows`, as the materialized view makes them of the bytes."""
    for partition, offset, resource, scope_name, scope_version, span, attributes in walk(messages):
        yield (
            "",
            span.start_time_unix_nano,
            span.end_time_unix_nano - span.start_time_unix_nano,
            span.trace_id,
            span.span_id,
            span.parent_span_id or _NO_PARENT,
            span.trace_state,
            span.name,
            span.kind,
            span.status.code,
            span.status.message,
            resource.get("cloud.region", ""),
            resource.get("service.name", ""),
            resource.get("service.version", ""),
            resource.get("deployment.environment.name", ""),
            resource.get("service.instance.id", ""),
            attributes.get("http.request.method", ""),
            attributes.get("http.route", span.name),
            int(attributes.get("http.response.status_code", 0)),
            1 if "mobius.test.run" in attributes else 0,
            attributes.get("mobius.test.run", ""),
            1.0,
            {key: value for key, value in attributes.items() if key not in _OWN_COLUMNS},
            {key: value for key, value in resource.items() if key not in _OWN_RESOURCE},
            scope_name,
            scope_version,
            [event.time_unix_nano for event in span.events],
            [event.name for event in span.events],
            [_text_map(event.attributes) for event in span.events],
            [link.trace_id for link in span.links],
            [link.span_id for link in span.links],
            [_text_map(link.attributes) for link in span.links],
            partition,
            offset,
        )


def _text_map(pairs: Iterable[KeyValue]) -> dict[str, str]:
    return {pair.key: _text(pair.value) for pair in pairs}


def _text(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return "" if kind is None else str(getattr(value, kind))
