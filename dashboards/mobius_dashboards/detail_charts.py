"""Charts of one endpoint's whole comparison, from the document of ``explain``. Pure, like :mod:`charts`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from mobius_dashboards.chart_parts import (
    MILLISECOND_LABELS,
    Rows,
    chart_of,
    finish,
    latency_ticks,
    ratio_ticks,
    share_axis,
    source_dash,
    source_fill,
    source_stroke,
    stretched,
    value_range,
)
from mobius_dashboards.const import MARGIN, SOURCE_WORDS
from mobius_dashboards.theme import Palette

__all__ = ["coarse_density", "density", "shift_curve"]

_STEPS_A_DOUBLING: Final = 8
"""Of a density's steps: 9 % each, four buckets of the rollup; finer ones show the noise of few requests."""
_LEAST_SHARE: Final = 0.0005
_USERS_ARE: Final = {"slower": "users slower", "faster": "users faster", "alike": "alike"}


def shift_curve(levels: Rows, colours: Palette, *, height: int = 300) -> alt.LayerChart:
    """Draw production / test quantile by quantile, with the band that holds for all levels at once.

    Parameters
    ----------
    levels
        ``shift.levels`` of the document.
    """
    points = [_shift_point(row) for row in levels if row["ratio"] and row["ratio"]["value"]]
    low, high = value_range(points, ("value", "low", "high", "band_low", "band_high"), 1.06)
    low, high = min(low, 0.8), max(high, 1.25)
    x = share_axis(1.02 * max((point["tail"] for point in points), default=2.0))
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False, clamp=True),
        axis=alt.Axis(
            title="Production ÷ tests (log scale)",
            values=ratio_ticks(low, high),
            labelExpr="format(datum.value, '~r') + ' ×'",
            domain=False,
            ticks=False,
        ),
    )
    margin = (
        chart_of([{"from": 1 / MARGIN, "to": MARGIN}])
        .mark_rect(color=colours.good, opacity=0.14)
        .encode(y=alt.Y("from:Q"), y2="to:Q")
    )
    same = (
        chart_of([{"at": 1}]).mark_rule(color=colours.muted, strokeWidth=1).encode(y=alt.Y("at:Q"))
    )
    base = chart_of(points)
    band = (
        base.transform_filter("isValid(datum.band_low) && isValid(datum.band_high)")
        .mark_area(color=colours.accent, opacity=0.16, clip=True)
        .encode(x=x, y=alt.Y("band_low:Q"), y2="band_high:Q")
    )
    line = base.mark_line(color=colours.accent, strokeWidth=1.6, clip=True).encode(x=x, y=y)
    dots = base.mark_point(size=70, filled=True, opacity=1, clip=True).encode(
        x=x,
        y=y,
        color=alt.Color(
            "users:N",
            scale=alt.Scale(
                domain=[*_USERS_ARE.values(), "cannot tell"],
                range=[colours.optimistic, colours.pessimistic, colours.good, colours.unsure],
            ),
            legend=alt.Legend(title=None, orient="top", direction="horizontal", symbolOpacity=1),
        ),
        tooltip=[
            alt.Tooltip("quantile:N", title="Quantile"),
            alt.Tooltip("production:N", title="Production"),
            alt.Tooltip("tests:N", title="Tests"),
            alt.Tooltip("value:Q", title="Production ÷ tests", format=".3~r"),
            alt.Tooltip("low:Q", title="Low, 95 %", format=".3~r"),
            alt.Tooltip("high:Q", title="High, 95 %", format=".3~r"),
            alt.Tooltip("users:N", title="All levels together"),
        ],
    )
    return finish([margin, same, band, line, dots], colours, height)


def _shift_point(row: Mapping[str, Any]) -> dict[str, Any]:
    band = row["band"] or {}
    return {
        "quantile": row["quantile"],
        "tail": stretched(row["level"]),
        "value": row["ratio"]["value"],
        "low": row["ratio"]["low"],
        "high": row["ratio"]["high"],
        "band_low": band.get("low"),
        "band_high": band.get("high"),
        "users": _USERS_ARE.get(row["users_are"] or "", "cannot tell"),
        "production": f"{row['production_ms']['value']:,.3g} ms",
        "tests": f"{row['synthetic_ms']['value']:,.3g} ms",
    }


def coarse_density(buckets: Rows) -> list[dict[str, float]]:
    """Gather ``distributions.<side>`` into steps of 9 %: ``value_ms`` (the step's begin), ``share``; a closing 0.

    Steps between occupied ones are there with a share of 0, so that a gap is drawn as one.
    """
    shares: dict[int, float] = {}
    for bucket in buckets:
        middle = math.sqrt(bucket["lower_ms"] * bucket["upper_ms"])
        step = math.floor(math.log2(middle) * _STEPS_A_DOUBLING)
        shares[step] = shares.get(step, 0.0) + bucket["share"]
    if not shares:
        return []
    return [
        {"value_ms": 2 ** (step / _STEPS_A_DOUBLING), "share": shares.get(step, 0.0)}
        for step in range(min(shares), max(shares) + 2)
    ]


def density(
    distributions: Mapping[str, Sequence[Mapping[str, float]]],
    colours: Palette,
    *,
    height: int = 300,
) -> alt.LayerChart:
    """Lay both distributions of latency over each other, on a log axis that leaves out 0.05 % at each end.

    Parameters
    ----------
    distributions
        ``distributions`` of the document: per side its buckets.
    """
    rows = [
        {"source": SOURCE_WORDS[side], "upper_ms": step["value_ms"] * 2 ** (1 / 8), **step}
        for side in SOURCE_WORDS
        for step in coarse_density(distributions[side])
    ]
    edges = [edge for side in SOURCE_WORDS for edge in _body(distributions[side])]
    low, high = (min(edges), max(edges)) if edges else (1.0, 1000.0)
    x = alt.X(
        "value_ms:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False, clamp=True),
        axis=alt.Axis(
            title="Latency of answered requests (log scale)",
            values=latency_ticks(low, high),
            labelExpr=MILLISECOND_LABELS,
            grid=False,
        ),
    )
    y = alt.Y(
        "share:Q",
        stack=None,
        axis=alt.Axis(
            title="Share of requests in steps of 9 %", format="~%", domain=False, ticks=False
        ),
    )
    base = chart_of(rows)
    area = base.mark_area(opacity=0.2, interpolate="step-after", clip=True).encode(
        x=x, y=y, fill=source_fill(colours)
    )
    line = base.mark_line(interpolate="step-after", strokeWidth=1.8, clip=True).encode(
        x=x,
        y=y,
        stroke=source_stroke(colours),
        strokeDash=source_dash(),
        tooltip=[
            alt.Tooltip("source:N", title="Source"),
            alt.Tooltip("value_ms:Q", title="From (ms)", format=",.3~r"),
            alt.Tooltip("upper_ms:Q", title="To (ms)", format=",.3~r"),
            alt.Tooltip("share:Q", title="Share of requests", format=".2%"),
        ],
    )
    return finish([area, line], colours, height)


def _body(buckets: Sequence[Mapping[str, float]]) -> tuple[float, ...]:
    """Latencies between which all but 0.05 % at each end lie; none where nothing was answered."""
    if not buckets:
        return ()
    first = next(b for b in buckets if b["cumulative"] >= _LEAST_SHARE)
    last = next((b for b in buckets if b["cumulative"] >= 1 - _LEAST_SHARE), buckets[-1])
    return first["lower_ms"] / 1.1, last["upper_ms"] * 1.1
