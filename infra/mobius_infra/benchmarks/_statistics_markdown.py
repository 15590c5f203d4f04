"""The tables of docs/statistics.md, from what the statistics benchmark found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["markdown"]

Row = Mapping[str, Any]
_WORLDS: Final = (None, 0.5, 0.8)
_QUANTILES: Final = ("p50", "p95", "p99")


def markdown(document: Mapping[str, Any]) -> str:
    """Return the tables, each under its heading."""
    parts = {
        "Promised and found": _targets(document["targets"]),
        "Coverage of a quantile's interval": _coverage(
            document["coverage"]["by_window"], "quantile"
        ),
        "Coverage of a ratio's interval": _coverage(document["coverage"]["by_window"], "ratio"),
        "Width of a ratio's interval": _widths(document["coverage"]["by_window_and_requests"]),
        "Shapes": _pooled(document["coverage"]["by_shape"], "shape"),
        "Sampling": _pooled(document["coverage"]["by_sampling"], "sampling"),
        "Methods": _methods(document["methods"]),
        "Power": _power(document["power"]),
        "Real probes": _real(document["real_data"]),
    }
    return "\n".join(f"## {title}\n\n{table}" for title, table in parts.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _world(phi: float | None) -> str:
    return "independent" if phi is None else f"{phi:g}"


def _share(value: float | None, error: float | None = None) -> str:
    """Per cent, with its Monte-Carlo error."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


def _find(rows: Iterable[Row], **key: Any) -> Row | None:
    return next((row for row in rows if all(row[name] == v for name, v in key.items())), None)


def _targets(rows: Iterable[Row]) -> str:
    cells = (
        (
            row["what"],
            f"{100 * row['limit']:g}",
            _share(row["worst"], row["se"]),
            "yes" if row["met"] else "**no**",
            ", ".join(f"{name} {_plain(value)}" for name, value in row["where"].items()),
        )
        for row in rows
    )
    return _table(("promised", "limit, %", "worst, %", "kept", "where"), cells)


def _plain(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _coverage(rows: Sequence[Row], of: str) -> str:
    lines = []
    for minutes in sorted({row["minutes"] for row in rows}, reverse=True):
        for phi in _WORLDS:
            cells = []
            for quantile in _QUANTILES:
                row = _find(rows, minutes=minutes, phi=phi, of=of, quantile=quantile)
                cells.append("-" if row is None else _covered(row))
            lines.append((str(minutes), _world(phi), *cells))
    return _table(("minutes", "phi", *_QUANTILES), lines)


def _covered(row: Row) -> str:
    warned = f" ({_share(row['honest_or_covered'])} with notes)" if row["noted"] > 0 else ""
    return f"{_share(row['coverage'], row['coverage_se'])}{warned}, {row['width_to_oracle']:.2f}"


def _widths(rows: Sequence[Row]) -> str:
    lines = []
    for minutes in sorted({row["minutes"] for row in rows}, reverse=True):
        for requests in sorted({row["requests"] for row in rows}):
            cells = []
            for quantile in _QUANTILES:
                key = {"minutes": minutes, "requests": requests, "of": "ratio"}
                row = _find(rows, phi=0.5, quantile=quantile, **key)
                cells.append("no interval" if row is None else _width(row))
            lines.append((str(minutes), f"{requests:,}", *cells))
    return _table(("minutes", "requests a side", *_QUANTILES), lines)


def _width(row: Row) -> str:
    text = f"{row['half_width_percent']:.0f} % / {row['oracle_half_width_percent']:.0f} %"
    missing = row["without_interval"]
    return text + (f" ({100 * missing:.0f} % none)" if missing >= 0.005 else "")


def _pooled(rows: Sequence[Row], name: str) -> str:
    lines = []
    for value in dict.fromkeys((row[name], row.get("together", False)) for row in rows):
        for phi in _WORLDS:
            cells = []
            for quantile in _QUANTILES:
                key = {name: value[0], "phi": phi, "of": "ratio", "quantile": quantile}
                row = _find((r for r in rows if r.get("together", False) == value[1]), **key)
                cells.append("-" if row is None else _covered(row))
            if any(cell != "-" for cell in cells):
                label = f"{value[0]}, both sides in the same minutes" if value[1] else value[0]
                lines.append((label, _world(phi), *cells))
    return _table((name, "phi", *_QUANTILES), lines)


def _methods(rows: Iterable[Row]) -> str:
    cells = (
        (
            row["method"],
            _share(row["false_at_1"], row["false_at_1_se"]),
            _share(row["false_at_edge"], row["false_at_edge_se"]),
            _share(row["flagged_beyond"], row["flagged_beyond_se"]),
            _share(row["passed_beyond"]),
            _share(row["undecided_beyond"]),
        )
        for row in rows
    )
    head = (
        "method", "flags at ratio 1, %", "flags at the margin, %",
        "flags at 1.5 and 2, %", "passes them as well, %", "says undecided, %",
    )  # fmt: skip
    return _table(head, cells)


def _power(rows: Sequence[Row]) -> str:
    own = [row for row in rows if row["method"] == "mobius" and row["minutes"] == 360]
    sizes = sorted({row["requests"] for row in own})
    lines = []
    for phi in _WORLDS:
        for shift, ratio in sorted({(row["shift"], row["ratio"]) for row in own}):
            cells = []
            for requests in sizes:
                row = _find(own, phi=phi, shift=shift, ratio=ratio, requests=requests)
                cells.append("-" if row is None else _said(row))
            what = "p50 and p95" if shift == "all" else "p95 alone"
            lines.append((_world(phi), what, f"{ratio:g}", *cells))
    return _table(("phi", "what differs", "true ratio", *(f"{n:,}" for n in sizes)), lines)


def _said(row: Row) -> str:
    return f"{100 * row['flagged']:.0f} / {100 * row['passed']:.0f}"


def _real(rows: Sequence[Row]) -> str:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = []
    for window in dict.fromkeys(row["window"] for row in rows):
        found = [_find(rows, window=window, method=method) for method in methods]
        known = [row for row in found if row is not None]
        shares = [_share(row["flagged_share"]) for row in known]
        lines.append((window, str(known[0]["pairs"]), *shares))
    return _table(("window", "pairs", *(f"{method}, %" for method in methods)), lines)
