"""Step 3: only spans of the zone's own regions go on, with what the zone allows.

The rest of a message stays, as quarantine, inside the zone.
"""

from __future__ import annotations

from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.redaction import clean_text
from mobius_instrumentation.wire import field
from mobius_instrumentation.zones import Zone
from mobius_pipeline.allow_list import AllowList, is_ours
from mobius_pipeline.quarantine import Foreign, Reason
from mobius_pipeline.raw_spans import RawRequest
from mobius_pipeline.removals import Removal, count_removals, describe_source
from mobius_pipeline.wire import count_spans
from mobius_pipeline.worker.steps import Checked, Routed

__all__ = ["Route"]


class _Cut(NamedTuple):
    """A resource's spans, held to the allow-list and encoded, and what was removed."""

    encoded: bytes
    removed: tuple[Removal, ...]


class Route:
    """Checks the region of each resource against the zone, and the attributes against its allow-list."""

    def __init__(self, zone: Zone, attributes: AttributePolicy | None = None) -> None:
        self._regions = frozenset(zone.regions)
        self._allow_list = AllowList(attributes or AttributePolicy())

    def submit(self, item: Checked) -> tuple[Routed]:
        """Take one message apart. One of our own package, and all of the zone, keeps its original bytes.

        1. Hold what is not of our own package to the allow-list, also what goes to quarantine.
        2. Tell own regions from foreign ones.
        """
        if item.request is None:
            return (Routed(item.message, b"", 0, (), item.problem),)
        held = self._hold(item.request, item.payload)  # 1
        own: list[tuple[ResourceSpans, _Cut | None]] = []
        foreign: list[Foreign] = []
        removed: list[Removal] = []
        for place, resource in enumerate(item.request.resource_spans):
            region, reason = self._judge(resource)  # 2
            cut = held.get(place)
            if reason is not None:
                foreign.append(_foreign(resource, region, reason, cut))
                continue
            own.append((resource, cut))
            removed += [*count_removals(resource), *(cut.removed if cut else ())]
        spans = count_spans(resource for resource, _ in own)
        whole = not held and not foreign
        body = item.payload if whole else b"".join(_encode(*each) for each in own)
        return (Routed(item.message, body, spans, tuple(foreign), "", tuple(removed)),)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def _hold(self, request: ExportTraceServiceRequest, payload: bytes) -> dict[int, _Cut]:
        """Give what is not of our own package by its place, with nothing in it that is not allowed."""
        strange = [place for place, each in enumerate(request.resource_spans) if not is_ours(each)]
        if not strange:
            return {}
        found: dict[int, _Cut] = {}
        raw = RawRequest.FromString(payload).resource_spans
        for place in strange:
            held = raw[place]
            spans, attributes = self._allow_list.hold(held)
            removed: tuple[Removal, ...] = ()
            if attributes:
                resource = Resource.FromString(held.resource.SerializeToString())
                removed = (Removal(*describe_source(resource), spans, attributes, "zone"),)
            # Written anew: two readers might understand an unusual encoding in two ways.
            found[place] = _Cut(held.SerializeToString(), removed)
        return found

    def _judge(self, resource: ResourceSpans) -> tuple[str, Reason | None]:
        # The engine takes the first attribute of this name, whatever its type, so all of them must say the same.
        regions = {
            attribute.value.string_value
            for attribute in resource.resource.attributes
            if attribute.key == "cloud.region"
        }
        if not regions - {""}:
            return "", "region is missing"
        if len(regions) > 1:
            return ", ".join(sorted(regions - {""})), "region is contradictory"
        (region,) = regions
        return region, None if region in self._regions else "region is not of this zone"


def _texts(resource: ResourceSpans, key: str) -> set[str]:
    return {
        attribute.value.string_value
        for attribute in resource.resource.attributes
        if attribute.key == key and attribute.value.string_value
    }


def _foreign(resource: ResourceSpans, region: str, reason: Reason, cut: _Cut | None) -> Foreign:
    return Foreign(
        reason=reason,
        region=clean_text(region),
        service=clean_text(min(_texts(resource, "service.name"), default="")),
        spans=count_spans([resource]),
        payload=_encode(resource, cut),
    )


def _encode(resource: ResourceSpans, cut: _Cut | None) -> bytes:
    """Encode one resource as an ``ExportTraceServiceRequest``, which may stand behind others."""
    return field(1, cut.encoded if cut else resource.SerializeToString(deterministic=True))
