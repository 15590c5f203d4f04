"""Cells as documents: what `correlate --json` prints, the store keeps and the dashboard shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mobius_analysis.batch import Batch
from mobius_analysis.batch_loader import load_batches
from mobius_analysis.collector_pause import collector_paused
from mobius_analysis.correlate import (
    Cell,
    SideSummary,
    judge_cells,
    measure,
)
from mobius_analysis.correlate_matched import Matchings, judge_matched, measure_matched
from mobius_analysis.intervals import Estimate, wilson
from mobius_analysis.joined import network_note
from mobius_analysis.joined_load import with_network
from mobius_analysis.matching import Match, Matching
from mobius_analysis.ratio import MARGIN
from mobius_analysis.reported import load_reported
from mobius_analysis.rollup import Only, Window, load_rollup, load_services
from mobius_analysis.sampled_count import count_bounds
from mobius_analysis.verdicts import HEADLINE, QUANTILES, name_of, name_ratio
from mobius_instrumentation.zones import Zone
from mobius_pipeline.options import format_time

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = [
    "CorrelationResult",
    "cell_document",
    "coverage_document",
    "load_cells",
    "merge_documents",
    "note_of",
]

_MILLISECONDS = 1000.0


@dataclass(frozen=True, slots=True)
class CorrelationResult:
    """All cells of one zone and stretch of time, judged as one family.

    ``unmatched`` holds the cells before production was matched to the tests, for the coverage; it is
    empty where nothing was matched.
    """

    zone: str
    window: Window
    cells: tuple[Cell, ...]
    unmatched: tuple[Cell, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return {"cells": [...], "coverage": {...}} as described in docs/verdicts.md."""
        return merge_documents([self])


def load_cells(
    client: Client,
    zone: Zone,
    since: datetime,
    until: datetime,
    window: timedelta | None = None,
    *,
    environment: str | None = None,
    margin: float = MARGIN,
    match: Match = "none",
    watch: Callable[[float], None] = lambda _share: None,
) -> CorrelationResult:
    """Compare production and tests of a whole zone between ``since`` and ``until``.

    Filter the cells of the result rather than the question: claims are corrected over the family of
    all cells of the zone, so the same question gives the same verdicts everywhere. ``watch`` is told
    again and again which share of the work is done.

    Raises
    ------
    DependencyError
        The zone's store does not answer.
    TerminalError
        The store refused the query.
    """
    whole = Window.of(since, until)
    windows = whole.cut(window)
    reported = load_reported(client, whole, environment=environment or "")
    only = Only(environment=environment or "")
    if match != "none":
        unmatched, like, matchings = _measure_both(client, windows, only, match, watch)
        cells = judge_cells(unmatched, windows, reported=reported, margin=margin)
        cells = with_network(client, zone, whole, cells)
        matched = judge_matched(like, matchings, windows, reported=reported, margin=margin)
        return CorrelationResult(zone.name, whole, matched, cells)
    measured: list[Cell] = []
    with collector_paused():
        for batch, share in load_batches(client, windows, only):
            measured += measure(batch, windows)
            watch(share)
        cells = judge_cells(measured, windows, reported=reported, margin=margin)
    return CorrelationResult(zone.name, whole, with_network(client, zone, whole, cells))


def _measure_both(
    client: Client,
    windows: Sequence[Window],
    only: Only,
    match: Match,
    watch: Callable[[float], None],
) -> tuple[list[Cell], list[Cell], Matchings]:
    """Measure all cells, unmatched and matched, one service after the other: loads are those of a service."""
    whole = Window(windows[0].start, windows[-1].end)
    services = load_services(client, whole, only)
    cells: list[Cell] = []
    matched: list[Cell] = []
    matchings: dict[tuple[object, ...], Matching] = {}
    for number, service in enumerate(services, 1):
        # Again by name: the empty one, of spans that name none, asks for all services.
        frame = load_rollup(client, whole, replace(only, service=service)).filter(service=service)
        cells += measure(Batch.of_rollup(frame, windows), windows)
        like, how = measure_matched(frame, windows, match)
        matched += like
        matchings.update(how)
        watch(number / len(services))
    return cells, matched, matchings


def merge_documents(results: Sequence[CorrelationResult]) -> dict[str, Any]:
    """Return one document over the results of several zones."""
    whole = [(result.zone, cell) for result in results for cell in result.unmatched or result.cells]
    return {
        "cells": [cell_document(result.zone, cell) for result in results for cell in result.cells],
        "coverage": coverage_document(whole),
    }


