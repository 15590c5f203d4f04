"""OTLP in every form is the same spans; packing changes nothing but the number of messages."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, Source
from mobius_pipeline.imports.otlp_json import FormError, to_resource_spans
from mobius_pipeline.imports.span_files import Place, read_resource_spans
from mobius_pipeline.imports.span_packing import (
    LARGEST_MESSAGE_BYTES,
    MOST_SPANS,
    DistinctIds,
    Packer,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
SCALARS = st.one_of(
    st.builds(AnyValue, string_value=TEXT),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(AnyValue, double_value=st.floats(allow_nan=False)),
    st.builds(AnyValue, bytes_value=st.binary(max_size=20)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: AnyValue(array_value=ArrayValue(values=v))),
        st.lists(st.builds(KeyValue, key=TEXT, value=inner), max_size=3).map(
            lambda v: AnyValue(kvlist_value=KeyValueList(values=v))
        ),
    ),
    max_leaves=5,
)
ATTRIBUTES = st.lists(st.builds(KeyValue, key=TEXT, value=VALUES), max_size=3)
EVENTS = st.builds(Span.Event, time_unix_nano=UINT64, name=TEXT, attributes=ATTRIBUTES)
LINKS = st.builds(
    Span.Link, trace_id=st.binary(min_size=16, max_size=16), span_id=st.binary(min_size=8, max_size=8),
    trace_state=TEXT, attributes=ATTRIBUTES, flags=UINT32,
)  # fmt: skip
SPANS = st.builds(
    Span,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    parent_span_id=st.one_of(st.just(b""), st.binary(min_size=8, max_size=8)),
    trace_state=TEXT,
    flags=UINT32,
    name=TEXT,
    kind=st.integers(0, 5),
    start_time_unix_nano=UINT64,
    end_time_unix_nano=UINT64,
    attributes=ATTRIBUTES,
    dropped_attributes_count=UINT32,
    events=st.lists(EVENTS, max_size=2),
    links=st.lists(LINKS, max_size=2),
    status=st.one_of(st.none(), st.builds(Status, message=TEXT, code=st.integers(0, 2))),
)
SCOPES = st.builds(
    ScopeSpans,
    scope=st.builds(InstrumentationScope, name=TEXT, version=TEXT, attributes=ATTRIBUTES),
    schema_url=TEXT,
    spans=st.lists(SPANS, max_size=3),
)
RESOURCES = st.builds(
    ResourceSpans,
    resource=st.builds(Resource, attributes=ATTRIBUTES),
    scope_spans=st.lists(SCOPES, max_size=2),
    schema_url=TEXT,
)


def to_otlp_json(item: Any, *, enum_names: bool, snake: bool) -> Any:
    """Protobuf's own JSON form, with ids made hexadecimal as OTLP wants them."""
    document = MessageToDict(
        item, use_integers_for_enums=not enum_names, preserving_proto_field_name=snake
    )

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: base64.b64decode(inner).hex()
                if key
                in {"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"}
                else walk(inner)
                for key, inner in value.items()
            }
        return [walk(inner) for inner in value] if isinstance(value, list) else value

    return walk(document)


def read(data: bytes) -> Iterator[tuple[Place, ResourceSpans]]:
    return read_resource_spans(Content(Source(Path("sample"), "sample"), io.BytesIO(data)))


def delimited(*messages: bytes) -> bytes:
    out = bytearray()
    for message in messages:
        length = len(message)
        while length > 0x7F:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        out.append(length)
        out += message
    return bytes(out)


@settings(deadline=None, max_examples=60)
@given(item=RESOURCES, enum_names=st.booleans(), snake=st.booleans())
def test_json_in_every_spelling_is_the_same_message(
    item: ResourceSpans, enum_names: bool, snake: bool
) -> None:
    document = to_otlp_json(item, enum_names=enum_names, snake=snake)
    assert to_resource_spans(json.loads(json.dumps(document))) == item


@settings(deadline=None, max_examples=25)
@given(items=st.lists(RESOURCES.filter(lambda r: r.ByteSize() > 0), min_size=1, max_size=4))
def test_every_form_of_file_gives_the_same_resource_spans(items: list[ResourceSpans]) -> None:
    requests = [ExportTraceServiceRequest(resource_spans=[item]) for item in items]
    documents = [
        {"resourceSpans": [to_otlp_json(item, enum_names=False, snake=False)]} for item in items
    ]
    lines = b"".join(json.dumps(d).encode() + b"\n" for d in documents)
    pretty = json.dumps(
        {"resourceSpans": [d["resourceSpans"][0] for d in documents]}, indent=2
    ).encode()
    one = ExportTraceServiceRequest(resource_spans=items).SerializeToString()
    several = delimited(*(request.SerializeToString() for request in requests))
    for form in (lines, pretty, one, gzip.compress(lines)):
        assert [item for _, item in read(form)] == items
    if (
        several[0] != 0x0A
    ):  # a first message of exactly ten bytes cannot hold a span, and reads as another form
        assert [item for _, item in read(several)] == items


