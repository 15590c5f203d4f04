"""Charts as pure functions from rows to Altair charts. Every axis says its quantity and unit.

Production is a solid line, tests a dashed one, in the two colours that they have everywhere; pages write the
legend beside the chart, see :func:`mobius_dashboards.markup.source_legend`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from mobius_dashboards.const import MARGIN, SOURCE_WORDS
from mobius_dashboards.theme import Palette, chart_config

__all__ = ["latency_ticks", "quantile_curves", "quantile_series", "ratio_forest", "ratio_ticks"]

Rows = Sequence[Mapping[str, Any]]
_DASH: Final = [5, 3]
# 0.9 reads as 90 % at 1, 99 % at 2: each step further into the tail gets the same width.
_SHARES: Final = (
    (0.0, "0"),
    (0.5, "50"),
    (0.75, "75"),
    (0.9, "90"),
    (0.95, "95"),
    (0.99, "99"),
    (0.999, "99.9"),
)
_MS: Final = (
    "datum.value >= 60000 ? format(datum.value / 60000, '~r') + ' min' : "
    "datum.value >= 1000 ? format(datum.value / 1000, '~r') + ' s' : "
    "datum.value >= 1 ? format(datum.value, '~r') + ' ms' : format(datum.value * 1000, '~r') + ' µs'"
)
# The clock of 24 hours; midnight shows the day.
_CLOCK: Final = (
    "utchours(datum.value) + utcminutes(datum.value) == 0 ? "
    "utcFormat(datum.value, '%b %d') : utcFormat(datum.value, '%H:%M')"
)
# A chart's height includes its axis, its labels and its title.
_AXIS_HEIGHT: Final = 66
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


def _range(rows: Rows, keys: Sequence[str], pad: float) -> tuple[float, float]:
    values = [
        float(row[key])
        for row in rows
        for key in keys
        if row.get(key) is not None and 0 < float(row[key]) < math.inf
    ]
    if not values:
        return 1.0, 1000.0
    return min(values) / pad, max(values) * pad


def _scale(colours: Palette) -> alt.Scale:
    return alt.Scale(
        domain=list(SOURCE_WORDS.values()), range=[colours.production, colours.synthetic]
    )


def _source_fill(colours: Palette) -> alt.Fill:
    return alt.Fill("source:N", scale=_scale(colours), legend=None)


def _source_stroke(colours: Palette) -> alt.Stroke:
    return alt.Stroke("source:N", scale=_scale(colours), legend=None)


def _source_dash() -> alt.StrokeDash:
    scale = alt.Scale(domain=list(SOURCE_WORDS.values()), range=[[1, 0], _DASH])
    return alt.StrokeDash("source:N", scale=scale, legend=None)


def _latency_axis(low: float, high: float, title: str) -> alt.Y:
    return alt.Y(
        "value_ms:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False, clamp=True),
        axis=alt.Axis(
            title=title, values=latency_ticks(low, high), labelExpr=_MS, domain=False, ticks=False
        ),
    )


def quantile_curves(rows: Rows, colours: Palette, *, height: int = 320) -> alt.LayerChart:
    """Draw latency against the share of requests that were at most that slow, with 95 % bands.

    Parameters
    ----------
    rows
        ``source`` ("Production" or "Tests"), ``share`` (0 to 1), ``value_ms``, and ``low_ms``, ``high_ms`` or
        None where the data cannot bound the quantile.
    """
    points = [
        {**row, "tail": -math.log10(1 - row["share"]), "percentile": row["share"] * 100}
        for row in rows
        if row["share"] < 1 and row.get("value_ms")
    ]
    low, high = _range(points, ("value_ms", "low_ms", "high_ms"), 1.15)
    reach = max((point["tail"] for point in points), default=2.0)
    shown = [
        (-math.log10(1 - share), label)
        for share, label in _SHARES
        if -math.log10(1 - share) <= reach + 1e-9
    ]
    labels = (
        " : ".join(f"abs(datum.value - {tail:.4f}) < 0.001 ? '{label} %'" for tail, label in shown)
        + " : ''"
    )
    x = alt.X(
        "tail:Q",
        scale=alt.Scale(domain=[0, reach], nice=False),
        axis=alt.Axis(
            title="Share of requests that were at most this slow (percentile, stretched towards the tail)",
            values=[tail for tail, _ in shown],
            labelExpr=labels,
            grid=True,
        ),
    )
    y = _latency_axis(low, high, "Latency of answered requests (log scale)")
    base = _chart(points)
    band = (
        base.transform_filter("isValid(datum.low_ms) && isValid(datum.high_ms)")
        .mark_area(opacity=0.18, clip=True)
        .encode(x=x, y=alt.Y("low_ms:Q"), y2="high_ms:Q", fill=_source_fill(colours))
    )
    line = base.mark_line(strokeWidth=2.2, clip=True).encode(
        x=x, y=y, stroke=_source_stroke(colours), strokeDash=_source_dash()
    )
    hover = base.mark_point(size=120, opacity=0, filled=True).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("source:N", title="Source"),
            alt.Tooltip("percentile:Q", title="Percentile (%)", format=".4~r"),
            alt.Tooltip("value_ms:Q", title="Latency (ms)", format=",.3~r"),
            alt.Tooltip("low_ms:Q", title="Low, 95 % (ms)", format=",.3~r"),
            alt.Tooltip("high_ms:Q", title="High, 95 % (ms)", format=",.3~r"),
        ],
    )
    return _finish([band, line, hover], colours, height)


def quantile_series(
    rows: Rows,
    releases: Rows,
    colours: Palette,
    *,
    quantile: str,
    window: tuple[str, str],
    height: int = 230,
) -> alt.LayerChart:
    """Draw one quantile over time for production and tests, with 95 % bands and releases as labelled rules.

    Parameters
    ----------
    rows
        ``source``, ``at`` (ISO 8601, UTC), ``value_ms``, ``low_ms``, ``high_ms``.
    releases
        ``at`` and ``version`` of each release that began inside the window.
    window
        Begin and end of the time axis, ISO 8601.
    """
    low, high = _range(rows, ("value_ms",), 1.6)
    x = alt.X(
        "at:T",
        scale=alt.Scale(
            type="utc", domain=[{"expr": f"toDate('{edge}')"} for edge in window], nice=False
        ),
        axis=alt.Axis(
            title="Time (UTC)", grid=False, labelOverlap=True, tickCount=8, labelExpr=_CLOCK
        ),
    )
    y = _latency_axis(low, high, f"{quantile} latency (log scale)")
    base = _chart(rows)
    band = (
        base.transform_filter("isValid(datum.low_ms) && isValid(datum.high_ms)")
        .mark_area(opacity=0.18, clip=True)
        .encode(
            x=x,
            y=alt.Y("low_ms:Q"),
            y2="high_ms:Q",
            fill=_source_fill(colours),
        )
    )
    line = base.mark_line(strokeWidth=2, clip=True).encode(
        x=x,
        y=y,
        stroke=_source_stroke(colours),
        strokeDash=_source_dash(),
        tooltip=[
            alt.Tooltip("source:N", title="Source"),
            alt.Tooltip("at:T", title="From (UTC)", format="%Y-%m-%d %H:%M", formatType="utc"),
            alt.Tooltip("value_ms:Q", title=f"{quantile} (ms)", format=",.3~r"),
            alt.Tooltip("low_ms:Q", title="Low, 95 % (ms)", format=",.3~r"),
            alt.Tooltip("high_ms:Q", title="High, 95 % (ms)", format=",.3~r"),
        ],
    )
    return _finish([band, line, *_release_rules(releases, x, colours)], colours, height)


def _release_rules(releases: Rows, x: alt.X, colours: Palette) -> list[alt.Chart]:
    if not releases:
        return []
    base = _chart(releases)
    rule = base.mark_rule(color=colours.ink, strokeWidth=1, strokeDash=[2, 2], opacity=0.7).encode(
        x=x
    )
    text = base.mark_text(
        align="left", baseline="top", dx=4, dy=2, color=colours.ink, fontSize=11.5, fontWeight=600
    ).encode(x=x, y=alt.value(0), text="label:N")
    return [rule, text]


def ratio_forest(
    rows: Rows, colours: Palette, *, label_title: str = "", row_height: int = 46
) -> alt.LayerChart:
    """Draw ratios production / tests with their 95 % intervals beside the band in which both are the same.

    Parameters
    ----------
    rows
        ``label``, ``value``, ``low``, ``high``, ``text`` (the numbers in words), ``verdict`` for the colour.
    """
    order = [row["label"] for row in rows]
    known = [row for row in rows if row.get("value") is not None]
    low, high = _range(known, ("value", "low", "high"), 1.12)
    low, high = min(low, 0.72, 1 / high), max(high, 1.38, 1 / low)
    y = alt.Y(
        "label:N",
        sort=order,
        scale=alt.Scale(domain=order, paddingOuter=0.35),
        axis=alt.Axis(
            title=label_title or None,
            domain=False,
            ticks=False,
            labelColor=colours.ink,
            labelLimit=260,
        ),
    )
    x = alt.X(
        "value:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(
            title="Production ÷ tests (ratio, log scale; the band is ± 10 %)",
            values=ratio_ticks(low, high),
            labelExpr="format(datum.value, '~r') + ' ×'",
            grid=False,
        ),
    )
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(
            domain=["above", "below", "inside", "unsure"],
            range=[colours.optimistic, colours.pessimistic, colours.good, colours.unsure],
        ),
        legend=None,
    )
    margin = (
        _chart([{"from": 1 / MARGIN, "to": MARGIN}])
        .mark_rect(color=colours.good, opacity=0.14)
        .encode(x=alt.X("from:Q"), x2="to:Q")
    )
    same = _chart([{"at": 1}]).mark_rule(color=colours.muted, strokeWidth=1).encode(x=alt.X("at:Q"))
    base = _chart(known)
    bounded = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    bar = bounded.mark_rule(strokeWidth=3, opacity=0.55, clip=True).encode(
        y=y, x=alt.X("low:Q"), x2="high:Q", color=colour
    )
    dot = base.mark_point(size=90, filled=True, opacity=1, clip=True).encode(
        y=y,
        x=x,
        color=colour,
        tooltip=[
            alt.Tooltip("label:N", title=" "),
            alt.Tooltip("text:N", title="Ratio, 95 % interval"),
        ],
    )
    words = base.mark_text(baseline="bottom", dy=-9, fontSize=12, color=colours.ink)
    # A halo of the ground's colour keeps the words readable across the band and its line.
    halo = base.mark_text(
        baseline="bottom", dy=-9, fontSize=12, stroke=colours.ground, strokeWidth=4, opacity=0.85
    )
    texts = [layer.encode(y=y, x=x, text="text:N") for layer in (halo, words)]
    return _finish(
        [margin, same, *texts, bar, dot], colours, max(1, len(order)) * row_height + _AXIS_HEIGHT
    )


def _chart(rows: Rows) -> alt.Chart:
    data = alt.InlineData(values=[dict(row) for row in rows])
    return alt.Chart(data)


def _finish(layers: Sequence[alt.Chart], colours: Palette, height: int) -> alt.LayerChart:
    done: alt.LayerChart = (
        alt.LayerChart(layer=list(layers))
        .properties(height=height, width="container")
        .configure(**chart_config(colours))
    )
    return done
