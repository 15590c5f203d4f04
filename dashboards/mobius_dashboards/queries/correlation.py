"""Verdicts and findings, through the same functions as the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mobius_analysis.cells import CorrelationResult, load_cells, merge_documents
from mobius_analysis.findings import Finding, load_open
from mobius_analysis.matching import Match
from mobius_dashboards.clients import client_for
from mobius_dashboards.queries.cache import cached
from mobius_dashboards.queries.people import CellKey, Shown, hide_small, load_people
from mobius_dashboards.view import View
from mobius_dashboards.viewer import ForbiddenError, Viewer, require
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, MobiusError, TerminalError

__all__ = ["Correlation", "correlation", "findings", "require_shown", "shown"]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Cells and coverage as `correlate --json` prints them, and the zones that could not be asked.

    ``hidden`` cells have too few people for who sees aggregates alone.
    """

    document: dict[str, Any]
    failures: tuple[MobiusError, ...]
    hidden: int = 0


def correlation(view: View) -> Correlation:
    """Return the cells of the view's zones; a zone whose store is away leaves the others readable."""
    results: list[CorrelationResult] = []
    failures: list[MobiusError] = []
    hidden = 0
    for zone in view.scope:
        try:
            seen = shown(view, zone)
        except (DependencyError, TerminalError) as error:
            failures.append(error)
            continue
        hidden += seen.hidden
        kept = tuple(
            cell
            for cell in seen.result.cells
            if view.state.region in ("", cell.region) and view.state.service in ("", cell.service)
        )
        results.append(replace(seen.result, cells=kept))
    return Correlation(merge_documents(results), tuple(failures), hidden)


def shown(view: View, zone: Zone) -> Shown:
    """Return the cells of one zone that the viewer is shown, whatever part of them a page shows.

    They are judged as one family with those that are not shown.
    """
    require(view.viewer, zone.name)
    return _cells(
        view.viewer.policy,
        zone,
        view.window.since,
        view.window.until,
        environment=view.state.environment,
        match=view.state.matched_by,
        _viewer=view.viewer,
    )


@cached
def _cells(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    since: datetime,
    until: datetime,
    *,
    environment: str,
    match: Match,
    _viewer: Viewer,
) -> Shown:
    with client_for(_viewer, zone) as client:
        result = load_cells(
            client, zone, since, until, environment=environment or None, match=match
        )
        if _viewer.sees(zone.name, "spans"):
            return Shown(result)
        people = load_people(client, result, environment)
    return hide_small(result, people, _viewer.least_people(zone.name))


def require_shown(view: View, zone: Zone, subject: CellKey) -> None:
    """Refuse an endpoint of too few people, or without requests, to who sees aggregates alone.

    Raises
    ------
    ForbiddenError
        The viewer is not shown it.
    """
    require(view.viewer, zone.name)
    if not view.viewer.sees(zone.name, "spans") and subject not in shown(view, zone).subjects:
        least = view.viewer.least_people(zone.name)
        raise ForbiddenError(view.viewer.name, zone.name, f"cells of fewer than {least} people")


def findings(view: View, zone: Zone) -> list[Finding]:
    """Return a zone's open findings of the view's region and service that began before its window ended.

    Who sees aggregates alone gets none of an endpoint that they are not shown.
    """
    require(view.viewer, zone.name)
    found = _findings(view.viewer.policy, zone, view.viewer)
    cells = None if view.viewer.sees(zone.name, "spans") else shown(view, zone).subjects
    return [
        finding
        for finding in found
        if view.state.region in ("", finding.region)
        and view.state.service in ("", finding.service)
        and finding.since < view.window.until
        and (cells is None or not finding.route or finding.cell in cells)
    ]


@cached
def _findings(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    _viewer: Viewer,
) -> list[Finding]:
    with client_for(_viewer, zone) as client:
        return load_open(client)
