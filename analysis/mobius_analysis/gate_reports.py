"""What a gate found, for people, programs, CI servers (JUnit XML) and pull requests (Markdown)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.table import Table

from mobius_analysis.gate import GateCell, Record, Verdict
from mobius_analysis.gate_job import GateResult
from mobius_analysis.intervals import Bounds, wilson
from mobius_analysis.prediction import Subject
from mobius_analysis.verdicts import name_of
from mobius_pipeline.options import format_time

__all__ = ["document", "headline", "junit", "markdown", "print_result", "record_line"]

_WORD: Final[dict[Verdict, str]] = {"pass": "PASS", "fail": "FAIL", "cannot_tell": "CANNOT TELL"}
_STYLE: Final[dict[Verdict, str]] = {
    "pass": "bold green",
    "fail": "bold red",
    "cannot_tell": "bold yellow",
}
_URGENCY: Final[dict[Verdict, int]] = {"fail": 0, "cannot_tell": 1, "pass": 2}
_MILLISECONDS: Final = 1e3
_FILE_WIDTH: Final = 140
_MOST_ROWS: Final = 20  # of a comment that people read


def headline(result: GateResult) -> str:
    """Say the verdict and what it is about, in one line."""
    counts = {v: sum(c.decision.verdict == v for c in result.cells) for v in _URGENCY}
    runs = result.runs
    release = runs[-1].release
    build = f"release {release}" if release else f"run {runs[-1].run}"
    total = len(result.cells)
    if result.verdict == "pass":
        return f"{build} of test {runs[-1].test} keeps all {_many(total, 'budget')} in production, as predicted"
    if not total:
        return f"{build} of test {runs[-1].test}: no tested endpoint has a budget"
    parts = [
        f"{counts['fail']} broken" if counts["fail"] else "",
        f"{counts['cannot_tell']} cannot be told" if counts["cannot_tell"] else "",
        f"{counts['pass']} kept" if counts["pass"] else "",
    ]
    said = ", ".join(part for part in parts if part)
    return f"{build} of test {runs[-1].test}: of {_many(total, 'budget')} {said}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _reasons(cells: Sequence[GateCell]) -> list[str]:
    """Say why what did not pass did not; what is the same for several rows, once."""
    rows: dict[str, list[str]] = {}
    for cell in _sorted(cells):
        if cell.decision.verdict != "pass":
            where = f"{_endpoint(cell.subject)} in {cell.subject[0]}, {name_of(cell.q)}"
            rows.setdefault(cell.decision.reason, []).append(where)
    return [
        f"{where[0]}{f' and {len(where) - 1} more' if len(where) > 1 else ''}: {reason}"
        for reason, where in rows.items()
    ]


def _sorted(cells: Sequence[GateCell]) -> list[GateCell]:
    return sorted(cells, key=lambda c: (_URGENCY[c.decision.verdict], c.zone, c.subject, c.q))


def record_line(record: Record, q: float) -> str:
    """Say how past predictions of a quantile fared."""
    inside, total = record.left_out
    if not total:
        return f"{name_of(q)}: no past predictions yet"
    text = f"{name_of(q)}: {inside} of {total} ({inside / total:.0%}), each run predicted from the others"
    by_release, releases_total = record.left_out_releases
    if (by_release, releases_total) != record.left_out:
        text += f"; {by_release} of {releases_total} from other releases only"
    stored, stored_total = record.stored
    return text + (f"; {stored} of {stored_total} of earlier gates" if stored_total else "")


# ---------------------------------------------------------------------------- people


def print_result(result: GateResult, console: Console | None = None) -> None:
    """Print the verdict, a table, what would settle what is open, and how past predictions fared."""
    out = console or Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    out.print(f"[{_STYLE[result.verdict]}]{_WORD[result.verdict]}[/]  ", end="")
    out.print(headline(result), markup=False, highlight=False)
    if result.cells:
        out.print()
        out.print(_table(result))
    for line in _reasons(result.cells):
        out.print(line, markup=False, highlight=False)
    out.print()
    for line in _footnotes(result):
        out.print(line, markup=False, highlight=False)


def _table(result: GateResult) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("endpoint", overflow="fold")
    table.add_column("region", overflow="fold")
    for column in ("", "test", "production, predicted (95 %)", "at most"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for cell in _sorted(result.cells):
        verdict = cell.decision.verdict
        table.add_row(
            _endpoint(cell.subject),
            cell.subject[0],
            name_of(cell.q),
            "-" if cell.test is None else f"{_value(cell.test.value)} ms",
            _predicted(cell),
            "-" if cell.budget.seconds is None else f"{_value(cell.budget.seconds)} ms",
            f"[{_STYLE[verdict]}]{_WORD[verdict].lower()}[/]",
        )
    return table


def _endpoint(subject: Subject) -> str:
    return " ".join(part for part in subject[1:] if part)


def _value(seconds: float) -> str:
    ms = seconds * _MILLISECONDS
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 1 else f"{ms:.3g}"


def _predicted(cell: GateCell) -> str:
    if cell.prediction is None:
        return "-"
    bounds = cell.prediction.bounds
    if bounds.low is None or bounds.high is None:
        return f"{_value(bounds.value)} ms (no interval)"
    return f"{_value(bounds.value)} ms ({_value(bounds.low)} to {_value(bounds.high)})"


def _footnotes(result: GateResult) -> list[str]:
    levels = sorted({cell.q for cell in result.cells}) or [0.95]
    lines = ["Past predictions inside their 95 % interval:"]
    lines += [f"  {record_line(result.record[q], q)}" for q in levels]
    lines.append(
        f"History: {_many(result.pairs, 'pair')} of test and production over {_many(result.releases, 'release')}"
    )
    if any(cell.vantage == "client" for cell in result.cells):
        lines.append("Tests are measured at the client; the network's share is part of the mapping")
    known = [cell for cell in result.cells if cell.actual is not None]
    if known:
        lines.append(
            f"Users have met this release already in {_many(len(known), 'row')}: see `mobius-rum correlate`"
        )
    failed = sum({cell.subject: cell.failed for cell in result.cells}.values())
    if failed:
        lines.append(f"{failed:,} requests of the test failed; latency is that of the others")
    if result.unjudged:
        names = ", ".join(
            f"{_endpoint(subject)} in {subject[0]}" for _, subject in result.unjudged[:5]
        )
        more = len(result.unjudged) - 5
        lines.append(f"Tested without a budget: {names}{f' and {more} more' if more > 0 else ''}")
    lines += [
        f"Budget without a tested endpoint: {budget.pattern}, {name_of(budget.q)}"
        for budget in result.unused
    ]
    return lines


# ---------------------------------------------------------------------------- programs


def document(result: GateResult) -> dict[str, Any]:
    """Return the JSON document, described in docs/gate.md."""
    return {
        "verdict": result.verdict,
        "headline": headline(result),
        "runs": [
            {
                "run": run.run,
                "test": run.test,
                "release": run.release or None,
                "region": run.region,
                "environment": run.environment or None,
                "start": format_time(run.start),
                "requests": run.requests,
                "failed": run.failed,
            }
            for run in result.runs
        ],
        "cells": [_cell_document(cell) for cell in _sorted(result.cells)],
        "past_predictions": {
            name_of(q): {
                "left_out_runs": _share(record.left_out),
                "left_out_releases": _share(record.left_out_releases),
                "stored": _share(record.stored),
            }
            for q, record in result.record.items()
        },
        "history": {"pairs": result.pairs, "releases": result.releases},
        "without_budget": [
            {"zone": zone, **_subject_document(subject)} for zone, subject in result.unjudged
        ],
        "unused_budgets": [
            {
                "pattern": budget.pattern,
                "quantile": name_of(budget.q),
                "budget_ms": budget.seconds * _MILLISECONDS,
            }
            for budget in result.unused
        ],
    }


def _subject_document(subject: Subject) -> dict[str, str]:
    return dict(zip(("region", "service", "method", "route"), subject, strict=True))


def _cell_document(cell: GateCell) -> dict[str, Any]:
    prediction, decision = cell.prediction, cell.decision
    return {
        "zone": cell.zone,
        **_subject_document(cell.subject),
        "quantile": name_of(cell.q),
        "verdict": decision.verdict,
        "reason": decision.reason,
        "needs": None
        if decision.remedy is None
        else {
            "what": decision.remedy,
            "requests": decision.requests,
            "releases": decision.releases,
        },
        "vantage": cell.vantage,
        "answered": cell.answered,
        "failed": cell.failed,
        "test_ms": _bounds(cell.test),
        "predicted_ms": None if prediction is None else _bounds(prediction.bounds),
        "ratio": None if prediction is None else float(f"{prediction.ratio:.4g}"),
        "budget_ms": None
        if cell.budget.seconds is None
        else float(f"{cell.budget.seconds * _MILLISECONDS:.6g}"),
        "budget_source": cell.budget.source,
        "current_ms": _bounds(cell.budget.current),
        "actual_ms": _bounds(cell.actual),
        "pairs": cell.pairs,
    }


def _bounds(bounds: Bounds | None) -> dict[str, float | None] | None:
    return None if bounds is None else bounds.document(_MILLISECONDS)


def _share(counts: tuple[int, int]) -> dict[str, Any]:
    inside, total = counts
    share = wilson(inside, total)
    return {
        "inside": inside,
        "predictions": total,
        "share": None if share is None else share.document(),
    }


# ---------------------------------------------------------------------------- CI


def junit(result: GateResult) -> str:
    """Return JUnit XML: a case a budget; what fails is a failure, what cannot be told is an error."""
    cells = _sorted(result.cells)
    failures = sum(c.decision.verdict == "fail" for c in cells)
    errors = sum(c.decision.verdict == "cannot_tell" for c in cells) + (not cells)
    counts = {
        "tests": str(max(len(cells), 1)),
        "failures": str(failures),
        "errors": str(errors),
    }
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": f"gate {result.runs[-1].test}", **counts})
    if not cells:
        case = ET.SubElement(suite, "testcase", {"classname": "gate", "name": "budgets"})
        ET.SubElement(case, "error", {"message": headline(result), "type": "cannot_tell"})
    for cell in cells:
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "classname": _xml(f"{cell.zone}.{cell.subject[0]}.{cell.subject[1]}"),
                "name": _xml(f"{cell.subject[2]} {cell.subject[3]} {name_of(cell.q)}".strip()),
            },
        )
        text = _xml(_sentence(cell))
        if cell.decision.verdict == "pass":
            ET.SubElement(case, "system-out").text = text
        else:
            tag = "failure" if cell.decision.verdict == "fail" else "error"
            attributes = {"message": text, "type": cell.decision.verdict}
            ET.SubElement(case, tag, attributes).text = text
    ET.SubElement(suite, "system-out").text = _xml("\n".join(_footnotes(result)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def _sentence(cell: GateCell) -> str:
    limit = "?" if cell.budget.seconds is None else f"{_value(cell.budget.seconds)} ms"
    return (
        f"production {name_of(cell.q)} predicted as {_predicted(cell)}, at most {limit} "
        f"({cell.budget.source}): {cell.decision.reason}"
    )


def markdown(result: GateResult) -> str:
    """Return a comment for a pull request: the verdict, a short table, the rest folded."""
    cells = _sorted(result.cells)
    lines = [f"### {_WORD[result.verdict]}: {_escape(headline(result))}", ""]
    if cells:
        lines += [
            "| | endpoint | region | test | production, predicted (95 %) | at most |",
            "|---|---|---|---:|---:|---:|",
        ]
        lines += [_row(cell) for cell in cells[:_MOST_ROWS]]
        lines.append("")
    if len(cells) > _MOST_ROWS:
        lines += [f"and {len(cells) - _MOST_ROWS} more, no worse than these", ""]
    lines += [f"- {_escape(line)}" for line in _reasons(cells)[:_MOST_ROWS]]
    lines += ["", "<details><summary>How good are these predictions?</summary>", ""]
    notes = _footnotes(result)
    lines += [f"- {_escape(note.strip())}" for note in notes[1:]]
    lines[-len(notes) + 1] = lines[-len(notes) + 1].replace("- ", f"- {notes[0]} ", 1)
    lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _row(cell: GateCell) -> str:
    word = _WORD[cell.decision.verdict].lower()
    limit = "-" if cell.budget.seconds is None else f"{_value(cell.budget.seconds)} ms"
    test = "-" if cell.test is None else f"{_value(cell.test.value)} ms"
    where = f"{_escape(_endpoint(cell.subject))} {name_of(cell.q)} | {_escape(cell.subject[0])}"
    return f"| **{word}** | {where} | {test} | {_predicted(cell)} | {limit} |"


def _escape(text: str) -> str:
    """Text that Markdown shows as it is: what a route or a test is called is not ours."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    for sign in "\\`*_[]<>|#@":
        shown = shown.replace(sign, f"\\{sign}" if sign not in "<>@" else f"&#{ord(sign)};")
    return shown
