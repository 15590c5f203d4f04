"""What `join` prints for people."""

from __future__ import annotations

import sys
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from mobius_analysis.joined import PARTS

__all__ = ["print_joined"]

_FILE_WIDTH: Final = 140


def print_joined(document: dict[str, Any], console: Console | None = None) -> None:
    """Print the runs with their join rates, and per endpoint where the time goes."""
    out = console or Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    if not document["runs"]:
        out.print("No test run in this time. Try a longer --since, or name one with --run.")
        return
    for run in document["runs"]:
        out.print(_run_line(run), markup=False, highlight=False)
    if document["overall"] is None:
        out.print("No request could be joined: no result carries a trace id that spans have.")
        return
    out.print(_table(document))


def _run_line(run: dict[str, Any]) -> str:
    head = f"{run['run']} ({run['test']}, {run['zone']}, {run['start']})"
    if not run["with_id"]:
        return f"{head}: none of {run['requests']:,} requests carries a trace id"
    text = f"{head}: {run['joined']:,} of {run['with_id']:,} requests with an id joined ({run['join_rate']:.1%})"
    text += f", of {run['requests']:,} in all; {run['moved_spans']:,} server spans are this run's, {run['moved_now']:,} of them newly"
    for count, what in (
        (run["ambiguous"], "ambiguous"),
        (run["contradicted"], "name traces of another time, method or status"),
    ):
        text += f"; {count:,} {what}" if count else ""
    return text + ("; refused: its spans stay production's" if run["refused"] else "")


def _table(document: dict[str, Any]) -> Table:
    table = Table(
        title="where a request's time goes: median, and share of the client's time with its 95 % interval",
        title_justify="left",
        box=None,
    )
    for column in ("endpoint", "region"):
        table.add_column(column, overflow="fold")
    for column in ("answered", "client p50", *PARTS):
        table.add_column(column, justify="right")
    for one in document["endpoints"]:
        table.add_row(
            f"{one['service']} {one['method']} {one['route']}",
            f"{one['zone']} {one['region']}",
            f"{one['answered']:,}",
            "-" if one["client"] is None else f"{one['client']['p50_ms']['value']:,.1f} ms",
            *(_cell(one[name]) for name in PARTS),
        )
    return table


def _cell(part: dict[str, Any] | None) -> str:
    if part is None:
        return "-"
    text = f"{part['p50_ms']['value']:,.1f} ms"
    share = part["share"]
    if share is None:
        return text
    text += f", {share['value']:.0%}"
    return text if share["low"] is None else f"{text} ({share['low']:.0%} to {share['high']:.0%})"
