"""The wire: OTLP ``ExportTraceServiceRequest`` messages, checked in Python, exploded by ClickHouse.

The worker never walks spans. It parses a message once with the C protobuf runtime, which tells whether ClickHouse
will be able to read it, and hands on the original bytes with three more fields appended: Kafka's partition and offset,
and the moment until which the engine may take them. Protobuf lets the last value of a field win, so a message cannot
bring a position of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import zstandard
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

__all__ = [
    "INSERT_SETTINGS",
    "TABLE",
    "WireError",
    "WireLimits",
    "check_limits",
    "count_spans",
    "decode",
    "envelope",
    "parse",
    "varint",
]

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
message Wire { repeated ResourceSpans resource_spans = 1; uint32 kafka_partition = 101; uint64 kafka_offset = 102;
  uint64 not_after = 103; }
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


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What a message may be at most; more is poison, told before it costs memory here or in the engine.

    Attributes
    ----------
    encoded_bytes, decoded_bytes
        Of a message, before and after its content encoding is undone.
    span_bytes
        Of one span with its events and links, or of one resource.
    attributes
        Of one span with its events and links, or of one resource. At least two bytes each, so that a message below
        twice as many bytes need not be walked.
    """

    encoded_bytes: int = 8 << 20
    decoded_bytes: int = 16 << 20
    span_bytes: int = 1 << 20
    attributes: int = 65_536


_LIMITS: Final = WireLimits()


def decode(value: bytes | None, encoding: str = "", limits: WireLimits = _LIMITS) -> bytes:
    """Undo a message's content encoding (``""``, ``identity``, ``gzip``, ``zstd``).

    Stops as soon as the output is over its limit, however small the input is.

    Raises
    ------
    WireError
        There are no bytes, the encoding is unknown, the bytes are not of it or end too early, or a limit is passed.
    """
    if value is None:
        raise WireError("the record has no value")
    if len(value) > limits.encoded_bytes:
        raise WireError(f"{len(value)} bytes; a message may have {limits.encoded_bytes}")
    if encoding in {"", "identity"}:
        return value
    if encoding not in {"gzip", "zstd"}:
        raise WireError(f"content-encoding {encoding[:40]!r} is not known; known: gzip, zstd")
    try:
        return _gunzip(value, limits) if encoding == "gzip" else _unzstd(value, limits)
    except (zlib.error, zstandard.ZstdError) as error:
        raise WireError(f"not {encoding}: {error}"[:300]) from error


# What follows a member is copied for each of them, so that 8 MiB of empty ones would take a minute if given at once.
_GZIP_SLICE: Final = 16 << 10


def _gunzip(value: bytes, limits: WireLimits) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    size = position = 0
    while position < len(value):
        if stream.eof:
            stream = zlib.decompressobj(wbits=31)
        part = value[position : position + _GZIP_SLICE]
        parts.append(stream.decompress(part, limits.decoded_bytes - size + 1))
        position += len(part) - len(stream.unused_data)
        size += len(parts[-1])
        _bound(size, limits)
    if not stream.eof:
        raise WireError("gzip data end too early")
    return b"".join(parts)


# Four bytes of zstd can stand for a block of 128 KiB, so a slice of this size gives 8 MiB at most.
_ZSTD_SLICE: Final = 256


def _unzstd(value: bytes, limits: WireLimits) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=max(limits.decoded_bytes, 1 << 20))
    stream = decompressor.decompressobj()
    parts: list[bytes] = []
    size = position = 0
    while position < len(value):
        if stream.eof:
            stream = decompressor.decompressobj()
        part = value[position : position + _ZSTD_SLICE]
        parts.append(stream.decompress(part))
        position += len(part) - len(stream.unused_data)
        size += len(parts[-1])
        _bound(size, limits)
    if not stream.eof:
        raise WireError("zstd data end too early")
    return b"".join(parts)


def _bound(size: int, limits: WireLimits) -> None:
    if size > limits.decoded_bytes:
        raise WireError(f"over {limits.decoded_bytes} bytes when decompressed")


def parse(value: bytes | None, limits: WireLimits = _LIMITS) -> ExportTraceServiceRequest:
    """Parse one message.

    Raises
    ------
    WireError
        There are no bytes, they are no ``ExportTraceServiceRequest``, they hold none of its fields, or a span or
        resource in them is beyond the limits.
    """
    if value is None:
        raise WireError("the record has no value")
    if len(value) > limits.decoded_bytes:
        raise WireError(f"{len(value)} bytes; a message may have {limits.decoded_bytes}")
    try:
        request = ExportTraceServiceRequest.FromString(value)
    except DecodeError as error:
        raise WireError(
            f"not an OTLP ExportTraceServiceRequest in protobuf: {error}"[:300]
        ) from error
    if value and not request.resource_spans:
        raise WireError("bytes that happen to be protobuf, but hold no resource spans")
    if len(value) > min(limits.span_bytes, 2 * limits.attributes):
        for resource in request.resource_spans:
            check_limits(resource, limits)
    return request


def check_limits(item: ResourceSpans, limits: WireLimits = _LIMITS) -> None:
    """Check the resource, the scopes and the spans of ``item`` by themselves.

    Raises
    ------
    WireError
        One of them is beyond the limits.
    """
    own = item.resource
    _check("a resource", own.ByteSize(), len(own.attributes), limits)
    for scope in item.scope_spans:
        own_scope = scope.scope
        _check("a scope", own_scope.ByteSize(), len(own_scope.attributes), limits)
        for span in scope.spans:
            _check("a span", span.ByteSize(), _attributes(span), limits)


def _attributes(span: Span) -> int:
    nested = sum(len(event.attributes) for event in span.events)
    return len(span.attributes) + nested + sum(len(link.attributes) for link in span.links)


def _check(what: str, size: int, attributes: int, limits: WireLimits) -> None:
    if attributes > limits.attributes:
        raise WireError(f"{what} with {attributes} attributes; it may have {limits.attributes}")
    if size > limits.span_bytes:
        raise WireError(f"{what} of {size} bytes; it may have {limits.span_bytes}")


def count_spans(resources: Iterable[ResourceSpans]) -> int:
    """Count the spans of a message's resources."""
    return sum(len(scope.spans) for resource in resources for scope in resource.scope_spans)


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
_NOT_AFTER_TAG: Final = varint(103 << 3)


def envelope(messages: Iterable[tuple[bytes, int, int]], not_after_ms: int = 0) -> bytes:
    """Join (message, partition, offset) triples into the body of an insert: length-delimited ``Wire`` messages.

    The engine refuses the body after ``not_after_ms`` (milliseconds since 1970, by its own clock; 0: never).
    """
    parts: list[bytes] = []
    fence = _NOT_AFTER_TAG + varint(not_after_ms)
    for message, partition, offset in messages:
        position = _PARTITION_TAG + varint(partition) + _OFFSET_TAG + varint(offset) + fence
        parts += (varint(len(message) + len(position)), message, position)
    return b"".join(parts)
