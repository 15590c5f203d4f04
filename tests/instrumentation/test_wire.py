"""Everything is read back with the protobuf classes that OpenTelemetry publishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
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

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.testing import decode_request
from mobius_instrumentation.wire import SpanEncoder, build_request

RESOURCE = Resource({"service.name": "shop", "cloud.region": "eu-west-1"})
SCOPE = InstrumentationScope("a.library", "1.2")
VALUES = st.one_of(
    st.text(max_size=80),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(st.integers(-5, 2**40), max_size=4).map(tuple),
    st.lists(st.text(alphabet="abc ü☃", max_size=6), max_size=4).map(tuple),
)


def context(
    trace_id: int = 1, span_id: int = 2, *, remote: bool = False, state: str = ""
) -> SpanContext:
    return SpanContext(
        trace_id, span_id, remote, TraceFlags(1), TraceState.from_header([state] if state else [])
    )


def span(**changes: Any) -> ReadableSpan:
    arguments: dict[str, Any] = {
        "name": "GET /orders/{order_id}",
        "context": context(),
        "resource": RESOURCE,
        "instrumentation_scope": SCOPE,
        "kind": SpanKind.SERVER,
        "start_time": 1_700_000_000_000_000_001,
        "end_time": 1_700_000_000_250_000_003,
        "attributes": {},
    }
    return ReadableSpan(**{**arguments, **changes})


def everything(attributes: Mapping[str, object]) -> AttributePolicy:
    return AttributePolicy(frozenset(attributes) | {"service.name", "cloud.region"})


@settings(max_examples=150)
@given(
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    parent_id=st.none() | st.integers(1, 2**64 - 1),
    start=st.integers(0, 2**63),
    length=st.integers(0, 2**62),
    kind=st.sampled_from(SpanKind),
    status=st.sampled_from(StatusCode),
    attributes=st.dictionaries(
        st.text(alphabet="abc.", min_size=1, max_size=9), VALUES, max_size=8
    ),
)
def test_every_field_reads_back(
    *,
    trace_id: int,
    span_id: int,
    parent_id: int | None,
    start: int,
    length: int,
    kind: SpanKind,
    status: StatusCode,
    attributes: dict[str, Any],
) -> None:
    encoder = SpanEncoder(everything(attributes))
    original = span(
        context=context(trace_id, span_id),
        parent=None if parent_id is None else context(trace_id, parent_id, remote=True),
        start_time=start,
        end_time=start + length,
        kind=kind,
        status=Status(status),
        attributes=attributes,
    )
    # Twice: the second time from the encoder's memory.
    for _ in range(2):
        encoded, removed = encoder.span(original)
        (found,) = decode_request(build_request([encoded]))
        assert removed == 0
        assert found.trace_id == f"{trace_id:032x}"
        assert found.span_id == f"{span_id:016x}"
        assert found.parent_span_id == ("" if parent_id is None else f"{parent_id:016x}")
        assert (found.start_ns, found.end_ns) == (start, start + length)
        assert found.kind == kind.value + 1
        assert found.status_code == status.value
        clean = AttributePolicy().clean
        assert found.attributes == {
            key: [clean(key, v) if isinstance(v, str) else v for v in value]
            if isinstance(value, tuple)
            else clean(key, value)
            if isinstance(value, str)
            else value
            for key, value in attributes.items()
        }
        for key, value in attributes.items():
            if not isinstance(value, tuple):
                assert type(found.attributes[key]) is type(value)


def test_true_one_and_one_point_nought_are_not_confused() -> None:
    values: tuple[Any, ...] = (1, True, 1.0, "1", 0, False)
    encoder = SpanEncoder(AttributePolicy(frozenset({"a"})))
    spans = [encoder.span(span(attributes={"a": value}))[0] for value in values]
    found = [s.attributes["a"] for s in decode_request(build_request(spans))]
    assert [(type(v), v) for v in found] == [(type(v), v) for v in values]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([1, 2, "1", "2", True])), max_size=12)
)
def test_a_remembered_attribute_is_the_one_that_was_meant(pairs: list[tuple[str, Any]]) -> None:
    encoder = SpanEncoder(AttributePolicy(frozenset("ab")))
    spans = [encoder.span(span(attributes={key: value}))[0] for key, value in pairs]
    found = [s.attributes for s in decode_request(build_request(spans))]
    assert found == [{key: value} for key, value in pairs]
    assert [[*map(type, f.values())] for f in found] == [[type(value)] for _, value in pairs]


def test_spans_stand_under_their_own_resource_and_scope() -> None:
    resources = [Resource({"service.name": name}) for name in ("one", "two")]
    scopes = [InstrumentationScope("x"), InstrumentationScope("y", "3")]
    encoder = SpanEncoder(AttributePolicy())
    spans = [
        span(
            context=context(span_id=i + 1),
            resource=resources[i % 2],
            instrumentation_scope=scopes[i // 4],
        )
        for i in range(8)
    ]
    payload = build_request(encoder.span(s)[0] for s in spans)
    assert {
        (s.resource["service.name"], s.scope, int(s.span_id, 16)) for s in decode_request(payload)
    } == {(("one", "two")[i % 2], "xy"[i // 4], i + 1) for i in range(8)}
    assert len(ExportTraceServiceRequest.FromString(payload).resource_spans) == 2


def test_events_and_links_read_back_without_what_is_not_allowed() -> None:
    allowed = AttributePolicy.with_extra(["link.kind"])
    encoded, removed = SpanEncoder(allowed).span(
        span(
            events=(
                Event(
                    "exception", {"exception.type": "E", "exception.message": "Jane"}, timestamp=7
                ),
            ),
            links=(Link(context(5, 6), {"link.kind": "retry", "user": "Jane"}),),
        )
    )
    payload = build_request([encoded])
    (found,) = decode_request(payload)
    assert removed == 2
    assert found.events == (("exception", {"exception.type": "E"}),)
    assert found.links == ((f"{5:032x}", f"{6:016x}", {"link.kind": "retry"}),)
    assert b"Jane" not in payload
    raw = ExportTraceServiceRequest.FromString(payload).resource_spans[0].scope_spans[0].spans[0]
    assert raw.events[0].time_unix_nano == 7
    assert (raw.events[0].dropped_attributes_count, raw.links[0].dropped_attributes_count) == (1, 1)


def test_only_the_sampling_entry_of_trace_state_leaves() -> None:
    state = "vendor=jane,ot=th:c;rv:abcdefabcdefab,other=1"
    encoded, _ = SpanEncoder(AttributePolicy()).span(span(context=context(state=state)))
    (found,) = decode_request(build_request([encoded]))
    assert found.trace_state == "ot=th:c;rv:abcdefabcdefab"


@pytest.mark.parametrize(("remote", "flags"), [(True, 0x301), (False, 0x101)])
def test_flags_say_whether_the_parent_is_remote(remote: bool, flags: int) -> None:
    encoded, _ = SpanEncoder(AttributePolicy()).span(span(parent=context(1, 9, remote=remote)))
    raw = ExportTraceServiceRequest.FromString(build_request([encoded]))
    assert raw.resource_spans[0].scope_spans[0].spans[0].flags == flags


def test_the_memory_of_attributes_is_bounded() -> None:
    encoder = SpanEncoder(AttributePolicy(frozenset({"a"})))
    for i in range(10_000):
        encoder.span(span(name=f"n{i}", attributes={"a": i}))
    assert len(encoder._attributes) <= 4096
    assert len(encoder._names) <= 4096


def test_a_span_without_an_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="not ended"):
        SpanEncoder(AttributePolicy()).span(span(end_time=None))
