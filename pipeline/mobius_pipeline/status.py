"""What each zone holds, and how far its worker is behind the broker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import describe_topic, end_offsets
from mobius_pipeline.ledger import stored_positions
from mobius_pipeline.store import Purpose, connect, store_errors

__all__ = ["SpanIdentity", "ZoneStatus", "lag", "span_identity", "status_document", "zone_status"]


@dataclass(frozen=True, slots=True)
class ZoneStatus:
    """What a zone's store holds.

    Attributes
    ----------
    minutes
        Distinct minutes that the rollup has data of.
    lag
        Messages on the broker that are not stored yet; exact at the moment of asking.
    dead_letters
        Distinct messages that could not be read.
    quarantined
        Spans that arrived here and are not data of this zone, or no data at all.
    newest
        Start of the newest span; None where there is none.
    """

    spans: int
    traces: int
    minutes: int
    lag: int
    dead_letters: int
    quarantined: int
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class SpanIdentity:
    """Rows of spans, and distinct (trace id, span id) pairs among them."""

    rows: int
    distinct: int


def zone_status(zone: Zone) -> ZoneStatus:
    """Ask the store and the broker of ``zone``.

    Raises
    ------
    DependencyError
        One of them does not answer, or is not set up.
    """
    client = connect(zone, Purpose.ANALYSIS)
    try:
        with store_errors(zone):
            spans, traces, newest = client.query(
                "SELECT count(), uniqExact(trace_id), max(start) FROM spans"
            ).result_rows[0]
            (minutes,) = client.query("SELECT uniqExact(minute) FROM latency_minute").result_rows[0]
            (dead,) = client.query("SELECT count() FROM dead_letters FINAL").result_rows[0]
            (quarantined,) = client.query("SELECT sum(spans) FROM quarantine").result_rows[0]
    finally:
        client.close()
    return ZoneStatus(
        spans=int(spans),
        traces=int(traces),
        minutes=int(minutes),
        lag=lag(zone),
        dead_letters=int(dead),
        quarantined=int(quarantined),
        newest=newest.replace(tzinfo=UTC) if spans else None,
    )


def lag(zone: Zone) -> int:
    """Messages of the zone's topic that are on the broker and not stored yet.

    Counts up to the broker's high watermark (:func:`mobius_pipeline.kafka_client.end_offsets`), from what the ledger
    says is stored: 0 means that every message is visible to queries.

    Raises
    ------
    DependencyError
        Broker or store do not answer, or the topic is missing.
    """
    topic = describe_topic(zone, zone.spans_topic)
    if topic is None:
        raise DependencyError(
            f"topic {zone.spans_topic} of zone {zone.name}",
            ", ".join(zone.kafka),
            reason="the broker has no such topic",
            remedy="make it with `mobius-rum migrate`",
        )
    ends = end_offsets(zone, topic.name, topic.partitions)
    client = connect(zone, Purpose.ANALYSIS)
    try:
        with store_errors(zone):
            stored = stored_positions(client, topic.id)
    finally:
        client.close()
    return sum(max(0, end - stored.get(partition, 0)) for partition, end in ends.items())


def span_identity(zone: Zone) -> SpanIdentity:
    """Count the zone's spans by identity, to compare with what was produced.

    Raises
    ------
    DependencyError
        The store does not answer.
    """
    client = connect(zone, Purpose.ANALYSIS)
    try:
        with store_errors(zone):
            rows, distinct = client.query(
                "SELECT count(), uniqExact(trace_id, span_id) FROM spans"
            ).result_rows[0]
    finally:
        client.close()
    return SpanIdentity(int(rows), int(distinct))


def status_document(zones: Iterable[Zone]) -> dict[str, Any]:
    """Return the document of ``mobius-rum status --json``.

    Raises
    ------
    DependencyError
        A broker or a store does not answer.
    """
    return {"zones": {zone.name: asdict(zone_status(zone)) for zone in zones}}
