"""The suite's score as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from mobius_analysis.intervals import Bounds
from mobius_analysis.suite_pairs import SightKind, UserChange
from mobius_analysis.suite_priorities import priorities
from mobius_analysis.suite_score import Score, ZoneSuite, score
from mobius_analysis.verdicts import name_of

__all__ = ["print_suite"]

_FILE_WIDTH: Final = 140
_MOST_CHANGES: Final = 20
_STYLE: Final[dict[SightKind, str]] = {
    "early_warning": "bold green",
    "confirmed": "green",
    "late": "yellow",
    "coincidence": "cyan",
    "blind_spot": "bold red",
    "unseen_change": "magenta",
}


def print_suite(
    zones: Sequence[ZoneSuite],
    *,
    test: str | None = None,
    top: int = 10,
    console: Console | None = None,
) -> None:
    """Print scores, users' changes with what tests saw of them, false alarms, and what to test next."""
    out = console or Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    if not any(zone.tracks for zone in zones):
        out.print("No traffic in this time: neither production nor tests. Try a longer --since.")
        return
    names = sorted({name for zone in zones for name in zone.tests if test in {None, name}})
    if test is not None and not names:
        out.print(f"No requests of a test named {test!r} in this time.", markup=False)
    out.print(_scores([score(zones), *(score(zones, name) for name in names)]))
    _print_changes(out, zones)
    _print_alarms(out, zones, test)
    _print_together(out, zones, test)
    _print_priorities(out, zones, top)


def _scores(scores: Sequence[Score]) -> Table:
    table = Table(title="Score, with 95 % intervals", title_justify="left", box=None)
    table.add_column("")
    for one in scores:
        table.add_column(one.test or "all tests", justify="right")
    for name, cells in _lines(scores):
        table.add_row(name, *cells)
    return table


def _lines(scores: Sequence[Score]) -> Iterator[tuple[str, list[str]]]:
    yield "production exercised: requests", [_share(s.coverage.requests) for s in scores]
    yield "                      time", [_share(s.coverage.time) for s in scores]
    yield "                      failures", [_share(s.coverage.errors) for s in scores]
    yield (
        "endpoints x regions exercised",
        [f"{s.coverage.tested} of {s.coverage.used}" for s in scores],
    )
    yield "users' regressions there", [_regressions(s) for s in scores]
    yield "  seen, of those it could see", [_share(s.seen) for s in scores]
    yield "  seen, of all", [_share(s.noticed) for s in scores]
    yield "  median lead over users", [_lead(s.leads) for s in scores]
    yield (
        "alarms: true, false, undecided",
        [
            ", ".join(str(s.alarms.get(k, 0)) for k in ("true", "false", "undecided"))
            for s in scores
        ],
    )
    yield "  false, of the decided", [_share(s.false_alarms) for s in scores]
    yield "cells that tell the truth", [_share(s.truthful) for s in scores]


def _regressions(one: Score) -> str:
    kinds = [
        f"{one.slower[kind]} {kind.replace('_', ' ')}" for kind in _STYLE if one.slower.get(kind)
    ]
    return f"{sum(one.slower.values())}: {', '.join(kinds)}" if kinds else "none"


def _share(found: Bounds | None) -> str:
    if found is None:
        return "unknown"
    if found.low is None or found.high is None:
        return f"{found.value:.0%}"
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def _lead(leads: Sequence[float]) -> str:
    return f"{median(leads):+.0f} min" if leads else "unknown"


def _print_changes(out: Console, zones: Sequence[ZoneSuite]) -> None:
    changes = [(zone.zone, change) for zone in zones for change in zone.changes]
    if not changes:
        out.print("\nNo change of users' was found in this time.")
        return
    table = Table(
        title=f"\nWhat users got, and what tests saw of it ({len(changes)})",
        title_justify="left",
        box=None,
    )
    for column in ("endpoint", "region", "when (UTC)", "change", "tests"):
        table.add_column(column, overflow="fold")
    order = sorted(changes, key=lambda c: (c[1].direction != "slower", c[1].when.moment, c[0]))
    for zone, change in order[:_MOST_CHANGES]:
        table.add_row(
            " ".join(change.subject[1:]),
            f"{zone} {change.subject[0]}",
            _when(change),
            _change(change),
            f"[{_STYLE[change.kind]}]{change.kind}[/]{_seen(change)}",
        )
    out.print(table)
    if len(order) > _MOST_CHANGES:
        out.print(f"and {len(order) - _MOST_CHANGES} more: see --json")


