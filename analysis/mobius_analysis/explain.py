"""What explains the gap of one endpoint: all candidates ranked, and the segments behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from mobius_analysis.decompose import Segments, log_quantile
from mobius_analysis.dimensions import Dimension, rollup_dimensions, sample_dimensions
from mobius_analysis.explanations import (
    Explanation,
    component_explanations,
    describe,
    holding,
    segment_explanations,
)
from mobius_analysis.matching import Matching
from mobius_analysis.patterns import find_patterns, matrix_of, slower_than
from mobius_analysis.request_parts import (
    SOURCES,
    Neighbourhood,
    Parted,
    load_parts,
    neighbourhoods,
)
from mobius_analysis.request_sample import RequestSample, load_sample
from mobius_analysis.rollup import Only, Window
from mobius_analysis.verdicts import HEADLINE, name_of
from mobius_pipeline.options import format_time

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["LEAST_GAP", "Traces", "explain", "load_traces"]

LEAST_GAP: Final = log(1.05)
"""A smaller gap (5 %) is not explained: its shares would be ratios of noise."""


@dataclass(frozen=True, eq=False)
class Traces:
    """What raw spans tell of one endpoint."""

    sample: RequestSample
    around: tuple[Neighbourhood, ...]
    parts: tuple[Parted, ...]


def load_traces(
    client: Client, window: Window, subject: Only, matching: Matching | None = None
) -> Traces:
    """Load the sample of requests, and the spans of those around p50 and p95; matched as the cell was.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    sample = load_sample(client, window, subject)
    if matching is not None:
        sample = replace(sample, rows=_matched(sample.rows, matching))
    around = neighbourhoods(sample)
    parts = load_parts(client, sample, subject, around)
    if matching is not None:
        parts = tuple(
            replace(one, weight=one.weight * factor)
            for one in parts
            if (factor := _factor(one.source, one.minute, matching)) > 0
        )
    return Traces(sample, around, parts)


def _matched(rows: pl.DataFrame, matching: Matching) -> pl.DataFrame:
    factors = pl.Series(
        "factor",
        [
            _factor(source, minute, matching)
            for source, minute in rows.select("source", "minute").iter_rows()
        ],
        pl.Float64,
    )
    return (
        rows.with_columns(factors)
        .filter(pl.col("factor") > 0)
        .with_columns(weight=pl.col("weight") * pl.col("factor"))
    )


def _factor(source: str, minute: int, matching: Matching) -> float:
    if source == "real":
        return matching.factors.get(minute, 0.0)
    return float(minute in matching.covered)


