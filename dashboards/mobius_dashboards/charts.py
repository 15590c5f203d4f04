"""Charts as pure functions from rows to Altair charts. Every axis says its quantity and unit.

Production is a solid line, tests a dashed one, in the two colours that they have everywhere; pages write the
legend beside the chart, see :func:`mobius_dashboards.markup.source_legend`.
"""

from __future__ import annotations

import altair as alt

from mobius_dashboards.chart_parts import (
    AXIS_HEIGHT,
    CLOCK_LABELS,
    Rows,
    chart_of,
    finish,
    latency_axis,
    ratio_ticks,
    share_axis,
    source_dash,
    source_fill,
    source_stroke,
    stretched,
    value_range,
)
from mobius_dashboards.const import MARGIN
from mobius_dashboards.theme import Palette

__all__ = ["quantile_curves", "quantile_series", "ratio_forest"]


def quantile_curves(rows: Rows, colours: Palette, *, height: int = 320) -> alt.LayerChart:
    """Draw latency against the share of requests that were at most that slow, with 95 % bands.

    Parameters
    ----------
    rows
        ``source`` ("Production" or "Tests"), ``share`` (0 to 1), ``value_ms``, and ``low_ms``, ``high_ms`` or
        None where the data cannot bound the quantile.
    """
    points = [
        {**row, "tail": stretched(row["share"]), "percentile": row["share"] * 100}
        for row in rows
        if row["share"] < 1 and row.get("value_ms")
    ]
    low, high = value_range(points, ("value_ms", "low_ms", "high_ms"), 1.15)
    x = share_axis(max((point["tail"] for point in points), default=2.0))
    y = latency_axis(low, high, "Latency of answered requests (log scale)")
    base = chart_of(points)
    band = (
        base.transform_filter("isValid(datum.low_ms) && isValid(datum.high_ms)")
        .mark_area(opacity=0.18, clip=True)
        .encode(x=x, y=alt.Y("low_ms:Q"), y2="high_ms:Q", fill=source_fill(colours))
    )
    line = base.mark_line(strokeWidth=2.2, clip=True).encode(
        x=x, y=y, stroke=source_stroke(colours), strokeDash=source_dash()
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
    return finish([band, line, hover], colours, height)


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
    low, high = value_range(rows, ("value_ms",), 1.6)
    x = alt.X(
        "at:T",
        scale=alt.Scale(
            type="utc", domain=[{"expr": f"toDate('{edge}')"} for edge in window], nice=False
        ),
        axis=alt.Axis(
            title="Time (UTC)", grid=False, labelOverlap=True, tickCount=8, labelExpr=CLOCK_LABELS
        ),
    )
    y = latency_axis(low, high, f"{quantile} latency (log scale)")
    base = chart_of(rows)
    band = (
        base.transform_filter("isValid(datum.low_ms) && isValid(datum.high_ms)")
        .mark_area(opacity=0.18, clip=True)
        .encode(
            x=x,
            y=alt.Y("low_ms:Q"),
            y2="high_ms:Q",
            fill=source_fill(colours),
        )
    )
    line = base.mark_line(strokeWidth=2, clip=True).encode(
        x=x,
        y=y,
        stroke=source_stroke(colours),
        strokeDash=source_dash(),
        tooltip=[
            alt.Tooltip("source:N", title="Source"),
            alt.Tooltip("at:T", title="From (UTC)", format="%Y-%m-%d %H:%M", formatType="utc"),
            alt.Tooltip("value_ms:Q", title=f"{quantile} (ms)", format=",.3~r"),
            alt.Tooltip("low_ms:Q", title="Low, 95 % (ms)", format=",.3~r"),
            alt.Tooltip("high_ms:Q", title="High, 95 % (ms)", format=",.3~r"),
        ],
    )
    return finish([band, line, *_release_rules(releases, x, colours)], colours, height)


def _release_rules(releases: Rows, x: alt.X, colours: Palette) -> list[alt.Chart]:
    if not releases:
        return []
    base = chart_of(releases)
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
    low, high = value_range(known, ("value", "low", "high"), 1.12)
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
        chart_of([{"from": 1 / MARGIN, "to": MARGIN}])
        .mark_rect(color=colours.good, opacity=0.14)
        .encode(x=alt.X("from:Q"), x2="to:Q")
    )
    same = (
        chart_of([{"at": 1}]).mark_rule(color=colours.muted, strokeWidth=1).encode(x=alt.X("at:Q"))
    )
    base = chart_of(known)
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
    return finish(
        [margin, same, *texts, bar, dot], colours, max(1, len(order)) * row_height + AXIS_HEIGHT
    )