def cell_document(zone: str, cell: Cell) -> dict[str, Any]:
    """Return a cell's JSON form; latencies in milliseconds, times in UTC."""
    return {
        "zone": zone,
        "region": cell.region,
        "service": cell.service,
        "method": cell.method,
        "route": cell.route,
        "window_start": format_time(cell.window.start),
        "window_end": format_time(cell.window.end),
        "production": side_document(cell.production),
        "synthetic": side_document(cell.synthetic),
        "suspected": {"requests": cell.suspected},
        "ratio": {
            name_of(q): cell.ratios[q].bounds.document() if q in cell.ratios else None
            for q in QUANTILES
        },
        "errors": _errors(cell),
        "vantage": cell.vantage if cell.synthetic.requests else None,
        "network_share": None if cell.network_share is None else cell.network_share.document(),
        "verdict": cell.verdict,
        "p99_verdict": cell.p99_verdict,
        "needs": None if cell.needs is None else cell.needs.document(),
        "note": note_of(cell) or None,
        "match": None if cell.matching is None else cell.matching.document(),
    }


def side_document(side: SideSummary) -> dict[str, Any]:
    """Return the JSON form of one side; latencies in milliseconds."""
    document: dict[str, Any] = {
        "requests": side.requests,
        "answered": side.answered,
        "minutes": side.minutes,
    }
    for q in QUANTILES:
        found = side.estimate(q)
        document[f"{name_of(q)}_ms"] = (
            None if found is None else found.bounds.document(_MILLISECONDS)
        )
    return document


def errors_document(side: SideSummary) -> dict[str, float | None] | None:
    """Return the share of failed requests with Wilson's interval, requests taken as independent; None without."""
    share = wilson(side.errors, side.requests)
    return None if share is None else share.document()


def _errors(cell: Cell) -> dict[str, Any]:
    document = cell.errors.document()
    if cell.synthetic.reported:  # no minutes, only the tool's own sums
        document["synthetic"] = errors_document(cell.synthetic)
    return document


def note_of(cell: Cell) -> str:
    """Say in words what a reader must know to take the verdict for what it is."""
    matched = [] if cell.matching is None else [cell.matching.text]
    return "; ".join([*matched, *_notes(cell)])


def _notes(cell: Cell) -> Iterable[str]:
    if cell.synthetic.requests and cell.vantage == "client":
        note = "test measured at the client, production at the server: the test's time includes the network"
        yield note + network_note(cell.network_share)
    if cell.synthetic.reported:
        yield "the test's file holds percentiles only: compared as they are, without an interval"
    if cell.verdict in {"optimistic", "pessimistic"}:
        yield ", ".join(name_ratio(q, cell.ratios[q]) for q in HEADLINE if q in cell.ratios)
    for q in HEADLINE:
        if q not in cell.ratios or cell.kept.get(q, False):
            continue
        if cell.ratios[q].above() or cell.ratios[q].below():
            yield f"{name_of(q)} alone lies beyond the margin, but not after correction for {cell.family} comparisons"
    sides = (("production", cell.production), ("synthetic", cell.synthetic))
    for name, side in sides:
        estimates = {q: found for q in HEADLINE if (found := side.estimate(q)) is not None}
        yield from _note_minutes(name, side, estimates.values())
        if side.sampled:
            count = count_bounds(side.requests, side.weight, side.weight_squared)
            between = f"{count.low or 0:,.0f} to {count.high or 0:,.0f}"
            yield f"{name} is sampled: {side.requests:,} requests stand for {side.weight:,.0f} ({between})"
        short = [name_of(q) for q, found in estimates.items() if found.bounds.low is None]
        if short and not side.reported:
            yield f"not enough {name} data for an interval of {' and '.join(short)}"


def _note_minutes(name: str, side: SideSummary, estimates: Collection[Estimate]) -> Iterable[str]:
    """What the window's minutes cannot tell."""
    if any(found.drift for found in estimates):
        yield f"window too short for the drift in {name}"
    if any(found.short for found in estimates):
        yield f"only {side.minutes} min of {name}: correlation between minutes hardly shows in so few"
    if any(found.independent for found in estimates):
        yield f"only {side.minutes} min of {name}: its requests are taken as independent"


def coverage_document(pairs: Sequence[tuple[str, Cell]]) -> dict[str, Any]:
    """Return how much of production the tests exercise: all together, and per zone and region."""
    regions = sorted({(zone, cell.region) for zone, cell in pairs})
    return {
        **_coverage(pairs),
        "regions": [
            {
                "zone": zone,
                "region": region,
                **_coverage([(z, c) for z, c in pairs if (z, c.region) == (zone, region)]),
            }
            for zone, region in regions
        ],
    }


def _coverage(pairs: Sequence[tuple[str, Cell]]) -> dict[str, Any]:
    tested = {(zone, *cell.subject) for zone, cell in pairs if cell.synthetic.requests}
    used = {(zone, *cell.subject) for zone, cell in pairs if cell.production.requests}
    production = [((zone, *cell.subject) in tested, cell.production) for zone, cell in pairs]
    requests = sum(side.weight for _, side in production)
    seconds = sum(side.seconds for _, side in production)
    return {
        "production_requests": round(requests),
        "requests_share": _share(sum(side.weight for hit, side in production if hit), requests),
        "time_share": _share(sum(side.seconds for hit, side in production if hit), seconds),
        "endpoints_tested": len(used & tested),
        "endpoints_untested": len(used - tested),
        "endpoints_unvisited": len(tested - used),
    }


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole > 0 else None