def explain(
    production: pl.DataFrame, synthetic: pl.DataFrame, traces: Traces | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the documents ``explanations`` and ``segments``, as described in docs/verdicts.md; pure.

    Parameters
    ----------
    production, synthetic
        Rows of ``load_rollup`` with ``version``, one side each.
    traces
        None where raw spans were not read.
    """
    dimensions = list(rollup_dimensions(production, synthetic))
    if traces is not None:
        dimensions += sample_dimensions(traces.sample)
    candidates: dict[float, list[Explanation]] = {q: [] for q in HEADLINE}
    documents, gaps = [], {}
    for dimension in dimensions:
        both, found = segment_explanations(dimension, HEADLINE)
        for one in found:
            candidates[one.q].append(one)
        if both is not None:
            documents.append(_segments_document(dimension, both))
            if dimension.origin not in gaps:
                gaps[dimension.origin] = _gaps(both)
    if traces is not None:
        for q, found in component_explanations(traces.parts, traces.around, HEADLINE).items():
            candidates[q] += found
    ranked = {
        name_of(q): _ranked(candidates[q], [gap[q] for gap in gaps.values()]) for q in HEADLINE
    }
    return {**ranked, "patterns": _patterns(traces), "sample": _sample_document(traces)}, documents


def _patterns(traces: Traces | None) -> list[dict[str, Any]]:
    """What singles out production's requests that are slower than the test's, of those whose time is parted."""
    sides = {
        source: [] if traces is None else [one for one in traces.parts if one.source == source]
        for source in SOURCES
    }
    if not all(sides.values()):
        return []
    users, test = (np.asarray([float(one.duration_ns) for one in side]) for side in sides.values())
    slow = np.concatenate([slower_than(users, test), np.zeros(len(test), np.bool_)])
    components = matrix_of([one.parts for side in sides.values() for one in side])
    return [
        {
            "precision": pattern.precision.document(),
            "recall": pattern.recall.document(),
            "ranges": [
                {
                    "component": one.component,
                    "low_ms": float(f"{1000 * one.low:.4g}"),
                    "high_ms": float(f"{1000 * one.high:.4g}"),
                }
                for one in pattern.ranges
            ],
        }
        for pattern in find_patterns(components, slow)
    ]


def _gaps(both: Segments) -> dict[float, float]:
    """Gap of the data at each headline quantile, as a difference of logarithms."""
    found = {}
    for q in HEADLINE:
        y, x = (
            log_quantile(side[0].sum(axis=0), both.buckets, q)
            for side in (both.production, both.synthetic)
        )
        found[q] = float(y - x)
    return found


def _ranked(candidates: Sequence[Explanation], gaps: Sequence[float]) -> dict[str, Any]:
    """Rank one quantile's candidates: those that hold first, then by what they explain beyond the expected."""
    gap = gaps[0] if gaps else None
    ratio = None if gap is None else float(f"{np.exp(gap):.4g}")
    if gap is None:
        return {"gap_ratio": None, "ranked": [], "text": "Only one side has requests."}
    if abs(gap) < LEAST_GAP:
        text = "The two differ by less than 5 % here: there is nothing to explain."
        return {"gap_ratio": ratio, "ranked": [], "text": text}
    # Raw spans may see another gap than the rollup: another vantage, another stretch of time.
    alike = [
        one for one in candidates if abs(one.gap) >= LEAST_GAP and np.sign(one.gap) == np.sign(gap)
    ]
    holds = holding(alike)
    order = sorted(
        range(len(alike)), key=lambda i: (not holds[i], alike[i].expected - alike[i].share.value)
    )
    ranked = [
        {**alike[i].document(holds=holds[i]), "text": describe(alike[i])}
        for i in order
        if holds[i] or alike[i].kind != "within"
    ]
    best = next((alike[i] for i in order if holds[i]), None)
    return {"gap_ratio": ratio, "ranked": ranked, "text": _verdict(best, alike, len(candidates))}


def _verdict(best: Explanation | None, candidates: Sequence[Explanation], seen: int) -> str:
    if best is not None:
        return f"{describe(best)}."
    if not candidates and seen:
        return "The requests that were read one by one do not show this gap: nothing can be said of it."
    if not candidates:
        return "Nothing is known that could explain it: no segment differs, and fewer than 30 requests of a side have spans."
    if all(one.share.bounds().low is None for one in candidates):
        return "Too few minutes to say what explains it."
    return f"Nothing explains it, of {len(candidates)} candidates."


def _segments_document(dimension: Dimension, both: Segments) -> dict[str, Any]:
    shares = [side[0].sum(axis=1) / side[0].sum() for side in (both.production, both.synthetic)]
    return {
        "dimension": dimension.name,
        "source": dimension.origin,
        "known_share": {
            "production": _rounded(dimension.known[0]),
            "synthetic": _rounded(dimension.known[1]),
        },
        "independent": both.independent,
        "values": [
            {
                "value": value,
                "production_share": round(float(shares[0][s]), 4),
                "synthetic_share": round(float(shares[1][s]), 4),
                "production_requests": int(both.requests[0, s]),
                "synthetic_requests": int(both.requests[1, s]),
                **{
                    f"{name}_{name_of(q)}_ms": _quantile_ms(side[0, s], both, q)
                    for name, side in (
                        ("production", both.production),
                        ("synthetic", both.synthetic),
                    )
                    for q in HEADLINE
                },
            }
            for s, value in enumerate(both.values)
        ],
    }


def _quantile_ms(histogram: Any, both: Segments, q: float) -> float | None:
    found = float(np.exp(log_quantile(histogram, both.buckets, q)))
    return float(f"{1000 * found:.4g}") if np.isfinite(found) else None


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _sample_document(traces: Traces | None) -> dict[str, Any] | None:
    if traces is None:
        return None
    sample = traces.sample
    return {
        "window_start": format_time(sample.window.start),
        "window_end": format_time(sample.window.end),
        **{
            side: {
                "stored_requests": sample.stored.get(source, 0),
                "read_requests": sample.side(source).height,
                "traces_read": sum(one.source == source for one in traces.parts),
            }
            for side, source in (("production", "real"), ("synthetic", "synthetic"))
        },
    }