def _when(change: UserChange) -> str:
    text = f"{_moment(change.when.moment)}"
    half = (change.when.last - change.when.first) / 2
    if change.release:
        return f"{text} with {change.release}"
    return f"{text} ±{half:.0f} min" if half else text


def _moment(minute: float) -> str:
    return f"{datetime.fromtimestamp(minute * 60, UTC):%d %b %H:%M}"


def _change(change: UserChange) -> str:
    q = change.quantile
    found = change.ratios[q]
    interval = "" if found.low is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{change.direction}, {name_of(q)} x {found.value:.2f}{interval}"


def _seen(change: UserChange) -> str:
    best = next((s for s in change.sights if s.kind == change.kind), None)
    if best is None:
        return "" if change.sights else ", no test there"
    if best.lead is None or best.lead.low is None or best.lead.high is None:
        return ""
    text = f", lead {best.lead.value:+.0f} min ({best.lead.low:+.0f} to {best.lead.high:+.0f})"
    return text if best.chance is None else f"{text}, chance {best.chance:.1%}"


def _print_alarms(out: Console, zones: Sequence[ZoneSuite], test: str | None) -> None:
    alarms = [
        (zone.zone, a)
        for zone in zones
        for a in zone.alarms
        if a.kind == "false" and test in {None, a.move.test}
    ]
    for zone, alarm in alarms[:_MOST_CHANGES]:
        move = alarm.move
        q = max(move.ratios, key=lambda q: abs(move.ratios[q].value - 1))
        out.print(
            f"False alarm of {move.test}: {' '.join(move.subject[1:])} in {zone} {move.subject[0]},"
            f" {_moment(move.when.moment)}, {name_of(q)} x {move.ratios[q].value:.2f}; users did not have it",
            markup=False,
        )


def _print_together(out: Console, zones: Sequence[ZoneSuite], test: str | None) -> None:
    pairs = [(zone, one) for zone in zones for one in zone.together if test in {None, one.test}]
    if not pairs:
        return
    for zone, one in pairs:
        if one.kept and one.found.lead is not None and one.found.correlation is not None:
            minutes = one.found.lead * zone.length
            order = (
                f"leads users by {minutes} min"
                if minutes > 0
                else f"follows users by {-minutes} min"
            )
            out.print(
                f"{one.test} {order if minutes else 'moves with users'}: {' '.join(one.subject[1:])} in"
                f" {zone.zone} {one.subject[0]}, correlation {one.found.correlation:.2f}"
                f" (chance {one.found.chance:.2f})",
                markup=False,
            )
    mute = sum(one.found.p is None for _, one in pairs)
    told = f"Lead and lag of {len(pairs)} tested endpoints x regions: {sum(o.kept for _, o in pairs)} beyond chance"
    out.print(f"\n{told}, {mute} cannot tell (too few minutes in which both ran).")


def _print_priorities(out: Console, zones: Sequence[ZoneSuite], top: int) -> None:
    ranked = priorities(zones)
    if not ranked:
        return
    table = Table(
        title=f"\nWhat to test next (first {min(top, len(ranked))} of {len(ranked)})",
        title_justify="left",
        box=None,
    )
    for column in ("risk", "endpoint", "region", "why"):
        table.add_column(column, overflow="fold", justify="right" if column == "risk" else "left")
    for one in ranked[:top]:
        table.add_row(
            f"{one.share:.0%}",
            " ".join(one.subject[1:]),
            f"{one.zone} {one.subject[0]}",
            one.reason,
        )
    out.print(table)
