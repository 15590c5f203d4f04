"""The suite's score as one JSON document; see docs/suite.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from mobius_analysis.intervals import Bounds
from mobius_analysis.suite_moves import Span
from mobius_analysis.suite_pairs import Alarm, SightKind, UserChange
from mobius_analysis.suite_priorities import Priority, priorities
from mobius_analysis.suite_score import Score, Together, ZoneSuite, score
from mobius_analysis.suite_tracks import Subject
from mobius_analysis.verdicts import name_of
from mobius_pipeline.options import format_time

__all__ = ["alarm_document", "change_document", "suite_document"]


def suite_document(
    zones: Sequence[ZoneSuite], *, test: str | None = None, top: int = 10
) -> dict[str, Any]:
    """Return the document over some zones of one window; ``test`` leaves out what other tests did."""
    tests = sorted({name for zone in zones for name in zone.tests if test in {None, name}})
    return {
        "since": format_time(zones[0].window.start),
        "until": format_time(zones[0].window.end),
        "bin_minutes": zones[0].length,
        "suite": _score(score(zones)),
        "tests": [_score(score(zones, name)) for name in tests],
        "changes": [
            {"zone": zone.zone, **change_document(c, test)} for zone in zones for c in zone.changes
        ],
        "alarms": [
            {"zone": zone.zone, **alarm_document(a)}
            for zone in zones
            for a in zone.alarms
            if test in {None, a.move.test}
        ],
        "lead_lag": [
            {"zone": zone.zone, **_together(one, zone.length)}
            for zone in zones
            for one in zone.together
            if test in {None, one.test}
        ],
        "priorities": [_priority(one) for one in priorities(zones)[:top]],
    }


def _score(one: Score) -> dict[str, Any]:
    coverage = one.coverage
    return {
        "test": one.test,
        "requests_share": _bounds(coverage.requests),
        "time_share": _bounds(coverage.time),
        "errors_share": _bounds(coverage.errors),
        "endpoints_used": coverage.used,
        "endpoints_tested": coverage.tested,
        "regressions": sum(one.slower.values()),
        "regressions_by_kind": {kind: one.slower.get(kind, 0) for kind in get_args(SightKind)},
        "seen_share": _bounds(one.seen),
        "noticed_share": _bounds(one.noticed),
        "lead_minutes": [round(lead, 1) for lead in one.leads],
        "alarms": {kind: one.alarms.get(kind, 0) for kind in ("true", "false", "undecided")},
        "false_alarm_share": _bounds(one.false_alarms),
        "verdicts": dict(one.verdicts),
        "truthful_share": _bounds(one.truthful),
    }


def change_document(change: UserChange, test: str | None = None) -> dict[str, Any]:
    """Return the JSON form of one change of users'."""
    return {
        **_subject(change.subject),
        "direction": change.direction,
        **_span(change.when),
        "release": change.release,
        "ratio": _ratios(change.ratios),
        "kind": change.kind,
        "tests": [
            {
                "test": sight.test,
                "kind": sight.kind,
                "lead_minutes": None if sight.lead is None else sight.lead.document(),
                "chance": sight.chance,
                "ratio": _bounds(sight.ratio),
            }
            for sight in change.sights
            if test in {None, sight.test}
        ],
    }


def alarm_document(alarm: Alarm) -> dict[str, Any]:
    """Return the JSON form of one move of a test."""
    move = alarm.move
    return {
        **_subject(move.subject),
        "test": move.test,
        "direction": move.direction,
        **_span(move.when),
        "ratio": _ratios(move.ratios),
        "kind": alarm.kind,
    }


def _together(one: Together, length: int) -> dict[str, Any]:
    found = one.found
    return {
        **_subject(one.subject),
        "test": one.test,
        "test_leads_by_minutes": found.lead * length
        if one.kept and found.lead is not None
        else None,
        "correlation": _rounded(found.correlation),
        "chance_correlation": _rounded(found.chance),
        "p": _rounded(found.p),
        "common_minutes": found.common * length,
        "told": found.p is not None,
    }


def _priority(one: Priority) -> dict[str, Any]:
    return {
        "zone": one.zone,
        **_subject(one.subject),
        "reason": one.reason,
        "gap": one.gap,
        "requests_share": _rounded(one.requests),
        "time_share": _rounded(one.time),
        "errors_share": _rounded(one.errors),
        "changes": one.changes,
        "exposure": _rounded(one.exposure),
        "gap_factor": one.gap_factor,
        "change_factor": _rounded(one.change_factor),
        "risk": _rounded(one.risk),
        "risk_share": _rounded(one.share),
    }


def _subject(subject: Subject) -> dict[str, str]:
    return dict(zip(("region", "service", "method", "route"), subject, strict=True))


def _span(span: Span) -> dict[str, str]:
    return {
        name: format_time(datetime.fromtimestamp(minute * 60, UTC))
        for name, minute in (
            ("at", span.moment),
            ("at_earliest", span.first),
            ("at_latest", span.last),
        )
    }


def _ratios(ratios: Mapping[float, Bounds]) -> dict[str, dict[str, float | None]]:
    return {name_of(q): ratios[q].document() for q in sorted(ratios)}


def _bounds(found: Bounds | None) -> dict[str, float | None] | None:
    return None if found is None else found.document()


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
