"""Compares production with synthetic tests, endpoint by endpoint: pure, from the rollup's rows to cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import polars as pl

from mobius_analysis.clusters import Clusters
from mobius_analysis.error_rates import (
    ErrorComparison,
    compare_errors,
    failures_of,
    judge_errors,
)
from mobius_analysis.intervals import Bounds, Estimate, estimate
from mobius_analysis.matching import Matching
from mobius_analysis.ratio import MARGIN, Ratio, ratio, shared_correlation
from mobius_analysis.reported import Reported
from mobius_analysis.rollup import CELL, Window, clusters_of
from mobius_analysis.tail import judge_tails
from mobius_analysis.verdicts import (
    HEADLINE,
    QUANTILES,
    Needs,
    Sample,
    Side,
    Verdict,
    discoveries,
    judge,
    name_of,
    needs,
)

__all__ = ["Cell", "SideSummary", "Vantage", "correlate", "name_ratio", "pick_vantage", "summarise"]

Vantage = Literal["server", "client"]

_ENOUGH_AT_SERVER: Final = 72  # the least number that gives p95 an interval


@dataclass(frozen=True, slots=True)
class SideSummary:
    """What one side of a cell measured.

    ``requests`` and ``errors`` count measured requests, ``weight`` what they stand for, ``weight_squared``
    the sum of their squared weights; ``answered`` are those whose latency counts, in ``minutes`` minutes, and ``seconds`` the time they took together.
    ``reported``: only a tool's percentiles are known.
    """

    requests: int = 0
    errors: int = 0
    weight: float = 0.0
    weight_squared: float = 0.0
    answered: int = 0
    minutes: int = 0
    seconds: float = 0.0
    sampled: bool = False
    reported: bool = False
    estimates: Mapping[float, Estimate] | None = None

    def estimate(self, q: float) -> Estimate | None:
        """Quantile ``q``, None where no request was answered."""
        return None if self.estimates is None else self.estimates.get(q)


@dataclass(frozen=True, slots=True)
class Cell:
    """One endpoint in one region and window: both sides, their ratios and the verdict."""

    region: str
    service: str
    method: str
    route: str
    window: Window
    vantage: Vantage
    production: SideSummary
    synthetic: SideSummary
    suspected: int
    ratios: Mapping[float, Ratio]
    kept: Mapping[float, bool]
    verdict: Verdict
    needs: Needs | None
    family: int
    errors: ErrorComparison
    p99_verdict: Verdict | None = None
    matching: Matching | None = None
    network_share: Bounds | None = None

    @property
    def subject(self) -> tuple[str, str, str, str]:
        """Region, service, method and route."""
        return self.region, self.service, self.method, self.route


def correlate(
    frame: pl.DataFrame,
    windows: Sequence[Window],
    *,
    reported: Sequence[Reported] = (),
    margin: float = MARGIN,
) -> tuple[Cell, ...]:
    """Compare both sides of every endpoint x region x window.

    Parameters
    ----------
    frame
        Rows of :func:`mobius_analysis.rollup.load_rollup`.
    windows
        Windows that do not overlap; all their cells are one family for the correction of claims.
    reported
        Runs of which only percentiles are known, the earliest first. The last one of a window stands in
        for an endpoint that has no other test, without intervals and hence without a claim.
    margin
        Ratio up to which a test still counts as telling the truth.

    Returns
    -------
    tuple of Cell
        Sorted by window, service, route, method and region.
    """
    cells = [cell for window in windows for cell in _measure_window(frame, window, reported)]
    return tuple(sorted(_judge_family(cells, margin), key=_order))


def _order(cell: Cell) -> tuple[object, ...]:
    return cell.window.start, cell.service, cell.route, cell.method, cell.region


def _measure_window(
    frame: pl.DataFrame, window: Window, reported: Sequence[Reported]
) -> Iterator[Cell]:
    first, end = window.minutes
    inside = frame.filter(pl.col("minute").is_between(first, end, closed="left"))
    groups = inside.partition_by(CELL, as_dict=True, maintain_order=True) if inside.height else {}
    stand_in = {one.subject: one for one in reported if window.start <= one.start < window.end}
    for subject in [*groups, *(stand_in.keys() - groups.keys())]:
        yield _measure(subject, window, groups.get(subject, inside.clear()), stand_in.get(subject))


def _measure(
    subject: tuple[str, ...], window: Window, rows: pl.DataFrame, reported: Reported | None
) -> Cell:
    region, service, method, route = subject
    real = rows.filter((pl.col("source") == "real") & (pl.col("vantage") == "server"))
    test = rows.filter(pl.col("source") == "synthetic")
    vantage = pick_vantage(test)
    production, y = summarise(real)
    seen = test.filter(pl.col("vantage") == vantage)
    synthetic, x = summarise(seen)
    if test.is_empty() and reported is not None:
        synthetic = _as_reported(reported)
    return Cell(
        region=region,
        service=service,
        method=method,
        route=route,
        window=window,
        vantage=vantage,
        production=production,
        synthetic=synthetic,
        suspected=int(rows.filter(pl.col("source") == "suspected")["requests"].sum()),
        ratios=dict(_ratios(production, y, synthetic, x)),
        kept={},
        verdict="inconclusive",
        needs=None,
        family=0,
        errors=compare_errors(failures_of(real), failures_of(seen)),
    )


def _as_reported(reported: Reported) -> SideSummary:
    """What a tool's own percentiles tell: values without intervals."""
    return SideSummary(
        requests=reported.requests,
        errors=reported.failed,
        weight=float(reported.requests),
        answered=reported.requests - reported.failed,
        reported=True,
        estimates={
            q: Estimate(
                Bounds(value),
                Bounds(value),
                np.empty(0),
                None,
                drift=False,
                missing=0,
                independent=False,
            )
            for q, value in reported.seconds.items()
        },
    )


