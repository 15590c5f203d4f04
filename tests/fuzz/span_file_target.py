"""Files of spans, from their bytes to the messages that would be published."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mobius_instrumentation.zones import Zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, Source
from mobius_pipeline.imports.span_checks import Residence, problem_of_span
from mobius_pipeline.imports.span_packing import (
    LARGEST_MESSAGE_BYTES,
    MOST_SPANS,
    DistinctIds,
    PackedFile,
    pack_file,
)
from mobius_pipeline.wire import count_spans, parse, varint
from mobius_pipeline.worker.route import Route
from mobius_pipeline.worker.steps import Checked, Message
from tests.fuzz.documents import compressed, damaged, json_text
from tests.fuzz.draw import Draw
from tests.fuzz.file_input import check_error, fresh_folder
from tests.fuzz.otlp_wire import message
from tests.fuzz.target import Target
from tests.fuzz.wire_target import ZONE

__all__ = ["TARGET", "content_of", "packed"]

_REAL: Final = Path(__file__).parents[1] / "data/online-boutique/2022-08-22T03-53.otlp.jsonl.gz"
_ZONES: Final = Zones({"eu": ZONE}, None, "zones.toml")
_EVERYTHING: Final[dict[str, Any]] = {
    "resourceSpans": [
        {
            "resource": {
                "attributes": [
                    {"key": "service.name", "value": {"stringValue": "shop"}},
                    {"key": "cloud.region", "value": {"stringValue": "eu-west-1"}},
                ],
                "droppedAttributesCount": 1,
            },
            "schemaUrl": "https://example.org/1",
            "scopeSpans": [
                {
                    "scope": {"name": "s", "version": "1", "attributes": [], "droppedAttributesCount": 0},
                    "schemaUrl": "https://example.org/2",
                    "spans": [
                        {
                            "traceId": "8b51e36eaee3265bec099d0c5c63fd37",
                            "spanId": "69f0ab5eab6ab97b",
                            "parentSpanId": "5ad88c3dc3137b99",
                            "traceState": "ot=th:8",
                            "flags": 257,
                            "name": "GET /orders/{order_id}",
                            "kind": "SPAN_KIND_SERVER",
                            "startTimeUnixNano": "1661140339209875609",
                            "endTimeUnixNano": 1661140339572328882,
                            "attributes": [
                                {"key": "b", "value": {"boolValue": True}},
                                {"key": "i", "value": {"intValue": "200"}},
                                {"key": "d", "value": {"doubleValue": 0.5}},
                                {"key": "y", "value": {"bytesValue": "AAE="}},
                                {"key": "a", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
                                {"key": "m", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": 1}}]}}},
                            ],
                            "droppedAttributesCount": 0,
                            "events": [{"timeUnixNano": "1661140339209875610", "name": "exception", "attributes": []}],
                            "links": [{"traceId": "8b51e36eaee3265bec099d0c5c63fd38", "spanId": "69f0ab5eab6ab97c"}],
                            "status": {"code": 2, "message": "no"},
                        }
                    ],
                }
            ],
        }
    ]
}  # fmt: skip


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"intValue": 1}
    for level in range(depth):
        if level % 2:
            value = {"arrayValue": {"values": [value]}}
        else:
            value = {"kvlistValue": {"values": [{"key": "k", "value": value}]}}
    return {"key": "n", "value": value}


def content_of(data: bytes) -> bytes:
    """Bytes of the file that an input stands for."""
    draw = Draw(data)
    mode = draw.below(8)
    if mode == 0:
        return draw.rest()
    if mode < 4:
        document = damaged(draw, _EVERYTHING)
        if draw.one_in(8) and isinstance(document, dict):
            _deepen(document, draw.below(40))
        lines = [json_text(document, indent=1 if draw.one_in(8) else None)]
        lines += [json_text(damaged(draw, _EVERYTHING)) for _ in range(draw.below(3))]
        return compressed(draw, b"\n".join(lines))
    if mode < 6:
        return compressed(draw, message(draw))
    parts = [message(draw) for _ in range(1 + draw.below(3))]
    return compressed(draw, b"".join(varint(len(part)) + part for part in parts))


def _deepen(document: dict[str, Any], depth: int) -> None:
    try:
        span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        span["attributes"].append(_nested(depth))
    except (KeyError, IndexError, TypeError, AttributeError):
        return


def packed(data: bytes) -> PackedFile | None:
    """Check and pack the file; None where it is refused, with an error that is made for people."""
    folder = fresh_folder()
    file = folder / "spans"
    file.write_bytes(content_of(data))
    residence = Residence(_ZONES, ZONE, "eu-west-1")
    try:
        with Content.open(Source(file, str(file))) as content:
            return pack_file(content, residence, folder / "packed", DistinctIds(), time.time_ns())
    except UsageError as error:
        check_error(error, file.name)
        return None


def messages_of(file: PackedFile) -> Iterator[tuple[bytes, ExportTraceServiceRequest]]:
    """The packed messages, each as the worker reads it."""
    for _, spans, value in file.read():
        assert 0 < spans <= MOST_SPANS
        assert len(value) <= LARGEST_MESSAGE_BYTES, len(value)
        request = parse(value)
        assert count_spans(request.resource_spans) == spans
        yield value, request


def check(data: bytes) -> bool:
    """Only UsageError escapes, and it names the file; the worker can read all that would be published."""
    file = packed(data)
    if file is None:
        return False
    total = 0
    now = time.time_ns()
    for value, request in messages_of(file):
        (routed,) = Route(ZONE).submit(Checked(Message(0, 0, value), request, "", value))
        assert not routed.foreign
        total += routed.spans
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                assert not any(problem_of_span(span, now) for span in scope.spans)
    assert total == file.spans
    return True


def seeds() -> Sequence[bytes]:
    """Lines of real spans, and a document with every field."""
    with gzip.open(_REAL) as file:
        line = json.loads(next(file))
    for resource in line["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            del scope["spans"][2:]
    real = json.dumps(line).encode()
    everything = json.dumps(_EVERYTHING).encode()
    return [
        *(b"\x00" + content for content in (real, everything, real + b"\n" + everything)),
        b"\x00" + gzip.compress(real),
        b"\x00" + json.dumps(_EVERYTHING, indent=2).encode(),
        *(bytes([mode]) for mode in range(1, 8)),
        *(bytes([mode]) + bytes(range(1, 256)) for mode in range(1, 8)),
    ]


TARGET: Final = Target(check, seeds)
