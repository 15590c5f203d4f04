"""What a zone's own books say of its borders, as its viewer's level allows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mobius_dashboards.clients import client_for
from mobius_dashboards.queries.cache import cached
from mobius_dashboards.view import View
from mobius_dashboards.viewer import Viewer, require
from mobius_instrumentation.zones import Zone
from mobius_pipeline.residency.account import (
    ExportedHour,
    Quarantined,
    Reads,
    Removed,
    load_exported_hours,
    load_quarantined,
    load_reads_by_viewer,
    load_removed,
)

__all__ = ["Borders", "borders"]


@dataclass(frozen=True, slots=True)
class Borders:
    """One zone's account in a window.

    ``quarantined`` and ``reads`` are None where the viewer sees aggregates alone: those tables hold single
    requests, and who looked at them.
    """

    exported: tuple[ExportedHour, ...]
    removed: tuple[Removed, ...]
    quarantined: tuple[Quarantined, ...] | None = None
    reads: tuple[Reads, ...] | None = None


def borders(view: View, zone: Zone) -> Borders:
    """Return what crossed a zone's borders in the view's window, and what was kept from it."""
    require(view.viewer, zone.name)
    return _borders(view.viewer.policy, zone, view.window.since, view.window.until, view.viewer)


@cached
def _borders(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    since: datetime,
    until: datetime,
    _viewer: Viewer,
) -> Borders:
    with client_for(_viewer, zone) as client:
        exported = load_exported_hours(client, since, until)
        removed = load_removed(client, since, until)
    if not _viewer.sees(zone.name, "spans"):
        return Borders(exported, removed)
    with client_for(_viewer, zone, "spans") as client:
        quarantined = load_quarantined(client, since, until)
        reads = load_reads_by_viewer(client, since, until)
    return Borders(exported, removed, quarantined, reads)
