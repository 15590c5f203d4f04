"""What another SDK sends is stored as our own package would have sent it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.trace import Status as SdkStatus

from mobius_instrumentation.allowlist import DEFAULT_ATTRIBUTES, LIST_APPLIED, AttributePolicy
from mobius_instrumentation.testing import RecordedSpan, decode_request
from mobius_instrumentation.wire import SpanEncoder, build_request, field
from mobius_instrumentation.zones import Zone
from mobius_pipeline.removals import Removal
from mobius_pipeline.status import lag
from mobius_pipeline.worker.route import Route
from mobius_pipeline.worker.steps import Checked, Message, Routed
from mobius_pipeline.worker.validate import Validate
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import key_value, make_message, make_resource, make_span, publish
from tests.pipeline.test_worker import rows, wait_for

ZONE = Zone("eu", ("eu-west-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_eu")
NAMES = st.sampled_from(
    [*sorted(DEFAULT_ATTRIBUTES), "http.url", "user.email", "shop.tier", "exception.message"]
)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "GET /orders/{order_id}",
            "ana@shop.example paid",
            "password=hunter2",
            "from 198.51.100.7",
            "10.0.0.7",
            "http://shop.example/cart?user=ana",
            "4012 8888 8888 1881",
            "0123456789abcdef0123456789abcdef",
        ]
    ),
)
VALUES = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(TEXTS, max_size=3).map(tuple),
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=6)


def checked(value: bytes) -> Checked:
    (item,) = Validate().submit(Message(0, 5, value))
    assert not item.problem
    return item


def route(value: bytes, policy: AttributePolicy | None = None) -> Routed:
    (out,) = Route(ZONE, policy).submit(checked(value))
    return out


def in_span(pair: bytes, span: bytes = b"") -> bytes:
    """Encode a message of one span of the zone with one attribute, both as given."""
    head = make_span().SerializeToString() + field(9, pair) + span
    resource = field(1, field(1, key_value("cloud.region", "eu-west-1").SerializeToString()))
    return field(1, resource + field(2, field(2, head)))


def context(state: str) -> SpanContext:
    return SpanContext(1, 2, False, TraceFlags(1), TraceState.from_header([state] if state else []))


@settings(max_examples=200)
@given(
    names=st.lists(TEXTS.filter(bool), min_size=3, max_size=3),
    attributes=st.lists(ATTRIBUTES, min_size=4, max_size=4),
    message=TEXTS,
    state=st.sampled_from(["", "ot=th:8", "vendor=ana,ot=rv:0123456789abcd;p:8;th:c", "vendor=1"]),
    extra=st.sampled_from([(), ("shop.tier", "http.url"), ("exception.message",)]),
)
def test_another_sdk_is_held_to_what_ours_would_have_sent(
    *,
    names: list[str],
    attributes: list[dict[str, Any]],
    message: str,
    state: str,
    extra: tuple[str, ...],
) -> None:
    policy = AttributePolicy.with_extra(extra)
    of_resource, of_span, of_event, of_link = attributes
    span = ReadableSpan(
        name=names[0],
        context=context(state),
        resource=Resource({**of_resource, "cloud.region": "eu-west-1", "service.name": "shop"}),
        instrumentation_scope=InstrumentationScope(names[1], "1.2"),
        kind=SpanKind.SERVER,
        start_time=1_700_000_000_000_000_001,
        end_time=1_700_000_000_250_000_003,
        attributes=of_span,
        events=[Event(names[2], of_event, 1_700_000_000_100_000_000)],
        links=[Link(context(state), of_link)],
        status=SdkStatus(StatusCode.ERROR, message),
    )
    encoded, _ = SpanEncoder(policy).span(span)
    (ours,) = decode_request(build_request([encoded]))
    worker = Route(ZONE, policy)
    value = encode_spans([span]).SerializeToString()
    for _ in range(2):  # the second time from its memory
        (out,) = worker.submit(checked(value))
        (held,) = decode_request(out.body)
        assert plain(held) == plain(ours)
        again = route(out.body, policy)
        assert (plain(*decode_request(again.body)), again.removed) == (plain(held), ())


def plain(span: RecordedSpan) -> dict[str, Any]:
    """What is stored of a span; our package alone says that it applied its list."""
    found = {name: getattr(span, name) for name in type(span).__slots__}
    return {**found, "resource": {k: v for k, v in span.resource.items() if k != LIST_APPLIED[0]}}


def test_of_a_links_trace_state_the_sampling_is_kept() -> None:
    link = Span.Link(trace_state="vendor=ana,ot=p:8;th:c")  # the SDK's exporter leaves it out
    out = route(make_message(make_resource([make_span(links=[link])], ours=False)))
    (resource,) = ExportTraceServiceRequest.FromString(out.body).resource_spans
    assert resource.scope_spans[0].spans[0].links[0].trace_state == "ot=th:c"


def test_ours_is_left_as_its_service_allowed_it() -> None:
    value = make_message(make_resource([make_span(attributes={"shop.tier": "gold"})]))
    out = route(value)
    assert (out.body, out.removed) == (value, ())


def test_what_holds_nothing_else_says_the_same() -> None:
    value = make_message(make_resource([make_span(), make_span()], ours=False))
    out = route(value)
    assert decode_request(out.body) == decode_request(value)
    assert (out.spans, out.removed) == (2, ())


def test_what_was_removed_is_counted_by_source() -> None:
    status = Status(code=Status.STATUS_CODE_ERROR, message="no such user: ana@shop.example")
    event = Span.Event(name="exception", attributes=[key_value("exception.message", "ana")])
    spans = [
        make_span(attributes={"user.email": "ana", "enduser.id": 7}),
        make_span(),
        make_span(status=status, events=[event], dropped_attributes_count=4),
    ]
    shared = make_resource([make_span()], ours=False, service="other", **{"host.name": "h"})
    ours = make_resource([make_span(attributes={"user.email": "ana"})], service="ours")
    out = route(make_message(make_resource(spans, ours=False), ours, shared))
    assert out.spans == 5
    assert out.removed == (
        Removal("eu-west-1", "shop", 1, 4, "service"),
        Removal("eu-west-1", "shop", 2, 4, "zone"),
        Removal("eu-west-1", "other", 1, 1, "zone"),
    )
    assert out.body.count(b"user.email") == 1


def test_quarantine_is_held_to_the_list_too() -> None:
    span = make_span(attributes={"user.email": "ana@shop.example"})
    out = route(
        make_message(
            make_resource([span], ours=False, region="of-ana@x.example", service="ana@x.example")
        )
    )
    (foreign,) = out.foreign
    assert (foreign.region, foreign.service) == ("[e-mail]", "[e-mail]")
    assert b"ana" not in foreign.payload
    (kept,) = ExportTraceServiceRequest.FromString(foreign.payload).resource_spans
    assert kept.scope_spans[0].spans[0].span_id == span.span_id


@pytest.mark.parametrize(
    "value",
    [
        AnyValue(bytes_value=b"ana@shop.example"),
        AnyValue(kvlist_value=KeyValueList(values=[key_value("a", "ana@shop.example")])),
    ],
)
def test_what_cannot_be_looked_into_is_removed(value: AnyValue) -> None:
    pair = KeyValue(key="http.route", value=value).SerializeToString()
    out = route(in_span(pair))
    assert b"ana" not in out.body
    assert sum(each.attributes for each in out.removed) == 1


@pytest.mark.parametrize(
    ("pair", "span"),
    [
        # The value told twice: one reader takes the first, another the last.
        (field(1, b"http.flavor") + field(2, field(1, b"ana@x.example") + b"\x18\x05"), b""),
        # The name told twice, and a field that this description of OTLP does not know.
        (field(1, b"user.email") + field(2, field(1, b"ana@x.example")) + field(1, b"x"), b""),
        (field(1, b"http.flavor") + field(2, field(1, b"1")) + field(9, b"ana@x.example"), b""),
        # A span with two names, and a status in two parts, which one reader merges.
        (b"", field(5, b"ana@x.example") + field(5, b"GET /")),
        (b"", field(15, field(2, b"ana@x.example")) + field(15, b"\x18\x02")),
    ],
)
def test_no_unusual_encoding_brings_a_text_past_the_list(pair: bytes, span: bytes) -> None:
    out = route(in_span(pair, span))
    assert b"ana" not in out.body
    assert out.spans == 1


def test_an_empty_attribute_value_stays() -> None:
    out = route(in_span(field(1, b"http.flavor")))
    (found,) = decode_request(out.body)
    assert found.attributes["http.flavor"] is None


@pytest.mark.store
def test_the_zone_says_what_its_store_takes_of_others(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    zone = zone_factory()
    file = zones_file_factory(zone)
    text = file.read_text(encoding="utf-8")
    file.write_text(f'{text}\nattributes = ["shop.tier"]\n', encoding="utf-8")
    attributes = {"shop.tier": "gold", "user.email": "ana@shop.example"}
    ours, others = os.urandom(8), os.urandom(8)
    publish(
        zone,
        [
            (0, make_message(make_resource([make_span(span_id=ours, attributes=attributes)]))),
            (
                0,
                make_message(
                    make_resource([make_span(span_id=others, attributes=attributes)], ours=False)
                ),
            ),
        ],
    )
    command = [sys.executable, "-m", "mobius_infra.cli", "ingest", "--config", str(file)]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: lag(zone) == 0)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=60)
    stored = dict(rows(zone, "SELECT span_id, attributes FROM spans"))
    assert stored == {ours: attributes, others: {"shop.tier": "gold"}}
    assert rows(
        zone, "SELECT region, service, remover, spans, attributes FROM removed_attributes"
    ) == [("eu-west-1", "shop", "zone", 1, 1)]
