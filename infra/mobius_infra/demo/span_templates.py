"""OTLP spans by the thousand: one span is encoded by protobuf, its copies are filled in by numpy.

Ids and times of a span have a fixed width on the wire (opentelemetry/proto/trace/v1/trace.proto), so
spans that differ in nothing else differ in known columns of equally long rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

__all__ = ["Octets", "SpanTemplate", "message", "random_ids", "span_template"]

Octets = npt.NDArray[np.uint8]
Scalar = str | int | bool

# What a span is encoded with, and found again by.
_TRACE: Final = b"\xf1" * 16
_SPAN: Final = b"\xf2" * 8
_PARENT: Final = b"\xf3" * 8
_START: Final = 0xF4F4F4F4F4F4F4F4
_END: Final = 0xF5F5F5F5F5F5F5F5


@dataclass(frozen=True, slots=True)
class SpanTemplate:
    """One encoded span as a field of ``ScopeSpans``, and the columns where its copies differ."""

    row: bytes
    columns: Mapping[str, int]

    def fill(self, count: int, **values: Octets) -> Octets:
        """Make ``count`` spans.

        Parameters
        ----------
        values
            Bytes by the name of their column, shape (count, width): ``trace``, ``span``, ``parent``,
            ``start``, ``end`` and the names of the varying attributes.

        Returns
        -------
        Shape (count, length of a span); each row is one field of ``ScopeSpans``.
        """
        rows = np.tile(np.frombuffer(self.row, dtype=np.uint8), (count, 1))
        for name, column in self.columns.items():
            value = values[name]
            rows[:, column : column + value.shape[1]] = value
        return rows


def span_template(
    name: str,
    kind: Span.SpanKind.ValueType,
    attributes: Mapping[str, Scalar],
    *,
    varying: tuple[str, ...] = (),
    parent: bool = False,
    trace_state: str = "",
    failed: bool = False,
) -> SpanTemplate:
    """Encode one span.

    Parameters
    ----------
    attributes
        Integers that vary must be below 128, where they take one byte; text that varies must be unique
        in the span and have one length.
    varying
        Names of the attributes whose value differs between the copies.
    """
    span = Span(
        trace_id=_TRACE,
        span_id=_SPAN,
        parent_span_id=_PARENT if parent else b"",
        trace_state=trace_state,
        name=name,
        kind=kind,
        start_time_unix_nano=_START,
        end_time_unix_nano=_END,
        attributes=[_key_value(key, value) for key, value in attributes.items()],
        status=Status(code=Status.STATUS_CODE_ERROR) if failed else None,
    )
    payload = span.SerializeToString()
    row = b"\x12" + _varint(len(payload)) + payload
    marks = {"trace": _TRACE, "span": _SPAN, "start": b"\xf4" * 8, "end": b"\xf5" * 8}
    if parent:
        marks["parent"] = _PARENT
    columns = {mark: row.index(octets) for mark, octets in marks.items()}
    for key in varying:
        value = attributes[key]
        # A one-byte value is the last byte of its attribute, a text its last bytes.
        width = len(value) if isinstance(value, str) else 1
        encoded = _key_value(key, value).SerializeToString()
        columns[key] = row.index(encoded) + len(encoded) - width
    return SpanTemplate(row, columns)


def message(resource: Mapping[str, Scalar], scope: str, spans: bytes) -> bytes:
    """Wrap encoded spans of one resource into an ``ExportTraceServiceRequest``."""
    described = Resource(attributes=[_key_value(key, value) for key, value in resource.items()])
    inside = _field(1, InstrumentationScope(name=scope).SerializeToString()) + spans
    return _field(1, _field(1, described.SerializeToString()) + _field(2, inside))


def random_ids(rng: np.random.Generator, count: int, width: int) -> Octets:
    """Random trace (16 bytes) or span ids (8 bytes), shape (count, width)."""
    return np.frombuffer(rng.bytes(count * width), dtype=np.uint8).reshape(count, width)


def _key_value(key: str, value: Scalar) -> KeyValue:
    pair = KeyValue(key=key)
    if isinstance(value, bool):
        pair.value.bool_value = value
    elif isinstance(value, int):
        pair.value.int_value = value
    else:
        pair.value.string_value = value
    return pair


def _field(number: int, payload: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
