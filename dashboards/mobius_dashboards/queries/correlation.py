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
from mobius_dashboards.view import View
from mobius_dashboards.viewer import Viewer, require
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, MobiusError, TerminalError

__all__ = ["Correlation", "cells_of", "correlation", "findings"]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Cells and coverage as `correlate --json` prints them, and the zones that could not be asked."""

    document: dict[str, Any]
    failures: tuple[MobiusError, ...]


def correlation(view: View) -> Correlation:
    """Return the cells of the view's zones; a zone whose store is away leaves the others readable."""
    results: list[CorrelationResult] = []
    failures: list[MobiusError] = []
    for zone in view.scope:
        try:
            found = cells_of(view, zone)
        except (DependencyError, TerminalError) as error:
            failures.append(error)
            continue
        kept = tuple(
            cell
            for cell in found.cells
            if view.state.region in ("", cell.region) and view.state.service in ("", cell.service)
        )
        results.append(replace(found, cells=kept))
    return Correlation(merge_documents(results), tuple(failures))


def cells_of(view: View, zone: Zone) -> CorrelationResult:
    """Return all cells of one zone: they are one family, whatever part of them a page shows."""
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
) -> CorrelationResult:
    with client_for(_viewer, zone) as client:
        return load_cells(client, zone, since, until, environment=environment or None, match=match)


def findings(view: View, zone: Zone) -> list[Finding]:
    """Return a zone's open findings of the view's region and service that began before its window ended."""
    require(view.viewer, zone.name)
    found = _findings(view.viewer.policy, zone, view.viewer)
    return [
        finding
        for finding in found
        if view.state.region in ("", finding.region)
        and view.state.service in ("", finding.service)
        and finding.since < view.window.until
    ]


@cached
def _findings(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    _viewer: Viewer,
) -> list[Finding]:
    with client_for(_viewer, zone) as client:
        return load_open(client)
