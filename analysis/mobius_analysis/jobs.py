"""One run of the correlate job on one zone: load, compare, deduce, save."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from mobius_analysis.cells import CorrelationResult, cell_document, load_cells
from mobius_analysis.changes import Change, load_changes
from mobius_analysis.deduce import (
    cell_findings,
    change_findings,
    settled_by,
)
from mobius_analysis.findings import Finding, load_open, reconcile, save_findings
from mobius_analysis.joined_load import join_zone
from mobius_analysis.matching import Match
from mobius_analysis.quarantine_findings import (
    foreign_region_findings,
    quarantine_rate_findings,
    quarantine_settled,
)
from mobius_analysis.suite_findings import suite_findings, suite_settled
from mobius_analysis.suite_load import load_suite
from mobius_analysis.suite_score import ZoneSuite
from mobius_instrumentation.zones import Zone
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["JobResult", "run_job", "save_cells"]

_COLUMNS: Final = (
    "job", "computed_at", "window_start", "window_end",
    "region", "service", "method", "route", "verdict", "cell",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobResult:
    """What one run found in one zone; ``findings`` are the open ones it made or renewed."""

    correlation: CorrelationResult
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]


def run_job(
    zone: Zone,
    since: datetime,
    until: datetime,
    *,
    now: datetime,
    window: timedelta | None = None,
    environment: str | None = None,
    match: Match = "none",
    suite: bool = True,
    save: bool = True,
    watch: Callable[[float], None] = lambda _share: None,
) -> JobResult:
    """Correlate one zone from ``since`` to ``until``, and save cells and findings as of ``now``.

    0. Join test runs with what has arrived of their server spans, which leave production by it.
    1. Compare all cells.
    2. Compare before and after every release.
    3. Look for changes without a release, and what the tests saw of them.
    4. Deduce findings, bring the open ones up to date.
    5. Save.

    Without ``suite``, step 3 is left out, and findings that it led to stay as they are: it looks at bins of
    some minutes, so that it finds nothing new until the next one is over.

    ``watch`` is told again and again which share of the comparison is done.

    With ``match`` the cells are those of a matched production, and nothing is deduced from them: a
    finding is about all users.

    Raises
    ------
    DependencyError
        The zone's store does not answer.
    TerminalError
        The store refused a query.
    """
    client = connect(zone, Purpose.ANALYSIS)
    try:
        if save:
            join_zone(zone)  # 0
        result = load_cells(  # 1
            client, zone, since, until, window, environment=environment, match=match, watch=watch
        )
        if match != "none":
            return JobResult(result, (), ())
        changes = load_changes(client, result.window)  # 2
        assessed = None
        if suite:  # 3
            assessed = load_suite(
                client,
                zone,
                result.window,
                environment=environment,
                cells=result.cells,
                changes=changes,
            )
        renewed = _renew(client, zone, result, changes, assessed)  # 4
        if save:  # 5
            save_cells(client, result, now)
            save_findings(client, renewed, now)
    finally:
        client.close()
    return JobResult(
        result, changes, tuple(finding for finding in renewed if finding.status == "open")
    )


def _renew(
    client: Client,
    zone: Zone,
    result: CorrelationResult,
    changes: tuple[Change, ...],
    suite: ZoneSuite | None,
) -> list[Finding]:
    """Findings to save: those made now, and open ones that no longer hold."""
    found = [
        *cell_findings(result),
        *change_findings(changes),
        *(suite_findings(suite) if suite else ()),
        *foreign_region_findings(client, zone, result.window),
        *quarantine_rate_findings(client, result.window),
    ]
    known = load_open(client)
    settled = [
        *settled_by(result, changes),
        *quarantine_settled(known),
        *(suite_settled(suite, known) if suite else ()),
    ]
    return reconcile(known, found, settled)


def save_cells(client: Client, result: CorrelationResult, now: datetime) -> str:
    """Save the cells of one run into ``correlations``, and return the name of the run."""
    job = uuid4().hex
    rows: Sequence[Sequence[object]] = [
        (
            job,
            now,
            cell.window.start,
            cell.window.end,
            *cell.subject,
            cell.verdict,
            json.dumps(cell_document(result.zone, cell), allow_nan=False),
        )
        for cell in result.cells
    ]
    if rows:
        client.insert("correlations", rows, column_names=_COLUMNS)
    return job
