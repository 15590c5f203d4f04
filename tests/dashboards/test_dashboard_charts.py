from __future__ import annotations

from typing import Any

import pytest

from mobius_dashboards import charts
from mobius_dashboards.chart_parts import latency_ticks, ratio_ticks
from mobius_dashboards.theme import DARK, LIGHT, Palette

CURVE = [
    {
        "source": source,
        "share": share,
        "value_ms": ms * (1 + share),
        "low_ms": ms,
        "high_ms": 3 * ms,
    }
    for source, ms in (("Production", 50.0), ("Tests", 30.0))
    for share in (0.5, 0.9, 0.99)
]
SERIES = [
    {
        "source": "Production",
        "at": f"2026-11-23T1{i}:00:00Z",
        "value_ms": 40.0 + i,
        "low_ms": None,
        "high_ms": None,
    }
    for i in range(5)
]
RATIO = [
    {
        "label": "p95",
        "value": 1.5,
        "low": 1.4,
        "high": 1.6,
        "text": "1.50 (1.40 to 1.60)",
        "verdict": "above",
    }
]
WINDOW = ("2026-11-23T10:00:00Z", "2026-11-23T15:00:00Z")


def titles(node: Any) -> list[str]:
    """Titles of all axes of a chart's specification."""
    if isinstance(node, dict):
        own = (
            [node["axis"]["title"]]
            if isinstance(node.get("axis"), dict) and node["axis"].get("title")
            else []
        )
        return own + [title for value in node.values() for title in titles(value)]
    return [title for value in node for title in titles(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_each_axis_says_its_quantity_and_unit(colours: Palette) -> None:
    curve = titles(charts.quantile_curves(CURVE, colours).to_dict())
    assert any("Latency" in title for title in curve)
    assert any("percentile" in title for title in curve)
    series = titles(
        charts.quantile_series(SERIES, [], colours, quantile="p95", window=WINDOW).to_dict()
    )
    assert "Time (UTC)" in series
    assert any("p95 latency" in title for title in series)
    assert any("ratio" in title for title in titles(charts.ratio_forest(RATIO, colours).to_dict()))


def test_the_latency_axis_writes_units_at_its_labels() -> None:
    spec = str(charts.quantile_curves(CURVE, LIGHT).to_dict())
    assert "' ms'" in spec
    assert "' s'" in spec


def test_production_and_tests_keep_their_colours_in_every_chart() -> None:
    for colours in (LIGHT, DARK):
        for chart in (
            charts.quantile_curves(CURVE, colours),
            charts.quantile_series(SERIES, [], colours, quantile="p50", window=WINDOW),
        ):
            assert f"['{colours.production}', '{colours.synthetic}']" in str(chart.to_dict())


def test_releases_are_ruled_and_labelled() -> None:
    releases = [{"at": "2026-11-23T12:00:00Z", "label": "1.5.0"}]
    spec = charts.quantile_series(SERIES, releases, LIGHT, quantile="p95", window=WINDOW).to_dict()
    marks = [layer["mark"]["type"] for layer in spec["layer"]]
    assert marks.count("rule") == 1
    assert "1.5.0" in str(spec)


def test_charts_of_nothing_are_charts() -> None:
    for rows in ([], [{**CURVE[0], "value_ms": None}]):
        charts.quantile_curves(rows, LIGHT).to_dict()
    charts.quantile_series([], [], LIGHT, quantile="p95", window=WINDOW).to_dict()
    charts.ratio_forest([], LIGHT).to_dict()


def test_ticks_are_round_and_inside() -> None:
    assert latency_ticks(18, 260) == [20, 50, 100, 200]
    assert latency_ticks(0, 5) == []
    assert ratio_ticks(0.7, 1.6) == [0.8, 1.0, 1.25, 1.5]


def test_the_interval_of_the_forest_is_the_one_given() -> None:
    spec = charts.ratio_forest(RATIO, LIGHT).to_dict()
    values = [row for rows in spec["datasets"].values() for row in rows if "low" in row]
    assert {(row["low"], row["high"]) for row in values} == {(1.4, 1.6)}
