"""Findings about what was quarantined: which regions came where they do not belong, and how much of all that came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mobius_analysis.findings import Finding, Kind, Subject
from mobius_analysis.intervals import wilson
from mobius_analysis.rollup import Window, query
from mobius_instrumentation.zones import Zone
from mobius_pipeline.options import format_time

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["foreign_region_findings", "quarantine_rate_findings", "quarantine_settled"]

_TOO_MANY: Final = 0.01
_LEAST_SPANS: Final = 100

_FOREIGN: Final = """
SELECT toString(region) AS region, toString(service) AS service, toString(any(reason)) AS reason,
    sum(spans) AS spans, toUnixTimestamp64Milli(min(at)) AS first, toUnixTimestamp64Milli(max(at)) AS last
FROM quarantine
WHERE at >= {since:DateTime('UTC')} AND at < {until:DateTime('UTC')} AND NOT has({regions:Array(String)}, region)
GROUP BY region, service
ORDER BY region, service
"""
# The ledger says what arrived when; spans themselves say when they happened.
_RATE: Final = """
SELECT sum(spans) AS quarantined, toUnixTimestamp64Milli(min(at)) AS first,
    (SELECT sum(spans) FROM ingest_ledger
     WHERE state = 'done' AND at >= {since:DateTime('UTC')} AND at < {until:DateTime('UTC')}) AS stored
FROM quarantine
WHERE at >= {since:DateTime('UTC')} AND at < {until:DateTime('UTC')}
"""


def foreign_region_findings(client: Client, zone: Zone, window: Window) -> Iterator[Finding]:
    """Findings about quarantined spans of regions that are not in ``zone``, or have none.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    parameters = {"since": window.start, "until": window.end, "regions": list(zone.regions)}
    for row in query(client, _FOREIGN, parameters).iter_rows(named=True):
        named = row["region"] or "no region"
        yield Finding(
            kind="foreign_region",
            region=row["region"],
            service=row["service"],
            method="",
            route="",
            severity="critical",
            since=_moment(row["first"]),
            title=f"{row['spans']:,} spans of {row['service'] or 'a nameless service'} name {named}, not a region of zone {zone.name}; quarantined",
            evidence={
                "spans": row["spans"],
                "reason": row["reason"],
                "first": format_time(_moment(row["first"])),
                "last": format_time(_moment(row["last"])),
            },
        )


def quarantine_rate_findings(client: Client, window: Window) -> Iterator[Finding]:
    """Find that more than 1 % of the spans that arrived in ``window`` were quarantined, of at least 100.

    The lower bound of the share's 95 % interval decides; spans of one message are not independent of each other, so it is a
    floor for noise and no probability.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    (row,) = query(client, _RATE, {"since": window.start, "until": window.end}).iter_rows(
        named=True
    )
    quarantined, arrived = int(row["quarantined"]), int(row["quarantined"]) + int(row["stored"])
    share = wilson(quarantined, arrived)
    if share is None or arrived < _LEAST_SPANS or (share.low or 0.0) <= _TOO_MANY:
        return
    yield Finding(
        kind="quarantine_rate",
        region="",
        service="",
        method="",
        route="",
        severity="critical",
        since=_moment(row["first"]),
        title=f"{share.value:.1%} of the spans that arrived were quarantined: {quarantined:,} of {arrived:,}",
        evidence={
            "share": share.document(),
            "quarantined_spans": quarantined,
            "arrived_spans": arrived,
            "limit": _TOO_MANY,
        },
    )


def quarantine_settled(known: Sequence[Finding]) -> Iterator[tuple[Kind, Subject]]:
    """Open findings of this module: each run decides about them, since it sees all that arrived in its window."""
    for finding in known:
        if finding.kind in ("foreign_region", "quarantine_rate"):
            yield finding.kind, finding.subject


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
