"""What to test next: endpoints by the risk that nobody would notice, each with its reason.

risk = exposure x gap x change (docs/suite.md, "What to test next"). A ranking, not a probability: the factors
are shown, so that whoever disagrees with one can see what it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mobius_analysis.correlate import Cell
from mobius_analysis.suite_pairs import UserChange
from mobius_analysis.suite_score import ZoneSuite
from mobius_analysis.suite_tracks import Subject, Track

__all__ = ["Priority", "priorities"]

_GAPS: Final[Mapping[str, float]] = {
    "untested": 1.0,
    "blind_spot": 0.9,
    "optimistic": 0.8,
    "unseen_change": 0.7,
    "inconclusive": 0.5,
    "pessimistic": 0.3,
    "representative": 0.05,
}
"""How much the tests leave open; the greatest that applies counts."""

_WORDS: Final[Mapping[str, str]] = {
    "untested": "no test touches it",
    "blind_spot": "users' change was a blind spot of its tests",
    "optimistic": "users get it slower than its test says",
    "unseen_change": "users' change could not be seen by its tests",
    "inconclusive": "its test cannot tell yet",
    "pessimistic": "its test is slower than what users get",
    "representative": "its test tells the truth",
}
_WEEK_MINUTES: Final = 7 * 24 * 60
_MOST_CHANGE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Priority:
    """One endpoint in one region.

    ``requests``, ``time`` and ``errors`` are its shares of the production looked at (``errors`` None where nothing
    failed), ``changes`` users' changes in the window, ``share`` its part of the whole risk.
    """

    zone: str
    subject: Subject
    requests: float
    time: float
    errors: float | None
    gap: str
    changes: int
    exposure: float
    gap_factor: float
    change_factor: float
    risk: float
    share: float
    reason: str


@dataclass(frozen=True, slots=True)
class _Totals:
    weight: float
    seconds: float
    failed: float


def priorities(zones: Sequence[ZoneSuite]) -> tuple[Priority, ...]:
    """Rank all endpoints x regions that users use, the greatest risk first; equal ones by name."""
    users = [(zone, t) for zone in zones for t in zone.tracks if t.test is None]
    totals = _Totals(
        sum(float(t.weight.sum()) for _, t in users),
        sum(float(t.seconds.sum()) for _, t in users),
        sum(float(t.failed.sum()) for _, t in users),
    )
    if totals.weight <= 0:
        return ()
    rated = [found for zone in zones for found in _of_zone(zone, totals)]
    whole = sum(one.risk for one in rated)
    return tuple(
        replace(one, share=one.risk / whole if whole > 0 else 0.0)
        for one in sorted(rated, key=lambda p: (-round(p.risk, 9), p.zone, p.subject))
    )


def _of_zone(zone: ZoneSuite, totals: _Totals) -> Iterator[Priority]:
    touched = zone.touched()
    verdicts = {cell.subject: cell for cell in zone.cells}  # sorted by window: the last one counts
    changes: dict[Subject, list[UserChange]] = {}
    for change in zone.changes:
        changes.setdefault(change.subject, []).append(change)
    for track in zone.tracks:
        if track.test is None:
            own = changes.get(track.subject, [])
            cell = verdicts.get(track.subject)
            gap = _gap(cell, own, tested=track.subject in touched)
            yield _rate(zone, track, totals, gap, len(own))


def _gap(cell: Cell | None, changes: Sequence[UserChange], *, tested: bool) -> str:
    if not tested:
        return "untested"
    verdict = "inconclusive" if cell is None else cell.verdict
    # A test that ran in the window, yet not in the shorter time of the verdicts, has nothing to say about now.
    found = {"inconclusive" if verdict in {"untested", "unvisited"} else str(verdict)}
    found |= {str(change.kind) for change in changes if change.direction == "slower"}
    return max(sorted(found & _GAPS.keys()), key=lambda name: _GAPS[name])


def _rate(zone: ZoneSuite, track: Track, totals: _Totals, gap: str, changes: int) -> Priority:
    first, end = zone.window.minutes
    weeks = (end - first) / _WEEK_MINUTES
    requests = float(track.weight.sum()) / totals.weight
    time = float(track.seconds.sum()) / totals.seconds if totals.seconds > 0 else requests
    errors = float(track.failed.sum()) / totals.failed if totals.failed > 0 else None
    parts = [requests, time, *([] if errors is None else [errors])]
    exposure = sum(parts) / len(parts)
    change = min(1 + changes / max(weeks, 1.0), _MOST_CHANGE)
    return Priority(
        zone=zone.zone,
        subject=track.subject,
        requests=requests,
        time=time,
        errors=errors,
        gap=gap,
        changes=changes,
        exposure=exposure,
        gap_factor=_GAPS[gap],
        change_factor=change,
        risk=exposure * _GAPS[gap] * change,
        share=0.0,
        reason=_reason(requests, time, errors, gap, changes),
    )


def _reason(requests: float, time: float, errors: float | None, gap: str, changes: int) -> str:
    shares = f"{requests:.1%} of users' requests, {time:.1%} of their time"
    if errors is not None:
        shares += f", {errors:.1%} of failures"
    times = {0: "it did not change", 1: "it changed once"}.get(
        changes, f"it changed {changes} times"
    )
    return f"{_WORDS[gap]}; {shares}; {times}"
