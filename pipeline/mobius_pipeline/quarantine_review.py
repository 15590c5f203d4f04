"""Looks through a zone's quarantine, and releases what a person says belongs to the zone: each at most once.

What is released is published to the zone's own topic under a region of the zone, and goes through the worker as anything
else; nothing goes to another zone. What the quarantine holds stays there, with who released it in the audit log. Spans that
the engine found wrong (a negative duration) are not here: no region makes them right.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID, uuid5

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.publish_once import Once, load_marks, publish_once
from mobius_pipeline.store import Purpose, connect, store_errors

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Held", "Released", "find_held", "release", "require_own_region"]

State = Literal["held", "interrupted", "released"]

_BOOK: Final = "quarantine"  # what the ledger calls it in the place of a topic
_SPACE: Final = UUID("6f8f0c1e-3d5b-5a53-9d0b-7a2c4f6f1b60")
_HELD: Final = """
SELECT toString(reason) AS reason, toString(region) AS region, toString(service) AS service, toString(topic) AS topic,
    partition, offset, sum(spans) AS spans, min(at) AS at
FROM quarantine WHERE topic != ''
GROUP BY reason, region, service, topic, partition, offset
ORDER BY at, topic, partition, offset, region, service, reason
"""
_PAYLOADS: Final = """
SELECT payload FROM quarantine
WHERE topic = {topic:String} AND partition = {partition:UInt32} AND offset = {offset:UInt64}
  AND region = {region:String} AND service = {service:String} AND reason = {reason:String}
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Spans of one message that were kept apart for one reason, of one service and one named region ("" for none)."""

    reason: str
    region: str
    service: str
    topic: str
    partition: int
    offset: int
    spans: int
    at: datetime
    state: State

    @property
    def mark(self) -> UUID:
        """Its place in the ledger, beside partition and offset."""
        return uuid5(_SPACE, repr((self.topic, self.reason, self.region, self.service)))

    @property
    def id(self) -> str:
        """Its identity."""
        return f"{self.mark}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Released:
    """What a release did, by ids."""

    released: tuple[str, ...]
    already: tuple[str, ...]
    interrupted: tuple[str, ...]


def find_held(zone: Zone) -> list[Held]:
    """All that the zone's quarantine holds of whole messages, the oldest first.

    Raises
    ------
    DependencyError
        The store does not answer.
    """
    with store_errors(zone), closing(connect(zone, Purpose.ANALYSIS)) as client:
        rows = client.query(_HELD).result_rows
        marks = load_marks(client, _BOOK)
    found = []
    for reason, region, service, topic, partition, offset, spans, at in rows:
        where = reason, region, service, topic, int(partition), int(offset)
        held = Held(*where, int(spans), at.replace(tzinfo=UTC), "held")
        done = marks.get((held.mark, held.partition, held.offset))
        if done is not None:
            held = replace(held, state="released" if done else "interrupted")
        found.append(held)
    return found


def require_own_region(zone: Zone, as_region: str) -> None:
    """Refuse to release as spans of another zone.

    Raises
    ------
    UsageError
        ``as_region`` is no region of this zone.
    """
    if as_region not in zone.regions:
        raise UsageError(
            f"{as_region!r} is no region of zone {zone.name} ({', '.join(zone.regions)}): what was quarantined is never "
            "sent to another zone",
            field="--as-region",
        )


def release(
    zone: Zone, chosen: Sequence[Held], as_region: str, *, dry_run: bool = False
) -> Released:
    """Publish what is held as spans of ``as_region``, each at most once; the rest of ``chosen`` is told apart.

    Raises
    ------
    UsageError
        ``as_region`` is no region of this zone; nothing was published.
    DependencyError
        Broker or store do not answer; what was under way is interrupted.
    """
    require_own_region(zone, as_region)
    held = [each for each in chosen if each.state == "held"]
    done = [each.id for each in held]
    if not dry_run:
        with store_errors(zone), closing(connect(zone, Purpose.ANALYSIS)) as client:
            things = [_once(client, each, as_region) for each in held]
        done = list(publish_once(zone, things, "release"))
    return Released(
        released=tuple(done),
        already=tuple(each.id for each in chosen if each.state == "released"),
        interrupted=tuple(each.id for each in chosen if each.state == "interrupted"),
    )


def _once(client: Client, held: Held, as_region: str) -> Once:
    rows = client.query(
        _PAYLOADS,
        parameters={
            "topic": held.topic,
            "partition": held.partition,
            "offset": held.offset,
            "region": held.region,
            "service": held.service,
            "reason": held.reason,
        },
        query_formats={"String": "bytes"},
    ).result_rows
    # Messages of this kind one behind the other are one message.
    request = ExportTraceServiceRequest.FromString(b"".join(payload for (payload,) in rows))
    for resource in request.resource_spans:
        others = [each for each in resource.resource.attributes if each.key != "cloud.region"]
        del resource.resource.attributes[:]
        resource.resource.attributes.extend(others)
        resource.resource.attributes.add(key="cloud.region").value.string_value = as_region
    value = request.SerializeToString(deterministic=True)
    return Once(held.id, _BOOK, held.mark, held.partition, held.offset, value, ())
