"""Spans of a file, packed into messages for Kafka and kept on disk until the whole file is known to be good."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.span_checks import Residence, problem_of_span
from mobius_pipeline.imports.span_files import Place, read_resource_spans
from mobius_pipeline.wire import WireError, check_limits

__all__ = [
    "LARGEST_MESSAGE_BYTES",
    "LARGEST_SHARED_BYTES",
    "MOST_SPANS",
    "DistinctIds",
    "PackedFile",
    "Packer",
    "pack_file",
]

MOST_SPANS: Final = 512
# Brokers refuse records over 1,048,588 bytes by default; key, headers and framing need the difference.
LARGEST_MESSAGE_BYTES: Final = 1_000_000
# Each message repeats it, so a larger one would make one message of each span.
LARGEST_SHARED_BYTES: Final = LARGEST_MESSAGE_BYTES // 2
_LENGTH: Final = struct.Struct("<IH")


class TooLargeError(ValueError):
    """One span alone is larger than a message may be, or what its message must say of its resource and scope."""


class DistinctIds:
    """Counts distinct 8-byte ids exactly, with 8 bytes of memory for each id given."""

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(256)]

    def add(self, span_id: bytes) -> None:
        """Take one id of 8 bytes."""
        self._buckets[span_id[0]] += span_id

    def count(self) -> int:
        """Count how many different ids were given."""
        return sum(
            len({bytes(bucket[i : i + 8]) for i in range(0, len(bucket), 8)})
            for bucket in self._buckets
        )


class Packer:
    """Fills messages of at most :data:`MOST_SPANS` spans, in order, so that the same input packs alike."""

    def __init__(self) -> None:
        self._request = ExportTraceServiceRequest()
        self._spans = 0
        self._bytes = 0
        self._resource = b""

    def add(self, item: ResourceSpans) -> Iterator[tuple[int, bytes]]:
        """Take the spans of ``item``; yield number of spans and bytes of each message that became full."""
        resource = item.resource.SerializeToString(deterministic=True) + item.schema_url.encode()
        for scope in item.scope_spans:
            own = scope.scope.ByteSize() + len(scope.schema_url.encode())
            overhead = own + len(resource) + 64
            if overhead > LARGEST_SHARED_BYTES and scope.spans:
                raise TooLargeError(
                    f"a resource of {len(resource):,} bytes with a scope of {own:,}; together they may have "
                    f"{LARGEST_SHARED_BYTES:,}"
                )
            begin = 0
            while begin < len(scope.spans):
                end, size = self._fitting(scope, begin, overhead)
                if end == begin:
                    if not self._spans:
                        raise TooLargeError(
                            f"a span of {scope.spans[begin].ByteSize():,} bytes; at most "
                            f"{LARGEST_MESSAGE_BYTES:,} can be carried, resource and scope included"
                        )
                    yield self._take()
                    continue
                self._append(item, scope, resource, begin, end)
                self._spans += end - begin
                self._bytes += size
                begin = end

    def flush(self) -> Iterator[tuple[int, bytes]]:
        """Yield the last message, if it holds anything."""
        if self._spans:
            yield self._take()

    def _fitting(self, scope: ScopeSpans, begin: int, overhead: int) -> tuple[int, int]:
        size, end = overhead, begin
        room = LARGEST_MESSAGE_BYTES - self._bytes
        for span in scope.spans[begin : begin + MOST_SPANS - self._spans]:
            size += span.ByteSize() + 6
            if size > room:
                break
            end += 1
        return end, size

    def _append(
        self, item: ResourceSpans, scope: ScopeSpans, resource: bytes, begin: int, end: int
    ) -> None:
        groups = self._request.resource_spans
        if not groups or resource != self._resource:
            group = groups.add(schema_url=item.schema_url)
            group.resource.CopyFrom(item.resource)
            self._resource = resource
        target = groups[-1].scope_spans.add(schema_url=scope.schema_url)
        target.scope.CopyFrom(scope.scope)
        target.spans.extend(scope.spans[begin:end])

    def _take(self) -> tuple[int, bytes]:
        full = self._spans, self._request.SerializeToString(deterministic=True)
        self._request = ExportTraceServiceRequest()
        self._spans = self._bytes = 0
        return full


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that passed every check: its messages lie ready on disk."""

    name: str
    digest: str
    spans: int
    messages: int
    path: Path

    def read(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield sequence number, number of spans and bytes of each message."""
        with self.path.open("rb") as file:
            sequence = 0
            while header := file.read(_LENGTH.size):
                length, spans = _LENGTH.unpack(header)
                yield sequence, spans, file.read(length)
                sequence += 1


def pack_file(
    content: Content, residence: Residence, target: Path, ids: DistinctIds, now_ns: int
) -> PackedFile:
    """Check every span of ``content`` and pack it into ``target``.

    Raises
    ------
    UsageError
        The file or any span of it is wrong; names the place. ``target`` is then worthless.
    """
    packer = Packer()
    spans = messages = 0
    with target.open("wb") as file:
        for place, item in read_resource_spans(content):
            _check(place, item, residence, ids, now_ns)
            try:
                for count, message in packer.add(item):
                    spans, messages = spans + count, messages + 1
                    _write(file, count, message)
            except TooLargeError as error:
                raise place.wrong(str(error)) from error
        for count, message in packer.flush():
            spans, messages = spans + count, messages + 1
            _write(file, count, message)
    if not spans:
        raise content.wrong("holds no spans")
    return PackedFile(content.source.name, content.digest(), spans, messages, target)


def _check(
    place: Place, item: ResourceSpans, residence: Residence, ids: DistinctIds, now_ns: int
) -> None:
    if problem := residence.settle(item):
        raise place.wrong(problem)
    try:
        check_limits(item)
    except WireError as error:
        raise place.wrong(str(error)) from error
    for scope in item.scope_spans:
        for span in scope.spans:
            if problem := problem_of_span(span, now_ns):
                raise place.wrong(problem)
            ids.add(span.span_id)


def _write(file: IO[bytes], spans: int, message: bytes) -> None:
    file.write(_LENGTH.pack(len(message), spans))
    file.write(message)
