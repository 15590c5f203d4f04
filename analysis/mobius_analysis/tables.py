"""Results of the correlate job as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from mobius_analysis.cells import note_of
from mobius_analysis.correlate import Cell, SideSummary
from mobius_analysis.findings import Severity
from mobius_analysis.jobs import JobResult
from mobius_analysis.ratio import Ratio
from mobius_analysis.verdicts import VERDICTS, Verdict

__all__ = ["print_results"]

_STYLE: Final[dict[Verdict, str]] = {
    "representative": "green",
    "optimistic": "bold red",
    "pessimistic": "yellow",
    "inconclusive": "cyan",
    "untested": "magenta",
    "unvisited": "dim",
}
_FILE_WIDTH: Final = (
    140  # of lines that go to a file or another program, which have no width of their own
)
_URGENCY: Final[dict[Severity, int]] = {"critical": 0, "warning": 1, "info": 2}


def print_results(results: Sequence[JobResult], console: Console | None = None) -> None:
    """Print cells, the sum of the verdicts and the open findings of one run over some zones."""
    out = console or Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    cells = [
        (result.correlation.zone, cell) for result in results for cell in result.correlation.cells
    ]
    if not cells:
        out.print("No traffic in this time: neither production nor tests. Try a longer --since.")
        return
    out.print(_cells_table(cells))
    for zone, cell in cells:
        remarks = [
            text for text in (note_of(cell), "" if cell.needs is None else cell.needs.text) if text
        ]
        if remarks and cell.verdict not in {"optimistic", "pessimistic"}:
            out.print(
                f"{cell.method} {cell.route} in {zone} {cell.region}: {'; '.join(remarks)}",
                markup=False,
            )
    counts = {verdict: sum(cell.verdict == verdict for _, cell in cells) for verdict in VERDICTS}
    out.print(
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count), style="bold"
    )
    if findings := [finding for result in results for finding in result.findings]:
        out.print("\nOpen findings", style="bold")
    for finding in sorted(findings, key=lambda f: (_URGENCY[f.severity], f.since, f.title)):
        out.print(
            f"{finding.severity:8} {finding.kind}, since {finding.since:%d %b %H:%M} UTC",
            markup=False,
        )
        out.print(f"         {finding.title}", markup=False)


def _cells_table(cells: Sequence[tuple[str, Cell]]) -> Table:
    several = len({cell.window.start for _, cell in cells}) > 1
    table = Table(title="production / test, with 95 % intervals", title_justify="left", box=None)
    for column in ("endpoint", "region", *(["from (UTC)"] if several else [])):
        table.add_column(column, overflow="fold")
    for column in ("users p95", "test p95", "p50 ratio", "p95 ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for zone, cell in cells:
        table.add_row(
            f"{cell.service} {cell.method} {cell.route}",
            f"{zone} {cell.region}",
            *([f"{cell.window.start:%d %b %H:%M}"] if several else []),
            _latency(cell.production),
            _latency(cell.synthetic),
            _ratio(cell.ratios.get(0.5)),
            _ratio(cell.ratios.get(0.95)),
            f"[{_STYLE[cell.verdict]}]{cell.verdict}[/]",
        )
    return table


def _latency(side: SideSummary) -> str:
    found = side.estimate(0.95)
    return "-" if found is None else f"{found.bounds.value * 1000:,.1f} ms"


def _ratio(found: Ratio | None) -> str:
    if found is None:
        return "-"
    bounds = found.bounds
    if bounds.low is None or bounds.high is None:
        return f"{bounds.value:.2f} (no interval)"
    return f"{bounds.value:.2f} ({bounds.low:.2f} to {bounds.high:.2f})"
