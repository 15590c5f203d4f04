"""Attributes that were taken out of spans before they left their service, as the spans themselves count them.

OTLP's ``dropped_attributes_count`` holds what the service's allow-list removed, and what went beyond the limits of its
SDK. Events and links have counts of their own, which are not looked at: that would cost more than all else here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

__all__ = ["Removal", "count_removals", "store_removals"]

_COLUMNS: Final = ["region", "service", "spans", "attributes"]


@dataclass(frozen=True, slots=True)
class Removal:
    """One resource's spans of one message that lack attributes: how many spans, and how many attributes."""

    region: str
    service: str
    spans: int
    attributes: int


def count_removals(request: ExportTraceServiceRequest) -> tuple[Removal, ...]:
    """Count what the spans of a message lack, resource by resource; those that lack nothing are left out."""
    return tuple(
        _removal(resource, counts)
        for resource in request.resource_spans
        for counts in [_dropped(resource)]
        if counts
    )


def _dropped(resource: ResourceSpans) -> list[int]:
    return [
        dropped
        for scope in resource.scope_spans
        for span in scope.spans
        if (dropped := span.dropped_attributes_count)
    ]


def _removal(resource: ResourceSpans, counts: list[int]) -> Removal:
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    region, service = named.get("cloud.region", ""), named.get("service.name", "")
    return Removal(region, service, len(counts), sum(counts))


def store_removals(client: Client, found: Iterable[Removal], token: str) -> None:
    """Add what was found to the zone's account; the same ``token`` again changes nothing."""
    spans: Counter[tuple[str, str]] = Counter()
    attributes: Counter[tuple[str, str]] = Counter()
    for each in found:
        spans[each.region, each.service] += each.spans
        attributes[each.region, each.service] += each.attributes
    if spans:
        client.insert(
            "removed_attributes",
            [[*key, count, attributes[key]] for key, count in sorted(spans.items())],
            _COLUMNS,
            settings={"insert_deduplication_token": f"{token}/removed"},
        )
