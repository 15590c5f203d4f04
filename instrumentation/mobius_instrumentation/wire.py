"""Spans of the SDK as OTLP protobuf (opentelemetry/proto/trace/v1/trace.proto, proto version 1).

Written out by hand, because building a message object for each attribute costs several times as much.
Each attribute's bytes are remembered, since most repeat from span to span: a remembered one was allowed
and cleaned when it was first written. Tests read everything back with the generated protobuf classes.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mobius_instrumentation.allowlist import LIST_APPLIED, AttributePolicy
from mobius_instrumentation.redaction import clean_text
from mobius_instrumentation.subjects import SUBJECT

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext
    from opentelemetry.trace.span import TraceState

__all__ = ["EncodedSpan", "Group", "SpanEncoder", "build_request"]

_MEMORY: Final = 4096  # remembered attributes and names; short texts only, so at most about 1 MB
_REMEMBERED_BYTES: Final = 128
_FIXED64: Final = struct.Struct("<Q")
_DOUBLE: Final = struct.Struct("<d")
_TIMES: Final = struct.Struct("<BQBQ")  # start_time_unix_nano (7), end_time_unix_nano (8)
_FLAGS: Final = struct.Struct("<BBI")  # flags (16)
_KINDS: Final = tuple(
    bytes([6 << 3, kind + 1]) for kind in range(5)
)  # SpanKind of OTLP begins at 1
_TAGS: Final = tuple(bytes((number << 3 | 2,)) for number in range(16))
_SAMPLING: Final = re.compile(r"(?:(?<=;)|^)(?:th:[0-9a-f]{1,14}|rv:[0-9a-f]{1,14})(?=;|$)")
_INT64: Final = 0xFFFF_FFFF_FFFF_FFFF


class Group(NamedTuple):
    """Where a span belongs in a message: its resource and scope, both encoded."""

    resource: bytes
    scope: bytes


class EncodedSpan(NamedTuple):
    """A span as a field of ``ScopeSpans``, and the group that it belongs to."""

    group: Group
    field: bytes


def varint(value: int) -> bytes:
    """Encode an unsigned integer as a base-128 varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited field (number below 16)."""
    return bytes((number << 3 | 2,)) + varint(len(payload)) + payload


def text(number: int, value: str) -> bytes:
    """Encode a string field; lone surrogates, which UTF-8 cannot carry, become question marks."""
    return field(number, value.encode("utf-8", "replace"))


_LIST_APPLIED: Final = field(1, text(1, LIST_APPLIED[0]) + field(2, text(1, LIST_APPLIED[1])))


class SpanEncoder:
    """Encodes the spans of one exporter under its allow-list.

    Not safe for several threads at once in its count of removed attributes: the caller adds up what
    :meth:`span` returns. The memory of attributes may be shared: its entries are immutable.

    Attributes
    ----------
    redacted
        Values of allowed attributes, and names, in which something was replaced or cut.
    """

    def __init__(self, policy: AttributePolicy) -> None:
        self.redacted = 0
        self._counting = threading.Lock()
        self._policy = policy
        self._allowed = policy.allowed
        self._attributes: dict[tuple[str, str | int], bytes] = {}
        self._doubles: dict[str, bytes] = {}
        self._names: dict[str, bytes] = {}
        self._groups: dict[tuple[int, int], tuple[object, object, Group]] = {}

    def span(self, span: ReadableSpan, *, unweighted: bool = False) -> tuple[EncodedSpan, int]:
        """Encode ``span``; returns also how many attributes the allow-list removed.

        Parameters
        ----------
        unweighted
            It was kept whatever the probability: it is written as sampled, and stands for itself alone.

        Raises
        ------
        Exception
            Whatever a malformed span leads to; the caller counts it as an ``encode_error``.
        """
        context = span.context
        if context is None or span.start_time is None or span.end_time is None:
            raise ValueError("the span has no context, or has not ended")
        group, removed = self._group(span)
        parts = [
            b"\x0a\x10",
            context.trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            context.span_id.to_bytes(8, "big"),
            b"" if unweighted else _trace_state(3, context.trace_state),
        ]
        parent = span.parent
        if parent is not None:
            parts += b"\x22\x08", parent.span_id.to_bytes(8, "big")
        parts += (
            self._name(span.name),
            _KINDS[span.kind.value],
            _TIMES.pack(7 << 3 | 1, span.start_time, 8 << 3 | 1, span.end_time),
        )
        lost = self._write(9, span.attributes, parts)
        removed += lost
        lost += span.dropped_attributes
        if lost:
            parts.append(b"\x50" + varint(lost))
        for event in span.events:
            removed += self._event(event, parts)
        for link in span.links:
            removed += self._link(link, parts)
        parts += self._status(span), _flags(context, parent, unweighted)
        payload = b"".join(parts)
        return EncodedSpan(group, b"\x12" + varint(len(payload)) + payload), removed

    def _group(self, span: ReadableSpan) -> tuple[Group, int]:
        resource, scope = span.resource, span.instrumentation_scope
        key = (id(resource), id(scope))
        known = self._groups.get(key)
        if known is not None:
            return known[2], 0
        if len(self._groups) >= _MEMORY:
            self._groups.clear()
        encoded, removed = self._resource(resource)
        group = Group(encoded, _scope(scope))
        # The objects are kept with the entry, so that no other can get their ids.
        self._groups[key] = (resource, scope, group)
        return group, removed

    def _resource(self, resource: Resource) -> tuple[bytes, int]:
        parts = [_LIST_APPLIED]
        removed = self._write(1, resource.attributes, parts)
        if removed:
            parts.append(b"\x10" + varint(removed))
        return field(1, b"".join(parts)), removed

    def _name(self, name: str) -> bytes:
        known = self._names.get(name)
        if known is None:
            cleaned = clean_text(name)
            known = text(5, cleaned)
            if cleaned != name:
                self._count_redaction()
            elif len(name) <= _REMEMBERED_BYTES:
                if len(self._names) >= _MEMORY:
                    self._names.clear()
                self._names[name] = known
        return known

    def _write(self, number: int, attributes: Mapping[str, Any] | None, parts: list[bytes]) -> int:
        """Append the allowed ``attributes`` as fields ``number``; return how many were not."""
        if not attributes:
            return 0
        # The SDK's mappings are written in Python: their own copy is a plain dictionary, and far
        # quicker to read.
        copy = getattr(attributes, "copy", None)
        plain: Mapping[str, Any] = attributes if copy is None else copy()
        tag = _TAGS[number]
        allowed, known, doubles = self._allowed, self._attributes, self._doubles
        add = parts.append
        removed = 0
        for key, value in plain.items():
            kind = type(value)
            if kind is float:
                # Measures hardly ever repeat: only their names are remembered.
                begin = doubles.get(key)
                if begin is not None:
                    add(tag + begin + _DOUBLE.pack(value))
                    continue
            elif kind is str or kind is int:
                body = known.get((key, value))
                if body is not None:
                    add(tag)
                    add(body)
                    continue
            before = self.redacted
            body = self._pair(key, value) if key in allowed else None
            if body is None:
                removed += 1
                continue
            if kind is float:
                doubles[key] = body[:-8]
            elif (
                (kind is str or kind is int)
                and len(body) <= _REMEMBERED_BYTES
                and key != SUBJECT  # as many values as users: they would push out all others
                and self.redacted == before  # what is remembered would not be counted again
            ):
                if len(known) >= _MEMORY:
                    known.clear()
                known[key, value] = body
            add(tag)
            add(body)
        return removed

    def _pair(self, key: str, value: object) -> bytes | None:
        """Encode length and bytes of a ``KeyValue``; None for what the allow-list cannot judge."""
        encoded = self._value(key, value)
        if encoded is None:
            return None
        body = text(1, key) + field(2, encoded)
        return varint(len(body)) + body

    def _value(self, key: str, value: object) -> bytes | None:
        if isinstance(value, str):
            cleaned = self._policy.clean(key, value)
            if cleaned != value:
                self._count_redaction()
            return text(1, cleaned)
        if isinstance(value, bool):
            return b"\x10\x01" if value else b"\x10\x00"
        if isinstance(value, int):
            if not -(1 << 63) <= value < 1 << 63:
                return None
            return b"\x18" + varint(value & _INT64)
        if isinstance(value, float):
            return b"\x21" + struct.pack("<d", value)
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            items = [self._value(key, item) for item in value]
            return field(5, b"".join(field(1, item) for item in items if item is not None))
        return (
            None  # bytes and mappings: nobody can say what is inside; no room for longer integers
        )

    def _count_redaction(self) -> None:
        with self._counting:
            self.redacted += 1

    def _event(self, event: Event, parts: list[bytes]) -> int:
        body = [b"\x09" + _FIXED64.pack(event.timestamp), text(2, clean_text(event.name))]
        removed = self._write(3, event.attributes, body)
        if removed:
            body.append(b"\x20" + varint(removed))
        parts.append(field(11, b"".join(body)))
        return removed

    def _link(self, link: Link, parts: list[bytes]) -> int:
        context = link.context
        body = [
            b"\x0a\x10" + context.trace_id.to_bytes(16, "big"),
            b"\x12\x08" + context.span_id.to_bytes(8, "big"),
            _trace_state(3, context.trace_state),
        ]
        removed = self._write(4, link.attributes, body)
        if removed:
            body.append(b"\x28" + varint(removed))
        parts.append(field(13, b"".join(body)))
        return removed

    def _status(self, span: ReadableSpan) -> bytes:
        status = span.status
        code = status.status_code.value
        if not code:
            return b""
        message = b""
        if status.description and self._policy.keeps_messages:
            message = text(2, clean_text(status.description))
        return field(15, message + b"\x18" + bytes((code,)))


def _scope(scope: InstrumentationScope | None) -> bytes:
    if scope is None:
        return b""
    return field(1, text(1, clean_text(scope.name)) + text(2, scope.version or ""))


def _trace_state(number: int, state: TraceState | None) -> bytes:
    own = state.get("ot") if state else None
    kept = sampling_state(own) if own else ""
    return text(number, kept) if kept else b""


def sampling_state(own: str) -> str:
    """Keep sampling threshold and randomness of OpenTelemetry's own entry of a trace state; all else may hold anything."""
    kept = ";".join(_SAMPLING.findall(own))
    return f"ot={kept}" if kept else ""


def _flags(context: SpanContext, parent: SpanContext | None, sampled: bool) -> bytes:  # noqa: FBT001  # one caller
    remote = 0x100 | (0x200 if parent is not None and parent.is_remote else 0)
    return _FLAGS.pack(0x85, 0x01, context.trace_flags & 0xFF | remote | sampled)


def build_request(spans: Iterable[EncodedSpan]) -> bytes:
    """Assemble one ``ExportTraceServiceRequest``: spans of one resource and scope stand together."""
    resources: dict[bytes, dict[bytes, list[bytes]]] = {}
    for (resource, scope), encoded in spans:
        resources.setdefault(resource, {}).setdefault(scope, []).append(encoded)
    return b"".join(
        field(
            1, resource + b"".join(field(2, scope + b"".join(own)) for scope, own in scopes.items())
        )
        for resource, scopes in resources.items()
    )
