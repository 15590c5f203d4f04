"""Step 3: only spans of the zone's own regions go on; the rest of a message stays, as quarantine, inside the zone."""

from __future__ import annotations

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from mobius_instrumentation.zones import Zone
from mobius_pipeline.quarantine import Foreign, Reason
from mobius_pipeline.removals import count_removals
from mobius_pipeline.wire import count_spans
from mobius_pipeline.worker.steps import Checked, Routed

__all__ = ["Route"]


class Route:
    """Checks the region of each resource against the zone."""

    def __init__(self, zone: Zone) -> None:
        self._regions = frozenset(zone.regions)

    def submit(self, item: Checked) -> tuple[Routed]:
        """Take one message apart. One whose resources all are of the zone keeps its original bytes."""
        if item.request is None:
            return (Routed(item.message, b"", 0, (), item.problem),)
        strange = [
            (resource, region, reason)
            for resource in item.request.resource_spans
            for region, reason in [self._judge(resource)]
            if reason is not None
        ]
        if not strange:
            removed = count_removals(item.request)
            spans = count_spans(item.request)
            return (Routed(item.message, item.payload, spans, (), "", removed),)
        foreign = tuple(_foreign(resource, region, reason) for resource, region, reason in strange)
        own = ExportTraceServiceRequest(
            resource_spans=[r for r in item.request.resource_spans if self._judge(r)[1] is None]
        )
        body = own.SerializeToString(deterministic=True)
        return (Routed(item.message, body, count_spans(own), foreign, "", count_removals(own)),)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

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


def _foreign(resource: ResourceSpans, region: str, reason: Reason) -> Foreign:
    request = ExportTraceServiceRequest(resource_spans=[resource])
    return Foreign(
        reason=reason,
        region=region,
        service=min(_texts(resource, "service.name"), default=""),
        spans=count_spans(request),
        payload=request.SerializeToString(deterministic=True),
    )
