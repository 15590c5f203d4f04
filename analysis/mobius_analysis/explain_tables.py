"""The document of one endpoint for people."""

from __future__ import annotations

import sys
from typing import Any, Final

from rich.console import Console
from rich.table import Table

__all__ = ["print_detail"]

_FILE_WIDTH: Final = 140
_LISTED: Final = 6
_ERROR_WORDS: Final = {
    "more": "users meet more failures than the test",
    "less": "users meet fewer failures than the test",
    "alike": "as many failures on both sides",
    "unclear": "cannot tell whether they differ",
}
Interval = dict[str, float | None] | None


def print_detail(document: dict[str, Any], console: Console | None = None) -> None:
    """Print the document of :func:`mobius_analysis.endpoint_detail.detail_document`."""
    out = console or Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    cell = document["cell"]
    out.print(
        f"{cell['service']} {cell['method']} {cell['route']} in {cell['zone']} {cell['region']}",
        style="bold",
        markup=False,
    )
    out.print(f"{cell['window_start']} to {cell['window_end']}", markup=False)
    out.print(f"verdict: {cell['verdict']}", style="bold")
    for text in (cell["note"], (cell["needs"] or {}).get("text")):
        if text:
            out.print(f"  {text}", markup=False)
    out.print(_shift_table(document["shift"]))
    out.print(document["shift"]["text"], markup=False)
    out.print(_errors(cell["errors"]), markup=False)
    for name in ("p50", "p95"):
        found = document["explanations"][name]
        out.print(f"why, at {name}: {found['text']}", markup=False)
        for one in found["ranked"][1:_LISTED]:
            if one["holds"]:
                out.print(f"  also: {one['text']}", markup=False)
    if document["breakdown"]:
        out.print(_breakdown_table(document["breakdown"]))
    if document["load"]["text"]:
        out.print(document["load"]["text"], markup=False)


def _shift_table(shift: dict[str, Any]) -> Table:
    table = Table(title="users / test, quantile by quantile", title_justify="left", box=None)
    table.add_column("quantile")
    for column in ("users", "test", "ratio (95 %)", "band, all together"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("users are")
    for level in shift["levels"]:
        table.add_row(
            level["quantile"],
            f"{level['production_ms']['value']:,.1f} ms",
            f"{level['synthetic_ms']['value']:,.1f} ms",
            interval_text(level["ratio"]),
            interval_text(level["band"]),
            level["users_are"] or "?",
        )
    return table


def _measured(breakdown: dict[str, Any]) -> str:
    shares = (
        (name, breakdown[key]["measured_share"])
        for name, key in (("users'", "production"), ("test's", "synthetic"))
    )
    known = (f"{share:.1%} of the {name}" for name, share in shares if share is not None)
    return f"known of {', '.join(known)} requests"


def _breakdown_table(breakdown: dict[str, Any]) -> Table:
    table = Table(
        title=f"what the service measured, mean of a request in ms ({_measured(breakdown)})",
        title_justify="left",
        box=None,
    )
    table.add_column("part")
    for column in ("users (95 %)", "test (95 %)", "difference (95 %)"):
        table.add_column(column, justify="right", no_wrap=True)
    for part in (*breakdown["parts"], *breakdown["meanwhile"]):
        numbers = (part[key] for key in ("production_ms", "synthetic_ms", "difference_ms"))
        table.add_row(part["part"].replace("_", " "), *map(interval_text, numbers))
    return table


def _errors(errors: dict[str, Any]) -> str:
    sides = ", ".join(
        f"{name} {interval_text(errors[key], 100, ' %')}"
        for name, key in (("users", "production"), ("test", "synthetic"))
        if errors[key] is not None
    )
    verdict = errors["verdict"]
    return f"failed requests: {sides or 'none known'}" + (
        f": {_ERROR_WORDS[verdict]}" if verdict else ""
    )


def interval_text(found: Interval, factor: float = 1.0, unit: str = "") -> str:
    """Say an interval: 1.32 (1.21 to 1.44)."""
    if found is None or found["value"] is None:
        return "-"
    value, low, high = (found[name] for name in ("value", "low", "high"))
    text = f"{(value or 0.0) * factor:.3g}{unit}"
    if low is None or high is None:
        return f"{text} (no interval)"
    return f"{text} ({low * factor:.3g} to {high * factor:.3g})"
