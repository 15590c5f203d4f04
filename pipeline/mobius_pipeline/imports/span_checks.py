"""What a span must be before it may leave for its zone's topic; the same laws as the store's quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from mobius_instrumentation.zones import Zone, Zones

__all__ = ["Residence", "problem_of_span"]

_YEAR_2000_NS: Final = 946_684_800 * 10**9
_TWO_DAYS_NS: Final = 2 * 86_400 * 10**9
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)


def problem_of_span(span: Span, now_ns: int) -> str | None:
    """Say what is wrong with ``span``, or None; ``now_ns`` is the present in ns since 1970."""
    if len(span.trace_id) != 16 or span.trace_id == _NO_TRACE:
        return f"a trace id is 16 bytes and not zero, this one is {_id(span.trace_id)}"
    if len(span.span_id) != 8 or span.span_id == _NO_SPAN:
        return f"a span id is 8 bytes and not zero, this one is {_id(span.span_id)}"
    if len(span.parent_span_id) not in (0, 8):
        return f"a parent span id is 8 bytes, this one is {_id(span.parent_span_id)}"
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    name = f"span {span.span_id.hex()} ({span.name[:60]!r})"
    if end < start:
        return (
            f"{name} has a negative duration: it ends {(start - end) / 1e6:.3f} ms before its start"
        )
    if start < _YEAR_2000_NS:
        return f"{name} starts before the year 2000: {start} ns since 1970"
    if end > now_ns + _TWO_DAYS_NS:
        years = 1970 + end / (365.2425 * 86_400 * 1e9)
        return (
            f"{name} ends more than two days ahead, in the year {int(years)}: {end} ns since 1970"
        )
    if not 0 <= span.kind <= 5 or not 0 <= span.status.code <= 2:
        return f"{name} has an unknown kind ({span.kind}) or status ({span.status.code})"
    return None


def _id(value: bytes) -> str:
    return f"{len(value)} bytes ({value[:20].hex() or 'empty'})"


@dataclass(frozen=True, slots=True)
class Residence:
    """Where the spans of one import belong: the region that fills gaps, and the zone that must hold all."""

    zones: Zones
    zone: Zone
    region: str

    def settle(self, item: ResourceSpans) -> str | None:
        """Fill a missing region of ``item``; say what is wrong where it has one outside the zone."""
        attributes = item.resource.attributes
        places = [i for i, pair in enumerate(attributes) if pair.key == "cloud.region"]
        regions = {_text_of(attributes[i].value) for i in places} - {""}
        if not regions:
            for index in reversed(places):
                del attributes[index]
            attributes.add(key="cloud.region").value.string_value = self.region
            return None
        if None in regions or len(regions) > 1:
            return "the resource has more than one cloud.region, or one that is no text"
        (region,) = regions
        for index in reversed(places):  # readers take the first of them, which may be an empty one
            if _text_of(attributes[index].value) == "":
                del attributes[index]
        if region in self.zone.regions:
            return None
        other = self.zones.zone_of(str(region))
        if other is None:
            return (
                f"the resource says cloud.region {region!r}, which no zone of {self.zones.file} holds; "
                "add it to the zone where it lies, or leave these spans out"
            )
        return (
            f"the resource says cloud.region {region!r} of zone {other.name}, and --region {self.region} "
            f"is of zone {self.zone.name}: import these spans with --region {region}; nothing was imported"
        )


def _text_of(value: AnyValue) -> str | None:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    return value.string_value if kind == "string_value" else None
