"""What a zone's own books say of its borders: what was sent to the hub and held back, quarantined, and read by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = [
    "ExportedHour",
    "Quarantined",
    "Reads",
    "Removed",
    "load_exported_hours",
    "load_quarantined",
    "load_reads_by_viewer",
    "load_removed",
]

_MOST_GROUPS: Final = 1_000
_EXPORTED: Final = """
SELECT hour, exported_at, least_subjects, toString(counted_by),
    sent_cells, sent_totals, cells, small_cells, totals, small_totals, hidden_beside
FROM hub_exports FINAL
WHERE hour >= {since:DateTime('UTC')} AND hour < {until:DateTime('UTC')}
ORDER BY hour
"""
_QUARANTINED: Final = """
SELECT toString(reason), toString(region), sum(spans), max(at) AS newest
FROM quarantine
WHERE at >= {since:DateTime64(3, 'UTC')} AND at < {until:DateTime64(3, 'UTC')}
GROUP BY reason, region
ORDER BY sum(spans) DESC, reason, region
LIMIT {most:UInt32}
"""
_REMOVED: Final = """
SELECT toString(region), toString(service), toString(remover), sum(spans), sum(attributes)
FROM removed_attributes
WHERE hour >= toStartOfHour({since:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
GROUP BY region, service, remover
ORDER BY sum(attributes) DESC, region, service, remover
LIMIT {most:UInt32}
"""
_READS: Final = """
SELECT viewer, toString(action), count() AS reads, countIf(reason != '') AS with_reason, max(at) AS newest
FROM audit_log
WHERE at >= {since:DateTime64(3, 'UTC')} AND at < {until:DateTime64(3, 'UTC')}
GROUP BY viewer, action
ORDER BY newest DESC, viewer, action
LIMIT {most:UInt32}
"""


@dataclass(frozen=True, slots=True)
class ExportedHour:
    """One hour of the rollup that crossed to the hub.

    Attributes
    ----------
    least_subjects, counted_by
        The size that cells had to have, and whether it was counted by "subjects", by "requests", or "both", in some
        cells the one and in others the other.
    sent_cells, sent_totals
        What lies in the hub.
    cells, small_cells, totals, small_totals
        Cells and totals that there were, and those of them that were too small.
    hidden_beside
        Cells and totals held back because they would have given a small one away.
    """

    hour: datetime
    exported_at: datetime
    least_subjects: int
    counted_by: str
    sent_cells: int
    sent_totals: int
    cells: int
    small_cells: int
    totals: int
    small_totals: int
    hidden_beside: int

    @property
    def sent(self) -> int:
        """Cells and totals that crossed."""
        return self.sent_cells + self.sent_totals

    @property
    def held_back(self) -> int:
        """Cells and totals that stayed in the zone."""
        return self.small_cells + self.small_totals + self.hidden_beside


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Spans kept apart for one reason, that named one region ("" for none); ``newest`` is when the last arrived."""

    reason: str
    region: str
    spans: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class Removed:
    """Attributes taken out of so many spans: by the "service" before it sent them, or by the "zone" before it stored them."""

    region: str
    service: str
    remover: str
    spans: int
    attributes: int


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads of single requests of one kind by one viewer, those with a reason among them, and the last of them."""

    viewer: str
    action: str
    reads: int
    with_reason: int
    newest: datetime


def load_exported_hours(
    client: Client, since: datetime, until: datetime
) -> tuple[ExportedHour, ...]:
    """Return the exported ones of the hours that began in a stretch of time, the earliest first."""
    edges = {"since": since, "until": until}
    return tuple(
        ExportedHour(hour.replace(tzinfo=UTC), at.replace(tzinfo=UTC), *rest)
        for hour, at, *rest in client.query(_EXPORTED, parameters=edges).result_rows
    )


def load_quarantined(client: Client, since: datetime, until: datetime) -> tuple[Quarantined, ...]:
    """Return what was quarantined in a stretch of time by reason and named region, the most first; at most 1,000."""
    edges = {"since": since, "until": until, "most": _MOST_GROUPS}
    return tuple(
        Quarantined(reason, region, int(spans), newest.replace(tzinfo=UTC))
        for reason, region, spans, newest in client.query(
            _QUARANTINED, parameters=edges
        ).result_rows
    )


def load_removed(client: Client, since: datetime, until: datetime) -> tuple[Removed, ...]:
    """Return what was removed from spans that arrived in the hours of a stretch of time; at most 1,000 services."""
    edges = {"since": since, "until": until, "most": _MOST_GROUPS}
    return tuple(
        Removed(region, service, remover, int(spans), int(attributes))
        for region, service, remover, spans, attributes in client.query(
            _REMOVED, parameters=edges
        ).result_rows
    )


def load_reads_by_viewer(client: Client, since: datetime, until: datetime) -> tuple[Reads, ...]:
    """Return how often who read single requests in a stretch of time, the newest first; at most 1,000."""
    edges = {"since": since, "until": until, "most": _MOST_GROUPS}
    return tuple(
        Reads(viewer, action, int(reads), int(reasons), newest.replace(tzinfo=UTC))
        for viewer, action, reads, reasons, newest in client.query(
            _READS, parameters=edges
        ).result_rows
    )
