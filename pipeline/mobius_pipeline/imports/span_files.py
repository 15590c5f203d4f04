"""Files of spans: OTLP JSON (one export request a line, or one document) and OTLP protobuf, by content."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.otlp_json import FormError, resource_spans_of, to_resource_spans

__all__ = ["Place", "read_resource_spans"]

# JSON that begins with a field's name: a protobuf message may well begin with the byte "{", but not so.
_JSON: Final = re.compile(rb'\s*\{\s*("[A-Za-z_$][\w$.-]*"\s*:|\})')
_RESOURCE_SPANS_TAG: Final = 0x0A
_LARGEST_MESSAGE: Final = 256 << 20
_TEXT: Final = re.compile(rb"[\t\r\n\x20-\x7e]{16,}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its file something stands: a line of JSON, or the number of a protobuf message."""

    file: str
    line: int | None = None
    message: int | None = None

    def wrong(self, problem: str) -> UsageError:
        """Make the error that names this place."""
        field = None if self.message is None else f"message {self.message}"
        return UsageError(problem, file=self.file, line=self.line, field=field)


def read_resource_spans(content: Content) -> Iterator[tuple[Place, ResourceSpans]]:
    """Yield every ``ResourceSpans`` of a file with its place, in the order of the file.

    Raises
    ------
    UsageError
        The file is empty, of another kind, cut off, or a line or message of it cannot be read.
    """
    head = content.peek()
    if _JSON.match(head):
        yield from _json(content)
    elif head[:1].strip() in {b"{", b"["} and _TEXT.match(head[:64] + b" " * 16):
        # Text that begins like JSON: let the JSON reader say where it is wrong.
        yield from _json(content)
    elif _TEXT.match(head):
        raise UsageError(
            f"is no OTLP file (it begins with {head[:40].decode('ascii', 'replace')!r}); "
            "give OTLP traces as JSON lines or protobuf, plain, gzip or zstd",
            file=content.source.name,
            line=1,
        )
    elif head[0] == _RESOURCE_SPANS_TAG:
        yield from _one_message(content)
    else:
        yield from _messages(content)


# ---------------------------------------------------------------------------- JSON


def _json(content: Content) -> Iterator[tuple[Place, ResourceSpans]]:
    lines = content.lines()
    for number, line in lines:
        if not line.strip():
            continue
        try:
            document = _parse(line)
        except json.JSONDecodeError as error:
            if number == 1 and not line[_byte_of(line, error) :].strip():
                yield from _one_document(content, line)
                return
            raise content.wrong(f"is not JSON ({error.msg} at column {error.colno})") from error
        except (ValueError, RecursionError) as error:
            raise content.wrong(f"is not JSON ({error})") from error
        yield from _document(Place(content.source.name, number), document)


def _one_document(content: Content, first: bytes) -> Iterator[tuple[Place, ResourceSpans]]:
    rest = content.rest()
    try:
        document = _parse(first + b"\n" + rest)
    except json.JSONDecodeError as error:
        # Lines after the first that are documents themselves show that the first line is the broken one.
        following = rest.split(b"\n", 1)[0]
        line = 1 if _is_json(following) else error.lineno
        raise content.wrong(f"is not JSON ({error.msg})", line=line) from error
    except (ValueError, RecursionError) as error:
        raise content.wrong(f"is not JSON ({error})", line=1) from error
    yield from _document(Place(content.source.name, 1), document)


def _document(place: Place, document: object) -> Iterator[tuple[Place, ResourceSpans]]:
    try:
        for item in resource_spans_of(document):
            yield place, to_resource_spans(item)
    except FormError as error:
        raise place.wrong(str(error)) from error


def _parse(text: bytes) -> object:
    return json.loads(text.decode("utf-8-sig"), parse_constant=_no_constant)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _byte_of(line: bytes, error: json.JSONDecodeError) -> int:
    return len(line.decode("utf-8-sig")[: error.pos].encode())


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(_parse(line), dict)
    except (ValueError, RecursionError):
        return False


# ---------------------------------------------------------------------------- protobuf


def _one_message(content: Content) -> Iterator[tuple[Place, ResourceSpans]]:
    """Read one ``ExportTraceServiceRequest``, whose fields are its ``ResourceSpans`` one after another."""
    number = 0
    while tag := content.read(1):
        number += 1
        place = Place(content.source.name, message=number)
        if tag[0] != _RESOURCE_SPANS_TAG:
            raise _other_kind(content) if number == 1 else place.wrong("is no OTLP ResourceSpans")
        yield place, _resource_spans(_record(content, place), content, place)


def _resource_spans(body: bytes, content: Content, place: Place) -> ResourceSpans:
    try:
        item = ResourceSpans.FromString(body)
    except DecodeError as error:
        if place.message == 1:
            raise _other_kind(content) from error
        raise place.wrong("is no OTLP ResourceSpans") from error
    # The store's reader refuses a whole message for a known field of another type, which protobuf calls unknown.
    item.DiscardUnknownFields()
    return item


def _messages(content: Content) -> Iterator[tuple[Place, ResourceSpans]]:
    """Read messages that each follow their length as a varint."""
    number = 0
    while content.peek_byte():
        number += 1
        place = Place(content.source.name, message=number)
        try:
            request = ExportTraceServiceRequest.FromString(_record(content, place))
        except DecodeError as error:
            if number == 1:
                raise _other_kind(content) from error
            raise place.wrong("is no OTLP ExportTraceServiceRequest") from error
        request.DiscardUnknownFields()
        for item in request.resource_spans:
            yield place, item


def _record(content: Content, place: Place) -> bytes:
    length = shift = 0
    while True:
        byte = content.read(1)
        if not byte:
            raise place.wrong("the file ends inside the length of this message; get the whole file")
        length |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            break
        shift += 7
        if shift > 63:
            raise _other_kind(content)
    if length > _LARGEST_MESSAGE:
        raise _other_kind(content)
    body = content.read(length)
    if len(body) < length:
        # The fields of OTLP's messages that may stand first have the tags 0x0a and 0x12.
        if place.message == 1 and body[:1] not in {b"\x0a", b"\x12"}:
            raise _other_kind(content)
        raise place.wrong(
            f"the file ends inside this message ({len(body)} of {length} bytes); get the whole file"
        )
    return body


def _other_kind(content: Content) -> UsageError:
    return UsageError(
        "is a file of another kind: neither OTLP JSON lines nor OTLP protobuf "
        "(one ExportTraceServiceRequest, or several each after its length)",
        file=content.source.name,
    )
