"""What the suite's score amounts to: findings about changes that came without a release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from mobius_analysis.findings import Finding, Kind, Severity, Subject
from mobius_analysis.suite_document import alarm_document, change_document
from mobius_analysis.suite_pairs import Alarm, SightKind, UserChange
from mobius_analysis.suite_score import ZoneSuite
from mobius_analysis.verdicts import name_of

__all__ = ["suite_findings", "suite_settled"]

_KINDS: Final[Mapping[SightKind, Kind]] = {
    "early_warning": "early_warning",
    "confirmed": "confirmed",
    "late": "confirmed",
    "coincidence": "unclear_change",
    "blind_spot": "blind_spot",
    "unseen_change": "unseen_change",
}
_TESTS: Final[Mapping[SightKind, str]] = {
    "early_warning": "the tests saw it first",
    "confirmed": "the tests saw it too",
    "late": "the tests saw it later",
    "coincidence": "a test moved near it, no nearer than by chance",
    "blind_spot": "the tests did not notice",
    "unseen_change": "the tests could not have seen it",
}


def suite_findings(suite: ZoneSuite) -> Iterator[Finding]:
    """Findings about changes and false alarms that no release brought; those of releases are found there.

    A subject has one finding a kind, about its last such change.
    """
    latest: dict[tuple[Kind, Subject], Finding] = {}
    for finding in _all(suite):
        latest[finding.kind, finding.subject] = finding
    yield from latest.values()


def _all(suite: ZoneSuite) -> Iterator[Finding]:
    for change in sorted(suite.changes, key=lambda c: c.when.moment):
        if change.release is None:
            yield _change(change)
    for alarm in sorted(suite.alarms, key=lambda a: a.move.when.moment):
        if alarm.kind == "false":
            yield _false_alarm(alarm)


def _change(change: UserChange) -> Finding:
    region, service, method, route = change.subject
    q = change.quantile
    kind = _KINDS[change.kind]
    severity: Severity = "critical" if kind == "blind_spot" else "warning"
    if change.direction == "faster" or kind == "early_warning":
        severity = "info"
    return Finding(
        kind=kind,
        region=region,
        service=service,
        method=method,
        route=route,
        severity=severity,
        since=_moment(change.when.moment),
        title=f"{method} {route} in {region} got {change.direction} without a release"
        f" ({name_of(q)} {change.ratios[q].value:.2f}); {_TESTS[change.kind]}",
        evidence={"direction": change.direction, "change": change_document(change)},
    )


def _false_alarm(alarm: Alarm) -> Finding:
    move = alarm.move
    region, service, method, route = move.subject
    q = max(move.ratios, key=lambda q: abs(move.ratios[q].value - 1))
    return Finding(
        kind="false_alarm",
        region=region,
        service=service,
        method=method,
        route=route,
        severity="info",
        since=_moment(move.when.moment),
        title=f"Test {move.test} says {method} {route} in {region} got {move.direction}"
        f" ({name_of(q)} {move.ratios[q].value:.2f}); users do not",
        evidence={"direction": move.direction, "alarm": alarm_document(alarm)},
    )


def suite_settled(suite: ZoneSuite, known: Iterable[Finding]) -> Iterator[tuple[Kind, Subject]]:
    """Kinds and subjects of known findings that the suite was looked at for anew and would have found again.

    A change from before the window is settled by nothing, and neither is one of an endpoint without traffic now.
    """
    kinds = {*_KINDS.values(), "false_alarm"}
    there = {track.subject for track in suite.tracks if track.test is None}
    for finding in known:
        region, service, method, route, anchor = finding.subject
        looked = not anchor and finding.since > suite.window.start
        if looked and finding.kind in kinds and (region, service, method, route) in there:
            yield finding.kind, finding.subject


def _moment(minute: float) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
