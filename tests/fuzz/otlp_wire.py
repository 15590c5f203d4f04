"""Writes OTLP trace messages field by field, now and then against the rules of protobuf or of OTLP."""

from __future__ import annotations

import struct
from typing import Final

from mobius_pipeline.wire import varint
from tests.fuzz.draw import Draw

__all__ = ["message"]

# Numbers of fields and what they hold: the name of a message, or one of the scalars below.
_SCHEMA: Final[dict[str, dict[int, str]]] = {
    "request": {1: "resource_spans"},
    "resource_spans": {1: "resource", 2: "scope_spans", 3: "text"},
    "resource": {1: "attribute", 2: "small"},
    "scope_spans": {1: "scope", 2: "span", 3: "text"},
    "scope": {1: "text", 2: "text", 3: "attribute", 4: "small"},
    "span": {
        1: "trace_id", 2: "span_id", 3: "state", 4: "span_id", 5: "text", 6: "small", 7: "start", 8: "end",
        9: "attribute", 10: "small", 11: "event", 12: "small", 13: "link", 14: "small", 15: "status", 16: "flags",
    },
    "event": {1: "start", 2: "text", 3: "attribute", 4: "small"},
    "link": {1: "trace_id", 2: "span_id", 3: "state", 4: "attribute", 5: "small", 6: "flags"},
    "status": {2: "text", 3: "small"},
    "attribute": {1: "key", 2: "value"},
    "value": {1: "text", 2: "small", 3: "integer", 4: "fixed64", 5: "array", 6: "map", 7: "text"},
    "array": {1: "value"},
    "map": {1: "attribute"},
}  # fmt: skip
_NEEDED: Final = {
    "resource_spans": (1, 2),
    "scope_spans": (2,),
    "span": (1, 2, 5, 6, 7, 8),
    "attribute": (1, 2),
}
_KEYS: Final = (
    "cloud.region", "service.name", "service.version", "http.route", "http.request.method",
    "http.response.status_code", "http.status_code", "mobius.test.run", "user_agent.synthetic.type", "rpc.system",
    "rpc.service", "rpc.method", "deployment.environment", "service.instance.id", "k", "",
)  # fmt: skip
_TEXTS: Final = (
    "eu-west-1",
    "us-east-1",
    "GET",
    "/orders/{id}",
    "200",
    "99999",
    "shop",
    "",
    "\x00",
    "ü€😀",
    "'\\",
)
_STATES: Final = (
    "",
    "ot=th:8",
    "ot=th:ffffffffffffff",
    "ot=th:0",
    "th:",
    "ot=th:zz",
    "a=b,ot=x:1;th:c",
)
_DEEPEST: Final = 40
_SECOND: Final = 10**9
_MOMENT: Final = 1_700_000_000 * _SECOND  # fixed, so that the same input is the same message


def message(draw: Draw) -> bytes:
    """An ``ExportTraceServiceRequest``: well formed at first, broken where ``draw`` says so."""
    return b"".join(_field(draw, 1, "resource_spans", 0) for _ in range(1 + draw.below(3))) + (
        _strange(draw, "request") if draw.one_in(8) else b""
    )


def _body(draw: Draw, kind: str, depth: int) -> bytes:
    schema = _SCHEMA[kind]
    numbers = list(_NEEDED.get(kind, ()))
    numbers += [draw.pick(tuple(schema)) for _ in range(draw.below(4))]
    if draw.one_in(16):
        numbers.reverse()
    parts = [_region()] if kind == "resource" and not draw.one_in(8) else []
    for number in numbers:
        parts.append(_field(draw, number, schema[number], depth + 1))
        if draw.one_in(32):
            parts.append(_strange(draw, kind))
    return b"".join(parts)


def _region() -> bytes:
    value = b"\x0a\x09eu-west-1"
    pair = b"\x0a\x0ccloud.region\x12" + varint(len(value)) + value
    return b"\x0a" + varint(len(pair)) + pair


def _field(draw: Draw, number: int, kind: str, depth: int) -> bytes:
    if kind in _SCHEMA:
        payload = b"" if depth > _DEEPEST else _body(draw, kind, depth)
        return _counted(draw, number, payload)
    if kind in {"small", "integer"}:
        value = draw.below(7) if kind == "small" and not draw.one_in(8) else draw.number(8)
        return _tag(number, 0) + _varint(draw, value)
    if kind in {"start", "end", "fixed64"}:
        return _tag(number, 1) + struct.pack("<Q", _moment(draw, kind))
    if kind == "flags":
        return _tag(number, 5) + draw.take(4).ljust(4, b"\0")
    return _counted(draw, number, _scalar(draw, kind))


def _scalar(draw: Draw, kind: str) -> bytes:
    if kind in {"trace_id", "span_id"}:
        size = 16 if kind == "trace_id" else 8
        return draw.blob(20) if draw.one_in(16) else draw.take(size).rjust(size, b"\x01")
    known = {"key": _KEYS, "state": _STATES}.get(kind, _TEXTS)
    if draw.one_in(64):
        return draw.blob() * (1 << draw.below(14))
    return draw.blob() if draw.one_in(6) else draw.pick(known).encode()


def _moment(draw: Draw, kind: str) -> int:
    if kind == "fixed64" or draw.one_in(12):
        return draw.number(8)
    now = _MOMENT
    return now - 3600 * _SECOND + draw.number(5) + (1_000_000 if kind == "end" else 0)


def _counted(draw: Draw, number: int, payload: bytes) -> bytes:
    length = len(payload)
    if draw.one_in(256):
        length = max(0, length + draw.below(9) - 4)
    return _tag(number, 2) + _varint(draw, length) + payload


def _tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def _varint(draw: Draw, value: int) -> bytes:
    encoded = varint(value)
    if draw.one_in(
        64
    ):  # longer than it needs to be, up to and beyond the ten bytes that are allowed
        longer = 1 + draw.below(11)
        encoded = encoded[:-1] + bytes([encoded[-1] | 0x80]) + b"\x80" * (longer - 1) + b"\0"
    return encoded


def _strange(draw: Draw, kind: str) -> bytes:
    """A field that a reader of ``kind`` does not expect."""
    number = draw.pick((*_SCHEMA[kind], 17, 101, 102, 103, 15_000, 536_870_911, 0))
    choice = draw.below(6)
    if choice == 0:
        return _tag(number, 0) + varint(draw.number(8))
    if choice == 1:
        return _tag(number, 1) + draw.take(8).ljust(8, b"\0")
    if choice == 2:
        return _tag(number, 5) + draw.take(4).ljust(4, b"\0")
    if choice == 3:
        return _counted(draw, number, draw.blob())
    if choice == 4:
        depth = 1 + draw.below(120)
        inside = draw.blob(4) if draw.one_in(4) else b""
        return _tag(number, 3) * depth + inside + _tag(number, 4) * depth
    return draw.blob(8)
