"""What cells, changes and quarantined spans amount to: findings, and what is settled otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mobius_analysis.cells import CorrelationResult, cell_document, errors_document, side_document
from mobius_analysis.changes import Change, Movement
from mobius_analysis.correlate import Cell
from mobius_analysis.findings import Finding, Kind, Severity, Subject
from mobius_analysis.verdicts import Verdict, name_of, name_ratio

__all__ = ["cell_findings", "change_findings", "settled_by"]

_LEAST_UNTESTED: Final = 100  # requests below which an untested endpoint is not worth a finding
_WEIGHTY_SHARE: Final = 0.05

_KIND_OF_VERDICT: Final[dict[Verdict, Kind]] = {
    "optimistic": "optimistic_test",
    "pessimistic": "pessimistic_test",
    "untested": "untested_endpoint",
}
_DECISIVE: Final[frozenset[Verdict]] = frozenset({"representative", "optimistic", "pessimistic"})
_CHANGE_KINDS: Final[tuple[Kind, ...]] = (
    "blind_spot",
    "false_alarm",
    "confirmed",
    "early_warning",
    "unseen_change",
)


def cell_findings(result: CorrelationResult) -> Iterator[Finding]:
    """Findings about tests that are wrong or missing, from the last window of each endpoint."""
    seconds: dict[str, float] = {}
    cells = list(_latest(result))
    for cell in cells:
        seconds[cell.region] = seconds.get(cell.region, 0.0) + cell.production.seconds
    for cell in cells:
        kind = _KIND_OF_VERDICT.get(cell.verdict)
        if kind is None or (
            kind == "untested_endpoint" and cell.production.requests < _LEAST_UNTESTED
        ):
            continue
        whole = seconds[cell.region]
        yield Finding(
            kind=kind,
            region=cell.region,
            service=cell.service,
            method=cell.method,
            route=cell.route,
            severity=_severity(cell, cell.production.seconds / whole if whole else 0.0),
            since=cell.window.start,
            title=_cell_title(cell),
            evidence={"cell": cell_document(result.zone, cell)},
        )


def _latest(result: CorrelationResult) -> Iterator[Cell]:
    latest = {cell.subject: cell for cell in result.cells}  # cells come sorted by window
    yield from latest.values()


def _severity(cell: Cell, share: float) -> Severity:
    if cell.verdict == "optimistic":
        return "warning"
    return "warning" if cell.verdict == "untested" and share >= _WEIGHTY_SHARE else "info"


def _cell_title(cell: Cell) -> str:
    where = f"{cell.method} {cell.route} in {cell.region}"
    if cell.verdict == "untested":
        return f"No test exercises {where}: {cell.production.requests:,} requests of users"
    tells = (
        "Users get it slower than the test says"
        if cell.verdict == "optimistic"
        else "The test is slower than users"
    )
    claims = [
        name_ratio(q, r)
        for q, r in cell.ratios.items()
        if cell.kept.get(q) and (r.above() or r.below())
    ]
    return f"{tells}: {where}, production / test {', '.join(claims)}"


def change_findings(changes: tuple[Change, ...]) -> Iterator[Finding]:
    """Findings about releases that users or tests noticed."""
    for change in changes:
        if change.kind is None or change.direction is None:
            continue
        yield Finding(
            kind=change.kind,
            region=change.release.region,
            service=change.release.service,
            method=change.method,
            route=change.route,
            severity=_change_severity(change),
            since=change.release.first_seen,
            title=_change_title(change),
            evidence={
                "release": change.release.document(),
                "direction": change.direction,
                "quantiles": [name_of(q) for q in change.quantiles],
                "production": _movement_document(change.production),
                "tests": _movement_document(change.tests),
                "early_tests": _movement_document(change.early),
                "vantage": change.vantage,
                "lead_minutes": None if change.lead is None else change.lead.total_seconds() / 60,
            },
            anchor=change.release.version,
        )


def _change_severity(change: Change) -> Severity:
    if change.direction == "faster" or change.kind in {"false_alarm", "early_warning"}:
        return "info"
    return "critical" if change.kind == "blind_spot" else "warning"


def _change_title(change: Change) -> str:
    where = f"{change.method} {change.route} in {change.release.region}"
    with_release = f"{change.direction} with {change.release.version}"
    q = change.quantiles[0]
    if change.kind == "false_alarm":
        return f"Tests say {where} got {with_release} ({name_ratio(q, change.tests.ratios[q])}); users do not"
    tests = {
        "blind_spot": "the tests did not notice",
        "confirmed": "the tests saw it too",
        "early_warning": "the tests saw it first",
        "unseen_change": "the tests could not have seen it",
    }[change.kind or "confirmed"]
    return f"{where} got {with_release} ({name_ratio(q, change.production.ratios[q])}); {tests}"


def _movement_document(movement: Movement) -> dict[str, Any]:
    return {
        "before": side_document(movement.before),
        "after": side_document(movement.after),
        "errors_before": errors_document(movement.before),
        "errors_after": errors_document(movement.after),
        "ratio": {name_of(q): r.bounds.document() for q, r in movement.ratios.items()},
    }


def settled_by(
    result: CorrelationResult, changes: tuple[Change, ...]
) -> Iterator[tuple[Kind, Subject]]:
    """Kinds and subjects about which these results decide; those not found again no longer hold.

    An inconclusive cell decides nothing, and neither does one whose production or test fell silent.
    """
    for cell in _latest(result):
        subject = (*cell.subject, "")
        if cell.synthetic.requests:
            yield "untested_endpoint", subject
        if cell.verdict in _DECISIVE:
            yield "optimistic_test", subject
            yield "pessimistic_test", subject
    for change in changes:
        release = change.release
        subject = release.region, release.service, change.method, change.route, release.version
        yield from ((kind, subject) for kind in _settled_kinds(change))


def _settled_kinds(change: Change) -> Iterator[Kind]:
    """Kinds that this change is not: another one is found, or the side that would have moved stood still."""
    for kind in _CHANGE_KINDS:
        mover = change.tests if kind == "false_alarm" else change.production
        if change.kind is not None or mover.stood_still:
            yield kind
