"""One endpoint's whole comparison, through the same function as the command ``explain``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mobius_analysis.cells import CorrelationResult
from mobius_analysis.endpoint_detail import load_detail
from mobius_analysis.matching import Match
from mobius_analysis.rollup import Window as AnalysisWindow
from mobius_dashboards.clients import client_for
from mobius_dashboards.queries.cache import cached
from mobius_dashboards.queries.correlation import require_shown, shown
from mobius_dashboards.queries.endpoint import Subject
from mobius_dashboards.queries.people import is_small
from mobius_dashboards.view import View
from mobius_dashboards.viewer import Viewer
from mobius_instrumentation.zones import Zone

__all__ = ["detail"]


def detail(view: View, zone: Zone, subject: Subject) -> dict[str, Any]:
    """Return the document that ``explain --json`` prints.

    Raw spans are read for it only where the viewer sees spans; others get what the rollup tells of enough people.
    """
    require_shown(view, zone, subject.cell)
    return _detail(
        view.viewer.policy,
        zone,
        view.window.since,
        view.window.until,
        subject,
        match=view.state.matched_by,
        _result=shown(view, zone).result,
        _viewer=view.viewer,
    )


@cached
def _detail(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    since: datetime,
    until: datetime,
    subject: Subject,
    *,
    match: Match,
    _result: CorrelationResult,
    _viewer: Viewer,
) -> dict[str, Any]:
    raw = _viewer.sees(zone.name, "spans")
    with client_for(_viewer, zone, "spans" if raw else "aggregates") as client:
        window = AnalysisWindow.of(since, until)
        found = load_detail(
            client, zone, subject.only, window, match=match, result=_result, raw=raw
        )
    least = _viewer.least_people(zone.name)
    for segment in found["segments"]:
        # Of requests nobody knows whose they are by version, size or hour: they stand in for people.
        segment["values"] = [
            each for each in segment["values"] if not is_small(each["production_requests"], least)
        ]
    return found
