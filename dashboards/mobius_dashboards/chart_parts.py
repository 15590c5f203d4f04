"""Parts that several charts share: axes, the two colours of production and tests, and the finish."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from mobius_dashboards.const import SOURCE_WORDS
from mobius_dashboards.theme import Palette, chart_config

__all__ = [
    "AXIS_HEIGHT",
    "CLOCK_LABELS",
    "MILLISECOND_LABELS",
    "Rows",
    "chart_of",
    "finish",
    "latency_axis",
    "latency_ticks",
    "ratio_ticks",
    "share_axis",
    "source_dash",
    "source_fill",
    "source_stroke",
    "stretched",
    "value_range",
]

Rows = Sequence[Mapping[str, Any]]
_DASH: Final = [5, 3]
# 0.9 reads as 90 % at 1, 99 % at 2: each step further into the tail gets the same width.
SHARES: Final = (
    (0.0, "0"),
    (0.5, "50"),
    (0.75, "75"),
    (0.9, "90"),
    (0.95, "95"),
    (0.99, "99"),
    (0.999, "99.9"),
)
MILLISECOND_LABELS: Final = (
    "datum.value >= 60000 ? format(datum.value / 60000, '~r') + ' min' : "
    "datum.value >= 1000 ? format(datum.value / 1000, '~r') + ' s' : "
    "datum.value >= 1 ? format(datum.value, '~r') + ' ms' : format(datum.value * 1000, '~r') + ' µs'"
)
# The clock of 24 hours; midnight shows the day.
CLOCK_LABELS: Final = (
    "utchours(datum.value) + utcminutes(datum.value) == 0 ? "
    "utcFormat(datum.value, '%b %d') : utcFormat(datum.value, '%H:%M')"
)
# A chart's height includes its axis, its labels and its title.
AXIS_HEIGHT: Final = 66
_RATIO_TICKS: Final = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)


def latency_ticks(low: float, high: float) -> list[float]:
    """Return round latencies (1, 2, 5 times powers of ten) that a log axis from ``low`` to ``high`` shows."""
    if not (0 < low <= high < math.inf):
        return []
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 4 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def ratio_ticks(low: float, high: float) -> list[float]:
    """Return the ratios to label between ``low`` and ``high``; 1 always."""
    return [tick for tick in _RATIO_TICKS if low <= tick <= high or tick == 1.0]


def value_range(rows: Rows, keys: Sequence[str], pad: float) -> tuple[float, float]:
    """Return the least and greatest positive value of ``keys`` in ``rows``, widened by the factor ``pad``."""
    values = [
        float(row[key])
        for row in rows
        for key in keys
        if row.get(key) is not None and 0 < float(row[key]) < math.inf
    ]
    if not values:
        return 1.0, 1000.0
    return min(values) / pad, max(values) * pad


def source_scale(colours: Palette) -> alt.Scale:
    return alt.Scale(
        domain=list(SOURCE_WORDS.values()), range=[colours.production, colours.synthetic]
    )


def source_fill(colours: Palette) -> alt.Fill:
    """Return the fill that tells production from tests."""
    return alt.Fill("source:N", scale=source_scale(colours), legend=None)


def source_stroke(colours: Palette) -> alt.Stroke:
    """Return the line colour that tells production from tests."""
    return alt.Stroke("source:N", scale=source_scale(colours), legend=None)


def source_dash() -> alt.StrokeDash:
    """Return the dashes that repeat it: tests are dashed."""
    scale = alt.Scale(domain=list(SOURCE_WORDS.values()), range=[[1, 0], _DASH])
    return alt.StrokeDash("source:N", scale=scale, legend=None)


def latency_axis(low: float, high: float, title: str) -> alt.Y:
    """Return the vertical log axis of ``value_ms``."""
    return alt.Y(
        "value_ms:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False, clamp=True),
        axis=alt.Axis(
            title=title,
            values=latency_ticks(low, high),
            labelExpr=MILLISECOND_LABELS,
            domain=False,
            ticks=False,
        ),
    )


def stretched(share: float) -> float:
    """Return where a share of requests below 1 stands on the axis of :func:`share_axis`."""
    return -math.log10(1 - share)


def share_axis(reach: float) -> alt.X:
    """Return the axis of shares from 0 to ``reach`` (2 for 99 %), each step further into the tail equally wide."""
    shown = [
        (stretched(share), label) for share, label in SHARES if stretched(share) <= reach + 1e-9
    ]
    labels = (
        " : ".join(f"abs(datum.value - {tail:.4f}) < 0.001 ? '{label} %'" for tail, label in shown)
        + " : ''"
    )
    return alt.X(
        "tail:Q",
        scale=alt.Scale(domain=[0, reach], nice=False),
        axis=alt.Axis(
            title="Share of requests that were at most this slow (percentile, stretched towards the tail)",
            values=[tail for tail, _ in shown],
            labelExpr=labels,
            grid=True,
        ),
    )


def chart_of(rows: Rows) -> alt.Chart:
    """Return a chart that carries its rows."""
    data = alt.InlineData(values=[dict(row) for row in rows])
    return alt.Chart(data)


def finish(layers: Sequence[alt.Chart], colours: Palette, height: int) -> alt.LayerChart:
    """Lay charts over each other, ``height`` pixels high and as wide as the page."""
    done: alt.LayerChart = (
        alt.LayerChart(layer=list(layers))
        .properties(height=height, width="container")
        .configure(**chart_config(colours))
    )
    return done
