"""The wire: OTLP ``ExportTraceServiceRequest`` messages, checked in Python, exploded by ClickHouse.

The worker never walks spans. It parses a message once with the C protobuf runtime, which tells whether ClickHouse
will be able to read it, and hands on the original bytes with the Kafka partition and offset appended as two more
fields. Protobuf lets the last value of a field win, so a message cannot bring a position of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["INSERT_SETTINGS", "TABLE", "WireError", "count_spans", "envelope", "parse", "varint"]

TABLE: Final = "span_wire"

# opentelemetry/proto/collector/trace/v1/trace_service.proto and what it imports, without what no column takes,
# and with the position. Fields that are not named here are skipped by the engine.
_SCHEMA: Final = """
syntax = "proto3";
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3;
  double double_value = 4; bytes bytes_value = 7; } }
message KeyValue { string key = 1; AnyValue value = 2; }
message Event { fixed64 time_unix_nano = 1; string name = 2; repeated KeyValue attributes = 3; }
message Link { bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; repeated KeyValue attributes = 4; }
message Status { string message = 2; int32 code = 3; }
message Span { bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; bytes parent_span_id = 4;
  string name = 5; int32 kind = 6; fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8;
  repeated KeyValue attributes = 9; repeated Event events = 11; repeated Link links = 13; Status status = 15; }
message Scope { string name = 1; string version = 2; }
message ScopeSpans { Scope scope = 1; repeated Span spans = 2; }
message Resource { repeated KeyValue attributes = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Wire { repeated ResourceSpans resource_spans = 1; uint32 kafka_partition = 101; uint64 kafka_offset = 102; }
"""

INSERT_SETTINGS: Final[dict[str, str]] = {
    # The schema travels with the insert: no file on the server to keep in step with this code.
    "format_schema_source": "string",
    "format_schema": " ".join(_SCHEMA.split()),
    "format_schema_message_name": "Wire",
    # Tells an attribute "" from one of another type.
    "input_format_protobuf_oneof_presence": "1",
}


class WireError(ValueError):
    """The bytes are no message that this pipeline can read; the text says why."""


def parse(value: bytes | None) -> ExportTraceServiceRequest:
    """Parse one message.

    Raises
    ------
    WireError
        There are no bytes, they are no ``ExportTraceServiceRequest``, or they hold none of its fields.
    """
    if value is None:
        raise WireError("the record has no value")
    try:
        request = ExportTraceServiceRequest.FromString(value)
    except DecodeError as error:
        raise WireError(
            f"not an OTLP ExportTraceServiceRequest in protobuf: {error}"[:300]
        ) from error
    if value and not request.resource_spans:
        raise WireError("bytes that happen to be protobuf, but hold no resource spans")
    return request


def count_spans(request: ExportTraceServiceRequest) -> int:
    """Count the spans of a message."""
    return sum(
        len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
    )


def varint(value: int) -> bytes:
    """Encode ``value`` (not negative) as protobuf's base-128 varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_PARTITION_TAG: Final = varint(101 << 3)
_OFFSET_TAG: Final = varint(102 << 3)


def envelope(messages: Iterable[tuple[bytes, int, int]]) -> bytes:
    """Join (message, partition, offset) triples into the body of an insert: length-delimited ``Wire`` messages."""
    parts: list[bytes] = []
    for message, partition, offset in messages:
        position = _PARTITION_TAG + varint(partition) + _OFFSET_TAG + varint(offset)
        parts += (varint(len(message) + len(position)), message, position)
    return b"".join(parts)
