"""The instrumentation's own OTLP encoder, against OpenTelemetry's protobuf classes."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from mobius_instrumentation.allowlist import LIST_APPLIED, AttributePolicy
from mobius_instrumentation.redaction import clean_text
from mobius_instrumentation.wire import SpanEncoder, build_request
from tests.fuzz.draw import Draw
from tests.fuzz.target import Target

__all__ = ["TARGET"]

_NAMES: Final = (
    "http.route",
    "url.full",
    "url.query",
    "exception.message",
    "secret",
    "k",
    "http.method",
    "",
)
_POLICIES: Final = (
    AttributePolicy(),
    AttributePolicy.with_extra(["url.full", "url.query", "k", "", "exception.message"]),
)
_TEXTS: Final = (
    "", "/a/{id}", "https://me:word@h.example/p?q=1#f", "a@b.example", "bearer abc.def", "\ud800", "x" * 5_000, "ü€😀\x00",
)  # fmt: skip
_NUMBERS: Final = (0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**30)
# One encoder for many inputs, as in a service: what it remembers must not change what it writes.
_ENCODERS: Final = tuple(SpanEncoder(policy) for policy in _POLICIES)


def _text(draw: Draw) -> str:
    return draw.text(60) if draw.one_in(2) else draw.pick(_TEXTS)


def _value(draw: Draw, depth: int = 0) -> Any:
    choice = draw.below(8)
    if choice < 2:
        return _text(draw)
    if choice == 2:
        return bool(draw.below(2))
    if choice == 3:
        return draw.pick(_NUMBERS) if draw.one_in(2) else draw.number(8) - (1 << 63)
    if choice == 4:
        return struct.unpack("<d", draw.take(8).ljust(8, b"\0"))[0]
    if choice == 5 and depth < 3:
        return tuple(_value(draw, depth + 1) for _ in range(draw.below(4)))
    return draw.pick((None, b"x", {"a": 1}, 1, 1.0, "1"))


def _attributes(draw: Draw) -> dict[str, Any]:
    return {draw.pick(_NAMES): _value(draw) for _ in range(draw.below(6))}


def _context(draw: Draw) -> SpanContext:
    states: list[tuple[str, str]] = [("ot", "th:8"), ("v", "1")][: draw.below(3)]
    return SpanContext(
        draw.number(16), draw.number(8), bool(draw.below(2)), TraceFlags(draw.below(256)), TraceState(states)
    )  # fmt: skip


def _span(draw: Draw) -> ReadableSpan:
    start = draw.number(8)
    return ReadableSpan(
        name=_text(draw),
        context=_context(draw),
        parent=_context(draw) if draw.below(2) else None,
        resource=Resource({"service.name": _text(draw), "secret": "s", "cloud.region": "eu-west-1"}),
        instrumentation_scope=InstrumentationScope(_text(draw), draw.pick((None, "1"))) if draw.below(2) else None,
        kind=draw.pick(tuple(SpanKind)),
        status=Status(code := draw.pick(tuple(StatusCode)), _text(draw) if code is StatusCode.ERROR else None),
        start_time=start,
        end_time=min(start + draw.number(5), 2**64 - 1),
        attributes=_attributes(draw),
        events=[Event(_text(draw), _attributes(draw), draw.number(8)) for _ in range(draw.below(3))],
        links=[Link(_context(draw), _attributes(draw)) for _ in range(draw.below(3))],
    )  # fmt: skip


# ---------------------------------------------------------------------------- what it should be


def _sent(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _expected_value(policy: AttributePolicy, name: str, value: Any) -> AnyValue | None:
    if isinstance(value, str):
        return AnyValue(string_value=_sent(policy.clean(name, value)))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -(1 << 63) <= value < 1 << 63 else None
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if not isinstance(value, tuple):
        return None
    result = AnyValue()
    result.array_value.SetInParent()
    items = [_expected_value(policy, name, item) for item in value]
    result.array_value.values.extend(item for item in items if item is not None)
    return result


def _expected(
    policy: AttributePolicy, attributes: Mapping[str, Any] | None
) -> tuple[list[KeyValue], int]:
    pairs = [
        (name, _expected_value(policy, name, value) if name in policy.allowed else None)
        for name, value in (attributes or {}).items()
    ]
    kept = [KeyValue(key=name, value=value) for name, value in pairs if value is not None]
    return kept, len(pairs) - len(kept)


def _state(context: SpanContext) -> str:
    own = context.trace_state.get("ot")
    kept = [
        entry
        for entry in (own or "").split(";")
        if re.fullmatch(r"(?:th|rv):[0-9a-f]{1,14}", entry)
    ]
    return f"ot={';'.join(kept)}" if kept else ""


def _expected_span(policy: AttributePolicy, span: ReadableSpan) -> tuple[Span, int]:
    context, parent = span.context, span.parent
    assert span.start_time is not None
    assert span.end_time is not None
    attributes, removed = _expected(policy, span.attributes)
    result = Span(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id.to_bytes(8, "big"),
        trace_state=_state(context),
        parent_span_id=b"" if parent is None else parent.span_id.to_bytes(8, "big"),
        name=_sent(clean_text(span.name)),
        kind=Span.SpanKind.ValueType(span.kind.value + 1),
        start_time_unix_nano=span.start_time,
        end_time_unix_nano=span.end_time,
        attributes=attributes,
        dropped_attributes_count=removed + span.dropped_attributes,
        flags=context.trace_flags | 0x100 | (0x200 if parent is not None and parent.is_remote else 0),
    )  # fmt: skip
    for event in span.events:
        kept, lost = _expected(policy, event.attributes)
        result.events.add(
            time_unix_nano=event.timestamp,
            name=_sent(clean_text(event.name)),
            attributes=kept,
            dropped_attributes_count=lost,
        )
        removed += lost
    for link in span.links:
        kept, lost = _expected(policy, link.attributes)
        result.links.add(
            trace_id=link.context.trace_id.to_bytes(16, "big"),
            span_id=link.context.span_id.to_bytes(8, "big"),
            trace_state=_state(link.context),
            attributes=kept,
            dropped_attributes_count=lost,
        )
        removed += lost
    if span.status.status_code is not StatusCode.UNSET:
        result.status.code = span.status.status_code.value
        if policy.keeps_messages and span.status.description:
            result.status.message = _sent(clean_text(span.status.description))
    return result, removed


def check(data: bytes) -> bool:
    """What the encoder writes reads back as what the protobuf library would have written, bit for bit."""
    draw = Draw(data)
    place = draw.below(2)
    policy, encoder = _POLICIES[place], _ENCODERS[place]
    spans = [_span(draw) for _ in range(1 + draw.below(2))]
    encoded = [encoder.span(span) for span in spans]
    request = ExportTraceServiceRequest.FromString(build_request(item for item, _ in encoded))
    found = [
        (resource.resource, scope.scope, span)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(found) == len(spans)
    for span, (_, removed) in zip(spans, encoded, strict=True):
        wanted, lost = _expected_span(policy, span)
        same = wanted.SerializeToString(deterministic=True)
        match = next((f for f in found if f[2].SerializeToString(deterministic=True) == same), None)
        assert match is not None, wanted
        found.remove(match)
        names = {pair.key for pair in match[0].attributes}
        assert names == {LIST_APPLIED[0], "service.name", "cloud.region"}
        assert removed >= lost
        scope = span.instrumentation_scope
        assert match[1].name == ("" if scope is None else _sent(clean_text(scope.name)))
    return True


def seeds() -> Sequence[bytes]:
    """Decisions of several lengths."""
    return [
        b"\x00", b"\x01", bytes(range(256)), bytes(range(256)) * 3, b"\x01" + bytes(range(255, 0, -1)) * 2,
    ]  # fmt: skip


TARGET: Final = Target(check, seeds)