def pick_vantage(test: pl.DataFrame) -> Vantage:
    """Like with like: the server's view of the test where it is enough, or all that there is."""
    seen = {
        str(v): int(n)
        for v, n in test.group_by("vantage").agg(pl.col("answered").sum()).iter_rows()
    }
    server, client = seen.get("server", 0), seen.get("client", 0)
    return "server" if "server" in seen and server >= min(client, _ENOUGH_AT_SERVER) else "client"


def summarise(
    rows: pl.DataFrame, quantiles: Iterable[float] = QUANTILES
) -> tuple[SideSummary, Clusters | None]:
    """Summarise one side from its rows of the rollup, with the clusters behind it."""
    clusters = clusters_of(rows)
    summary = SideSummary(
        requests=int(rows["requests"].sum()),
        errors=int(rows["errors"].sum()),
        weight=float(rows["weight"].sum()),
        weight_squared=float(rows["weight_squared"].sum()),
    )
    if clusters is None:
        return summary, None
    measured = replace(
        summary,
        answered=clusters.requests,
        minutes=len(clusters.minutes),
        seconds=clusters.seconds,
        sampled=not clusters.unit,
        estimates={q: estimate(clusters, q) for q in quantiles},
    )
    return measured, clusters


def _ratios(
    production: SideSummary, y: Clusters | None, synthetic: SideSummary, x: Clusters | None
) -> Iterator[tuple[float, Ratio]]:
    for q in QUANTILES:
        above, below = production.estimate(q), synthetic.estimate(q)
        if above is None or below is None:
            continue
        shared = 0.0 if y is None or x is None else shared_correlation(y, above, x, below)
        yield q, ratio(above, below, shared)


def _judge_family(cells: Sequence[Cell], margin: float) -> Iterator[Cell]:
    """Judge every cell, with the claims corrected over all headline ratios of all cells together."""
    members = [
        (i, q)
        for i, cell in enumerate(cells)
        for q in HEADLINE
        if q in cell.ratios and cell.ratios[q].known
    ]
    survived = discoveries([cells[i].ratios[q].p_beyond(margin) for i, q in members])
    kept: dict[int, dict[float, bool]] = {}
    for (i, q), survives in zip(members, survived, strict=True):
        kept.setdefault(i, {})[q] = survives
    failing = judge_errors([cell.errors for cell in cells], margin)
    tails = judge_tails([cell.ratios for cell in cells], margin)
    for i, cell in enumerate(cells):
        verdict = judge(
            {q: r for q, r in cell.ratios.items() if q in HEADLINE},
            kept.get(i, {}),
            production_requests=cell.production.requests,
            synthetic_requests=cell.synthetic.requests,
            margin=margin,
        )
        judged = replace(
            cell,
            kept=kept.get(i, {}),
            verdict=verdict,
            family=len(members),
            errors=replace(cell.errors, verdict=failing[i]),
            p99_verdict=tails[i],
        )
        yield replace(judged, needs=_needs(judged, margin)) if verdict == "inconclusive" else judged


def _needs(cell: Cell, margin: float) -> Needs:
    """Whatever the headline quantile asks for that is hardest to settle."""
    if cell.synthetic.reported:
        return Needs(
            "synthetic",
            None,
            None,
            "results request by request: percentiles alone have no interval",
        )
    samples: dict[Side, Sample] = {
        "production": Sample(cell.production.answered, cell.production.minutes),
        "synthetic": Sample(cell.synthetic.answered, cell.synthetic.minutes),
    }
    asked = [
        needs(
            q,
            cell.ratios.get(q),
            {"production": cell.production.estimate(q), "synthetic": cell.synthetic.estimate(q)},
            samples,
            family=cell.family,
            margin=margin,
        )
        for q in HEADLINE
        if q not in cell.ratios or not cell.ratios[q].equivalent(margin)
    ]
    return max(asked, key=lambda need: float("inf") if need.requests is None else need.requests)


def name_ratio(q: float, found: Ratio) -> str:
    """Say a ratio with its interval for people: p95 1.32 (1.21 to 1.44)."""
    bounds = found.bounds
    if bounds.low is None or bounds.high is None:
        return f"{name_of(q)} {bounds.value:.2f} (no interval)"
    return f"{name_of(q)} {bounds.value:.2f} ({bounds.low:.2f} to {bounds.high:.2f})"