def test_numbers_may_be_text_and_unknown_fields_are_nothing() -> None:
    span = {
        "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "eee19b7ec3c1b174",
        "startTimeUnixNano": 1_544_712_660_000_000_000,
        "endTimeUnixNano": "1544712661000000000",
        "kind": "SPAN_KIND_SERVER",
        "attributes": [
            {"key": "n", "value": {"intValue": 7}},
            {"key": "d", "value": {"doubleValue": "NaN"}},
        ],
        "fromTheFuture": {"a": [1]},
    }
    item = to_resource_spans({"scopeSpans": [{"spans": [span]}], "more": None})
    found = item.scope_spans[0].spans[0]
    assert found.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert (found.kind, found.start_time_unix_nano) == (2, 1_544_712_660_000_000_000)
    assert found.end_time_unix_nano - found.start_time_unix_nano == 1_000_000_000
    assert found.attributes[0].value.int_value == 7
    assert found.attributes[1].value.double_value != found.attributes[1].value.double_value


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        ({"traceId": "xyz"}, "traceId is not hexadecimal"),
        ({"traceId": 5}, "traceId is not hexadecimal"),
        ({"name": 5}, "name holds a number"),
        ({"name": "\ud800"}, "surrogate"),
        ({"startTimeUnixNano": "soon"}, "startTimeUnixNano is no whole number"),
        ({"startTimeUnixNano": 1.5}, "startTimeUnixNano is no whole number"),
        ({"startTimeUnixNano": True}, "startTimeUnixNano is no whole number"),
        ({"endTimeUnixNano": -1}, "outside 64 bits"),
        ({"endTimeUnixNano": str(2**64)}, "outside 64 bits"),
        ({"flags": 2**32}, "outside 32 bits"),
        ({"kind": 6}, "kind is none of"),
        ({"kind": "SERVER"}, "kind is none of"),
        ({"attributes": {"a": 1}}, "attributes holds an object"),
        ({"attributes": [{"key": "a", "value": {"intValue": str(2**63)}}]}, "intValue cannot hold"),
        ({"attributes": [{"key": "a", "value": {"boolValue": "yes"}}]}, "boolValue holds text"),
        ({"attributes": [{"key": "a", "value": {"bytesValue": "*"}}]}, "not base64"),
        ({"attributes": [{"key": "a", "value": {"doubleValue": "x"}}]}, "doubleValue cannot hold"),
        ({"events": [5]}, "events holds a number"),
        ({"status": {"code": 9}}, "code is none of"),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_named(span: dict[str, Any], problem: str) -> None:
    with pytest.raises(FormError, match=problem):
        to_resource_spans({"scopeSpans": [{"spans": [span]}]})


@pytest.mark.parametrize(
    ("data", "line", "problem"),
    [
        (b'{"resourceSpans":[]}\n{"resourceSpans":[}\n', 2, "not JSON"),
        (b'{"resourceSpans":[]}\n\n{"resourceSpans":[]', 3, "not JSON"),
        (b'{"resourceSpans":[\n{"resourceSpans":[]}\n', 1, "not JSON"),
        (b'{\n"resourceSpans": [\n}\n', 3, "not JSON"),
        (b'{"resourceSpans":[]}\n{"resourceLogs":[]}\n', 2, "OTLP logs"),
        (b'{"metric":"vus","type":"Point"}\n', 1, "no resourceSpans"),
        (b'{"resourceSpans":[]}\n[1]\n', 2, "a list where"),
        (b'{"resourceSpans":{}}\n', 1, "holds an object where a list"),
        (b"timeStamp,elapsed,label,responseCode\n", 1, "no OTLP file"),
        (b'{"resourceSpans":[]}\n{"resourceSpans":[], "x": "\xff"}\n', 2, "not JSON"),
        (b'{"resourceSpans":[]}\n' + b'{"a":' * 5000 + b"\n", 2, "not JSON"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(data: bytes, line: int, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        list(read(data))
    assert (caught.value.file, caught.value.line) == ("sample", line)


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"PAR1" + bytes(range(256)), b"\x08\x01" * 40]
)
def test_a_binary_file_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match="another kind"):
        list(read(data))


def test_a_protobuf_stream_that_ends_early_names_the_message() -> None:
    message = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span(name="x" * 50)])])]
    ).SerializeToString()
    with pytest.raises(UsageError, match="ends inside this message") as caught:
        list(read(delimited(message, message)[:-3]))
    assert caught.value.field == "message 2"
    with pytest.raises(UsageError, match="ends inside this message"):
        list(read(message + message[:-3]))


def span_of(size: int, number: int) -> Span:
    return Span(trace_id=bytes(15) + b"\1", span_id=number.to_bytes(8, "big"), name="n" * size)


@settings(deadline=None, max_examples=15)
@given(
    groups=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 700), st.sampled_from([1, 300, 4000])),
        max_size=6,
    )
)
def test_packing_keeps_every_span_once_in_order_under_its_resource(
    groups: list[tuple[int, int, int]],
) -> None:
    items, number = [], 0
    for service, count, size in groups:
        spans = [span_of(size, number + i + 1) for i in range(count)]
        number += count
        resource = Resource(
            attributes=[KeyValue(key="service.name", value=AnyValue(string_value=str(service)))]
        )
        items.append(ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)]))

    def pack() -> list[tuple[int, bytes]]:
        packer = Packer()
        return [m for item in items for m in packer.add(item)] + list(packer.flush())

    packed = pack()
    assert packed == pack()
    seen = []
    for count, message in packed:
        assert len(message) <= LARGEST_MESSAGE_BYTES + 10_000
        request = ExportTraceServiceRequest.FromString(message)
        here = [
            (r.resource, s) for r in request.resource_spans for c in r.scope_spans for s in c.spans
        ]
        assert 0 < len(here) == count <= MOST_SPANS
        seen += here
    wanted = [(r.resource, s) for r in items for c in r.scope_spans for s in c.spans]
    assert seen == wanted


@given(ids=st.lists(st.binary(min_size=8, max_size=8)))
def test_distinct_ids_are_counted_exactly(ids: list[bytes]) -> None:
    counter = DistinctIds()
    for span_id in ids + ids[::2]:
        counter.add(span_id)
    assert counter.count() == len(set(ids))
