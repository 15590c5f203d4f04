"""Attributes that were taken out of spans: by their service, as the spans themselves count them, or by the zone.

OTLP's ``dropped_attributes_count`` holds what the service's allow-list removed, and what went beyond the limits of its
SDK. Events and links have counts of their own, which are not looked at: that would cost more than all else here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

__all__ = ["Removal", "Remover", "count_removals", "describe_source", "store_removals"]

Remover = Literal["service", "zone"]

_COLUMNS: Final = ["region", "service", "remover", "spans", "attributes"]


@dataclass(frozen=True, slots=True)
class Removal:
    """One resource's spans of one message that lack attributes: how many spans, and how many attributes."""

    region: str
    service: str
    spans: int
    attributes: int
    remover: Remover = "service"


def count_removals(resource: ResourceSpans) -> tuple[Removal, ...]:
    """Count what the spans of a resource lacked when they came; none where they lacked nothing."""
    counts = [
        dropped
        for scope in resource.scope_spans
        for span in scope.spans
        if (dropped := span.dropped_attributes_count)
    ]
    if not counts:
        return ()
    return (Removal(*describe_source(resource.resource), len(counts), sum(counts)),)


def describe_source(resource: Resource) -> tuple[str, str]:
    """Return region and service of a resource, "" where it names none."""
    named = {each.key: each.value.string_value for each in resource.attributes}
    return named.get("cloud.region", ""), named.get("service.name", "")


def store_removals(client: Client, found: Iterable[Removal], token: str) -> None:
    """Add what was found to the zone's account; the same ``token`` again changes nothing."""
    spans: Counter[tuple[str, str, Remover]] = Counter()
    attributes: Counter[tuple[str, str, Remover]] = Counter()
    for each in found:
        key = each.region, each.service, each.remover
        spans[key] += each.spans
        attributes[key] += each.attributes
    if spans:
        client.insert(
            "removed_attributes",
            [[*key, count, attributes[key]] for key, count in sorted(spans.items())],
            _COLUMNS,
            settings={"insert_deduplication_token": f"{token}/removed"},
        )
