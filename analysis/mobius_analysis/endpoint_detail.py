"""One endpoint's whole document: what ``explain`` prints and the dashboard's endpoint page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mobius_analysis.breakdown import breakdown_document, load_breakdown
from mobius_analysis.cells import CorrelationResult, cell_document, load_cells
from mobius_analysis.clusters import Clusters
from mobius_analysis.correlate import Cell
from mobius_analysis.explain import Traces, explain, load_traces
from mobius_analysis.histogram import bucket_bounds
from mobius_analysis.joined import Split, split_document
from mobius_analysis.joined_load import load_splits
from mobius_analysis.load_model import load_runs, loads_document
from mobius_analysis.matching import Match
from mobius_analysis.ratio import MARGIN
from mobius_analysis.rollup import Only, Window, clusters_of, load_rollup
from mobius_analysis.shift import shift_function
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.store import store_errors

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Evidence", "detail_document", "distribution_document", "load_detail", "sides_of"]

_MILLISECONDS = 1000.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the document is made of beside the cell: the endpoint's own rows, and its runs.

    Attributes
    ----------
    rows
        Rows of ``load_rollup`` of this endpoint alone, with ``version``.
    runs
        Imported test runs, of :func:`mobius_analysis.load_model.load_runs`.
    traces
        What raw spans tell; None where they were not read.
    breakdown
        What the services measured of their requests, of ``load_breakdown``; None where raw spans were not read.
    split
        Where the time of the test's joined requests went, of ``load_splits``; None where none was joined.
    """

    rows: pl.DataFrame
    runs: Sequence[dict[str, Any]] = ()
    traces: Traces | None = None
    breakdown: pl.DataFrame | None = None
    split: Split | None = None


def load_detail(
    client: Client,
    zone: Zone,
    subject: Only,
    window: Window,
    *,
    match: Match = "none",
    result: CorrelationResult | None = None,
    raw: bool = True,
    margin: float = MARGIN,
) -> dict[str, Any]:
    """Load and compare one endpoint in one region.

    Parameters
    ----------
    subject
        Region, service, method and route; all of them given. ``environment`` may be empty.
    match
        How production's minutes are matched to the test's.
    result
        The zone's cells of the same window and match, if they are at hand; they are computed otherwise, all of
        them, because the verdict has to hold among all cells of the zone.
    raw
        Whether raw spans may be read; without them only what the rollup holds can explain a gap.

    Raises
    ------
    UsageError
        The endpoint had neither users nor tests in that time.
    DependencyError
        The zone's store does not answer.
    TerminalError
        The store refused a query.
    """
    if result is None:
        environment = subject.environment or None
        result = load_cells(
            client,
            zone,
            window.start,
            window.end,
            environment=environment,
            margin=margin,
            match=match,
        )
    key = (subject.region, subject.service, subject.method, subject.route)
    cell = next((one for one in result.cells if one.subject == key), None)
    if cell is None:
        raise UsageError(
            f"{subject.method} {subject.route} of {subject.service} in {subject.region}"
            " had neither users nor tests in this time"
        )
    tested = cell.production.requests and cell.synthetic.requests
    runs = load_runs(client, window, subject)
    splits: tuple[Split, ...] = ()
    if runs and raw:
        with store_errors(zone):
            splits = load_splits(client, window)
    evidence = Evidence(
        load_rollup(client, window, subject, extra=("version",)),
        runs,
        load_traces(client, window, subject, cell.matching) if tested and raw else None,
        load_breakdown(client, window, subject) if raw else None,
        next((one for one in splits if one.subject == key), None),
    )
    return detail_document(result.zone, cell, evidence, margin=margin)


def detail_document(
    zone: str, cell: Cell, evidence: Evidence, *, margin: float = MARGIN
) -> dict[str, Any]:
    """Return the document of one endpoint, as described in docs/verdicts.md; pure."""
    real, test = sides_of(cell, evidence.rows)
    production, synthetic = clusters_of(real), clusters_of(test)
    explanations, segments = explain(real, test, evidence.traces)
    return {
        "cell": cell_document(zone, cell),
        "match": {"by": "none"} if cell.matching is None else cell.matching.document(),
        "shift": shift_function(production, synthetic, margin=margin).document(),
        "distributions": {
            "production": distribution_document(production),
            "synthetic": distribution_document(synthetic),
        },
        "explanations": explanations,
        "segments": segments,
        "breakdown": None if evidence.breakdown is None else breakdown_document(evidence.breakdown),
        "split": None
        if evidence.split is None
        else split_document((evidence.split,))["endpoints"][0],
        "load": loads_document(evidence.runs),
    }


def sides_of(cell: Cell, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of production and of the test, as the cell compares them."""
    real = rows.filter((pl.col("source") == "real") & (pl.col("vantage") == "server"))
    test = rows.filter((pl.col("source") == "synthetic") & (pl.col("vantage") == cell.vantage))
    if cell.matching is not None:
        real, test = cell.matching.apply(real, test)
    return real, test


def distribution_document(side: Clusters | None) -> list[dict[str, float]]:
    """Share of answered requests per occupied bucket, ascending; the sum of shares is 1.

    ``density`` is the share per factor of e in latency, which a logarithmic axis needs; ``cumulative``
    the share up to ``upper_ms``.
    """
    if side is None:
        return []
    lower, upper = (bound * _MILLISECONDS for bound in bucket_bounds(side.buckets))
    shares = np.diff(side.cumulative, prepend=0.0) / side.weight
    columns = {
        "lower_ms": lower,
        "upper_ms": upper,
        "share": shares,
        "density": shares / np.log(upper / lower),
        "cumulative": side.cumulative / side.weight,
    }
    return [
        {name: float(f"{values[i]:.6g}") for name, values in columns.items()}
        for i in range(len(shares))
    ]
