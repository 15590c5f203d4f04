"""What the worker does first with a message: undo its content encoding, parse it, send it to its zone or aside.

The first byte of an input says how the rest is meant: raw bytes under an encoding, or decisions of
:mod:`tests.fuzz.otlp_wire`. Limits are small, so that small inputs reach them.
"""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Sequence
from typing import Any, Final

import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mobius_instrumentation.allowlist import DEFAULT_ATTRIBUTES
from mobius_instrumentation.zones import Zone
from mobius_pipeline.allow_list import is_ours
from mobius_pipeline.kafka_client import content_encoding
from mobius_pipeline.wire import WireError, WireLimits, count_spans, decode, envelope, parse, varint
from mobius_pipeline.worker.route import Route
from mobius_pipeline.worker.steps import Checked, Message
from tests.fuzz.draw import Draw
from tests.fuzz.otlp_wire import message
from tests.fuzz.target import Target
from tests.pipeline.otlp import make_message, make_resource, make_span

__all__ = ["LIMITS", "TARGET", "ZONE", "payload_of"]

LIMITS: Final = WireLimits(
    encoded_bytes=1 << 16, decoded_bytes=1 << 18, span_bytes=1 << 12, attributes=64
)
ZONE: Final = Zone("eu", ("eu-west-1", "eu-central-1"), ("127.0.0.1:1",), "http://127.0.0.1:1", "x")
_ENCODINGS: Final = ("", "identity", "gzip", "zstd", "br", "GZIP", "gzip, zstd")
# What a slice of zstd may give at once, see wire.py, and the message's parts beside their sum.
_MOST_MEMORY: Final = (8 << 20) + 4 * LIMITS.decoded_bytes
_inputs = 0


def payload_of(data: bytes) -> tuple[bytes, str]:
    """Value and content encoding of the record that an input stands for."""
    draw = Draw(data)
    mode = draw.below(8)
    if mode < 3:
        return draw.rest(), ("", "gzip", "zstd")[mode]
    if mode == 3:
        name = draw.pick(("content-encoding", "Content-Encoding", "x"))
        header = draw.pick([*(e.encode() for e in _ENCODINGS), draw.blob(), None])
        return draw.rest(), content_encoding([("a", None), (name, header)])
    encoding = ("", "gzip", "zstd", "gzip")[mode - 4]
    parts = [_compressed(draw, encoding) for _ in range(1 + draw.below(3))]
    return b"".join(parts), encoding


def _compressed(draw: Draw, encoding: str) -> bytes:
    content = message(draw) if not draw.one_in(8) else draw.blob(8) * (1 << draw.below(19))
    if encoding == "gzip":
        wire = zlib.compressobj(draw.below(10), wbits=31)
        return wire.compress(content) + wire.flush()
    return zstandard.compress(content, draw.below(4)) if encoding else content


def _only_allowed(request: ExportTraceServiceRequest) -> None:
    for resource in request.resource_spans:
        if is_ours(resource):
            continue
        for scope in resource.scope_spans:
            for span in scope.spans:
                holders: list[Any] = [resource.resource, span, *span.events, *span.links]
                keys = {pair.key for holder in holders for pair in holder.attributes}
                assert keys <= DEFAULT_ATTRIBUTES
                assert not span.status.message


def check(data: bytes) -> bool:
    """Only WireError escapes; limits hold; what is passed on has every span once, of this zone and with what it allows."""
    value, encoding = payload_of(data)
    try:
        payload = _decoded(value, encoding)
        request = parse(payload, LIMITS)
    except WireError as error:
        assert str(error)
        assert len(str(error)) < 400
        return False
    (routed,) = Route(ZONE).submit(Checked(Message(0, 7, value, encoding), request, "", payload))
    assert routed.spans + sum(item.spans for item in routed.foreign) == count_spans(
        request.resource_spans
    )
    own = ExportTraceServiceRequest.FromString(routed.body)
    assert count_spans(own.resource_spans) == routed.spans
    _only_allowed(own)
    for item in routed.foreign:
        foreign = ExportTraceServiceRequest.FromString(item.payload)
        assert count_spans(foreign.resource_spans) == item.spans
        _only_allowed(foreign)
    body = envelope([(routed.body, 3, 9)], 11)
    framed = body[len(varint(len(body) - len(varint(len(body))))) :]
    assert framed.startswith(routed.body)
    assert count_spans(ExportTraceServiceRequest.FromString(framed).resource_spans) == routed.spans
    return True


def _decoded(value: bytes, encoding: str) -> bytes:
    # Tracing memory slows everything down, so it is left out of most of a long run.
    global _inputs  # noqa: PLW0603 -- counts this process's inputs
    _inputs += 1
    if not encoding or _inputs % 16:
        payload = decode(value, encoding, LIMITS)
    else:
        tracemalloc.start()
        try:
            payload = decode(value, encoding, LIMITS)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < _MOST_MEMORY, f"{peak} bytes of memory"
    assert len(payload) <= LIMITS.decoded_bytes
    if encoding == "gzip":
        assert payload == gzip.decompress(value)
    return payload


def seeds() -> Sequence[bytes]:
    """Messages as services write them, under each encoding."""
    plain = make_message(
        make_resource([make_span(start_ns=1_795_000_000 * 10**9, span_id=b"12345678")])
    )
    two = plain + make_message(make_resource([make_span()], region="us-east-1"))
    return [
        *(b"\x00" + value for value in (plain, two, plain + b"\x08\x01", b"")),
        b"\x01" + gzip.compress(plain),
        b"\x01" + gzip.compress(plain) + gzip.compress(two),
        b"\x02" + zstandard.compress(plain),
        b"\x02" + zstandard.compress(bytes(1 << 19)),
        b"\x03\x00\x02" + gzip.compress(plain),
        *(bytes([mode]) + bytes(range(256)) for mode in range(4, 8)),
        *(bytes([mode, 2]) + plain for mode in range(4, 8)),
    ]


TARGET: Final = Target(check, seeds)
