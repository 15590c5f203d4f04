"""What a zone holds: what can be chosen in the sidebar, and how its data stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mobius_dashboards.clients import client_for
from mobius_dashboards.queries.cache import cached, one
from mobius_dashboards.state import Window
from mobius_dashboards.view import View
from mobius_dashboards.viewer import Viewer, require
from mobius_instrumentation.zones import Zone

__all__ = ["Facets", "Health", "facets", "health"]


@dataclass(frozen=True, slots=True)
class Facets:
    """Environments and services that have requests in a window."""

    environments: tuple[str, ...]
    services: tuple[str, ...]


def facets(viewer: Viewer, zone: Zone, window: Window) -> Facets:
    """Return what can be chosen in the sidebar."""
    require(viewer, zone.name)
    return _facets(viewer.policy, zone, window.since, window.until, viewer)


@cached
def _facets(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    since: datetime,
    until: datetime,
    _viewer: Viewer,
) -> Facets:
    with client_for(_viewer, zone) as client:
        names = {
            column: client.query(
                f"SELECT DISTINCT toString({column}) FROM latency_minute"  # noqa: S608 - one of two names
                " WHERE minute >= {since:DateTime('UTC')} AND minute < {until:DateTime('UTC')} LIMIT 500",
                parameters={"since": since, "until": until},
            ).result_columns
            for column in ("environment", "service")
        }
    environments, services = (
        tuple(sorted(name for name in columns[0] if name) if columns else ())
        for columns in names.values()
    )
    return Facets(environments, services)


@dataclass(frozen=True, slots=True)
class Health:
    """How a zone's data stand.

    ``newest`` is None where the zone is empty, and the other three where the viewer sees aggregates alone: their
    tables hold single requests. ``newest`` is then a whole minute, of the rollup.
    """

    newest: datetime | None
    runs: int
    spans: int | None = None
    quarantined: int | None = None
    dead_letters: int | None = None


def health(view: View, zone: Zone) -> Health:
    """Return the state of a zone's data."""
    require(view.viewer, zone.name)
    return _health(view.viewer.policy, zone, view.window.since, view.window.until, view.viewer)


@cached
def _health(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    since: datetime,
    until: datetime,
    _viewer: Viewer,
) -> Health:
    edges = {"since": since, "until": until}
    with client_for(_viewer, zone) as client:
        minute = one(client, "SELECT maxOrNull(minute) FROM latency_minute")
        newest = None if minute is None else minute.replace(tzinfo=UTC)
        runs = one(
            client,
            "SELECT count() FROM synthetic_runs FINAL"
            " WHERE start < {until:DateTime('UTC')} AND end >= {since:DateTime('UTC')}",
            edges,
        )
    if not _viewer.sees(zone.name, "spans"):
        return Health(newest, int(runs))
    with client_for(_viewer, zone, "spans") as client:
        if newest is not None:
            start = one(
                client,
                "SELECT maxOrNull(start) FROM spans WHERE start >= {minute:DateTime('UTC')}",
                {"minute": newest},
            )
            newest = newest if start is None else start.replace(tzinfo=UTC)
        spans = one(
            client,
            "SELECT count() FROM spans WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')}",
            edges,
        )
        quarantined = one(client, "SELECT sum(spans) FROM quarantine")
        dead = one(client, "SELECT count() FROM dead_letters FINAL")
    return Health(newest, int(runs), int(spans), int(quarantined), int(dead))
