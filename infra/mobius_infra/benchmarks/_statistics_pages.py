"""Write what the statistics benchmark found as docs/statistics.md shows it: plots, Markdown tables, and CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from mobius_infra.benchmarks._statistics_markdown import markdown
from mobius_infra.benchmarks._statistics_svg import Line, Panel, figure

__all__ = ["write_pages"]

Rows = list[dict[str, Any]]
_PHIS: Final = (None, 0.0, 0.3, 0.5, 0.8)
_METHODS: Final = ("mobius", "raw percentiles", "Mann-Whitney", "Kayenta", "k6 threshold")
_WINDOWS: Final = (10, 60, 360)
_REQUESTS: Final = (20, 200, 2000, 20_000)


def write_pages(folder: Path, document: Mapping[str, Any], cells: Mapping[str, Rows]) -> None:
    """Write statistics-*.svg, statistics-tables.md and statistics-*.csv (every world) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "coverage": _coverage_plot(document["coverage"]["by_window"]),
        "false-claims": _false_plot(document["false_claims"]),
        "power": _power_plot(document["power"]),
        "probes": _probes_plot(document["real_data"]),
    }
    for name, text in plots.items():
        (folder / f"statistics-{name}.svg").write_text(text, encoding="utf-8")
    (folder / "statistics-tables.md").write_text(markdown(document), encoding="utf-8")
    for name, rows in cells.items():
        pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / f"statistics-{name}.csv")


def _phi(phi: float | None) -> str:
    return "independent requests" if phi is None else f"phi {phi:g}"


def _pick(
    rows: Rows, ticks: Sequence[Any], tick: str, column: str, **key: Any
) -> list[float | None]:
    found = {row[tick]: row[column] for row in rows if all(row[k] == v for k, v in key.items())}
    return [found.get(one) for one in ticks]


def _percent(value: float) -> str:
    return f"{100 * value:g} %"


def _coverage_plot(rows: Rows) -> str:
    minutes = sorted({row["minutes"] for row in rows})
    panels = []
    for column, title, limits, marks, targets in (
        (
            "coverage",
            "coverage of the 95 % interval",
            (0.8, 1.0),
            (0.8, 0.85, 0.9, 0.95, 1.0),
            (0.92,),
        ),
        (
            "width_to_oracle",
            "half width / an ideal interval's",
            (0.5, 2.5),
            (0.5, 1, 1.5, 2, 2.5),
            (1.0,),
        ),
    ):
        for quantile in ("p50", "p95", "p99"):
            key = {"of": "ratio", "quantile": quantile}
            lines = [
                Line(
                    _phi(phi),
                    _pick(rows, minutes, "minutes", column, phi=phi, **key),
                    _pick(rows, minutes, "minutes", "coverage_se", phi=phi, **key)
                    if column == "coverage"
                    else (),
                    colour,
                )
                for colour, phi in enumerate(_PHIS)
            ]
            ticks = [f"{one} min" for one in minutes]
            label: Callable[[float], str] = _percent if column == "coverage" else "{:g}".format
            panels.append(
                Panel(f"{quantile}: {title}", ticks, lines, limits, marks, targets, label=label)
            )
    return figure(
        "Does the interval of production / test cover the truth, and at what width?", panels
    )


def _false_plot(rows: Rows) -> str:
    panels = []
    phis = (None, 0.5, 0.8)
    for shift, ratio, title in (
        ("all", 1.0, "true ratio 1"),
        ("all", 1.1, "true ratio 1.1, the margin itself"),
    ):
        for minutes in _WINDOWS:
            key = {"minutes": minutes, "shift": shift, "ratio": ratio}
            lines = [
                Line(
                    method,
                    _pick(rows, phis, "phi", "false_claims", method=method, **key),
                    _pick(rows, phis, "phi", "false_claims_se", method=method, **key),
                    colour,
                )
                for colour, method in enumerate(_METHODS)
            ]
            ticks = ["independent", "phi 0.5", "phi 0.8"]
            panels.append(
                Panel(
                    f"{minutes} min, {title}", ticks, lines, (0, 1), (0, 0.25, 0.5, 0.75, 1), (0.05,),
                    label=_percent,
                )
            )  # fmt: skip
    return figure(
        "How often is a claim made that is not so? (20 to 20,000 requests a side)", panels
    )


def _power_plot(rows: Rows) -> str:
    panels = []
    for shift, ratios in (("all", (1.0, 1.05, 1.1, 1.2, 1.5, 2.0)), ("tail", (1.1, 1.2, 1.5, 2.0))):
        for requests in (200, 2000, 20_000):
            key = {"requests": requests, "minutes": 360, "shift": shift, "phi": 0.5}
            lines = [
                Line(
                    method,
                    _pick(rows, ratios, "ratio", "flagged", method=method, **key),
                    (),
                    colour,
                )
                for colour, method in enumerate(_METHODS)
            ]
            what = "all latencies" if shift == "all" else "p95 and beyond only"
            panels.append(
                Panel(
                    f"{requests:,} requests, {what}", [f"{r:g}" for r in ratios], lines, (0, 1),
                    (0, 0.25, 0.5, 0.75, 1), label=_percent, below="true ratio production / test",
                )
            )  # fmt: skip
    return figure(
        "How often is a test called optimistic? (6 h, lognormal, phi 0.5; above 1.1 it is)", panels
    )


def _probes_plot(rows: Rows) -> str:
    windows = list(dict.fromkeys(row["window"] for row in rows))
    marks = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
    panels = []
    for unit, title in ((" d", "windows of days"), (" probes", "windows of that many probes")):
        ticks = [window for window in windows if window.endswith(unit)]
        lines = [
            Line(method, _pick(rows, ticks, "window", "flagged_share", method=method), (), colour)
            for colour, method in enumerate(_METHODS)
        ]
        panels.append(
            Panel(
                title, ticks, lines, (0.002, 1), marks, (0.02,), logarithmic=True, label=_percent,
                below="share of pairs flagged; at the bottom: none",
            )
        )  # fmt: skip
    return figure("Neighbouring windows of real probes: how many are flagged?", panels, columns=2)
