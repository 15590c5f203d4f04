"""Compares production with synthetic tests, endpoint by endpoint: pure, from the rollup's rows to cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import polars as pl

from mobius_analysis.batch import Batch
from mobius_analysis.batch_estimates import (
    NOBODY,
    Answered,
    Group,
    estimate_groups,
    shared_correlations,
)
from mobius_analysis.batch_ratios import ratios
from mobius_analysis.clusters import Clusters
from mobius_analysis.error_rates import (
    ErrorComparison,
    Failures,
    compare_errors,
    design_effects,
    failures_of,
    judge_errors,
)
from mobius_analysis.intervals import Bounds, Estimate, estimate
from mobius_analysis.matching import Matching
from mobius_analysis.ratio import MARGIN, Ratio, ratio
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
    needs,
)

__all__ = [
    "Cell",
    "SideSummary",
    "Vantage",
    "correlate",
    "judge_cells",
    "measure",
    "pick_vantage",
    "summarise",
]

Vantage = Literal["server", "client"]
_Series = Mapping[tuple[str, str], Group]  # by source and vantage

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
    cells = measure(Batch.of_rollup(frame, windows), windows)
    return judge_cells(cells, windows, reported=reported, margin=margin)


def measure(batch: Batch, windows: Sequence[Window]) -> list[Cell]:
    """Measure both sides of every cell that is in ``batch``; :func:`judge_cells` judges those of all batches."""
    groups = estimate_groups(batch, QUANTILES)
    cells: dict[tuple[tuple[str, ...], int], dict[tuple[str, str], Group]] = {}
    for row, group in zip(batch.groups.iter_rows(named=True), groups, strict=True):
        key = tuple(row[name] for name in CELL), row["window"]
        cells.setdefault(key, {})[row["source"], row["vantage"]] = group
    return _measure(
        [(subject, windows[number], series) for (subject, number), series in cells.items()]
    )


def judge_cells(
    cells: Iterable[Cell],
    windows: Sequence[Window],
    *,
    reported: Sequence[Reported] = (),
    margin: float = MARGIN,
) -> tuple[Cell, ...]:
    """Judge all cells of :func:`measure` as one family, as :func:`correlate` says."""
    complete = _stand_in(cells, windows, reported)
    return tuple(sorted(_judge_family(complete, margin), key=_order))


def _order(cell: Cell) -> tuple[object, ...]:
    return cell.window.start, cell.service, cell.route, cell.method, cell.region


def _measure(measured: Sequence[tuple[Sequence[str], Window, _Series]]) -> list[Cell]:
    sides = [_sides(series) for _, _, series in measured]
    effects = iter(design_effects([group.failures for _, *both in sides for group in both]))
    compared = [
        compare_errors(real.failures, test.failures, (next(effects), next(effects)))
        for _, real, test in sides
    ]
    told = _ratios([(real.answered, test.answered) for _, real, test in sides])
    cells = []
    for (subject, window, series), (vantage, real, test), found, errors in zip(
        measured, sides, told, compared, strict=True
    ):
        region, service, method, route = subject
        cells.append(
            Cell(
                region=region,
                service=service,
                method=method,
                route=route,
                window=window,
                vantage=vantage,
                production=_summary(real.failures, real.answered),
                synthetic=_summary(test.failures, test.answered),
                suspected=_suspected(series),
                ratios=found,
                kept={},
                verdict="inconclusive",
                needs=None,
                family=0,
                errors=errors,
            )
        )
    return cells


def _sides(series: _Series) -> tuple[Vantage, Group, Group]:
    """Vantage of the tests, production and tests."""
    tests = {v: one for (source, v), one in series.items() if source == "synthetic"}
    vantage = _pick({v: 0 if t.answered is None else t.answered.requests for v, t in tests.items()})
    return vantage, series.get(("real", "server"), NOBODY), tests.get(vantage, NOBODY)


def _suspected(series: _Series) -> int:
    return sum(
        one.failures.requests for (source, _), one in series.items() if source == "suspected"
    )


def _stand_in(
    cells: Iterable[Cell], windows: Sequence[Window], reported: Sequence[Reported]
) -> Iterator[Cell]:
    """Give the cells that have no other test the last run of which only percentiles are known."""
    runs = {
        (window, one.subject): one
        for window in windows
        for one in reported
        if window.start <= one.start < window.end
    }
    for cell in cells:
        one = runs.pop((cell.window, cell.subject), None)
        yield cell if one is None or cell.synthetic.requests else _with_reported(cell, one)
    for (window, subject), one in runs.items():
        yield _with_reported(_measure([(subject, window, {})])[0], one)


def _with_reported(cell: Cell, reported: Reported) -> Cell:
    synthetic = _as_reported(reported)
    ratios = {
        q: ratio(above, below)
        for q in QUANTILES
        if (above := cell.production.estimate(q)) and (below := synthetic.estimate(q))
    }
    return replace(cell, synthetic=synthetic, ratios=ratios)


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
    answered = test.group_by("vantage").agg(pl.col("answered").sum())
    return _pick({str(v): int(n) for v, n in answered.iter_rows()})


def _pick(answered: Mapping[str, int]) -> Vantage:
    server, client = answered.get("server", 0), answered.get("client", 0)
    enough = "server" in answered and server >= min(client, _ENOUGH_AT_SERVER)
    return "server" if enough else "client"


def summarise(
    rows: pl.DataFrame, quantiles: Iterable[float] = QUANTILES
) -> tuple[SideSummary, Clusters | None]:
    """Summarise one side from its rows of the rollup, with the clusters behind it."""
    clusters = clusters_of(rows)
    answered = None
    if clusters is not None:
        answered = Answered(
            clusters.minutes,
            clusters.requests,
            clusters.seconds,
            clusters.unit,
            estimates={q: estimate(clusters, q) for q in quantiles},
        )
    return _summary(failures_of(rows), answered), clusters


def _summary(failures: Failures, answered: Answered | None) -> SideSummary:
    summary = SideSummary(
        requests=failures.requests,
        errors=failures.errors,
        weight=failures.weight,
        weight_squared=failures.squared,
    )
    if answered is None:
        return summary
    return replace(
        summary,
        answered=answered.requests,
        minutes=len(answered.minutes),
        seconds=answered.seconds,
        sampled=not answered.unit,
        estimates=answered.estimates,
    )


def _ratios(
    sides: Sequence[tuple[Answered | None, Answered | None]],
) -> list[dict[float, Ratio]]:
    both = [(y, x) for y, x in sides if y is not None and x is not None]
    pairs = [(y.estimates[q], x.estimates[q]) for y, x in both for q in QUANTILES]
    found = iter(ratios(pairs, shared_correlations(both, QUANTILES)))
    return [{} if y is None or x is None else {q: next(found) for q in QUANTILES} for y, x in sides]


def _judge_family(measured: Iterable[Cell], margin: float) -> Iterator[Cell]:
    """Judge every cell, with the claims corrected over all headline ratios of all cells together."""
    cells = list(measured)
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
        yield replace(
            cell,
            kept=kept.get(i, {}),
            verdict=verdict,
            needs=_needs(cell, len(members), margin) if verdict == "inconclusive" else None,
            family=len(members),
            errors=replace(cell.errors, verdict=failing[i]),
            p99_verdict=tails[i],
        )


def _needs(cell: Cell, family: int, margin: float) -> Needs:
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
            family=family,
            margin=margin,
        )
        for q in HEADLINE
        if q not in cell.ratios or not cell.ratios[q].equivalent(margin)
    ]
    return max(asked, key=lambda need: float("inf") if need.requests is None else need.requests)
