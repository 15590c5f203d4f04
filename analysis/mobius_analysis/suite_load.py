"""The thin shell under the suite's score: loads one zone's tracks, releases and verdicts, and finds what moved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from mobius_analysis.cells import load_cells
from mobius_analysis.changes import Change, load_changes
from mobius_analysis.correlate import Cell
from mobius_analysis.rollup import Only, Window
from mobius_analysis.suite_moves import find_moves
from mobius_analysis.suite_pairs import pair_moves, release_changes
from mobius_analysis.suite_score import ZoneSuite, move_together
from mobius_analysis.suite_tracks import Track, bin_length, load_tracks, pick_vantages
from mobius_instrumentation.zones import Zone

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["assess", "load_suite"]

_VERDICT_TIME: Final = timedelta(hours=24)
"""Verdicts are those of the window's last day: how true the tests are now."""


def load_suite(
    client: Client,
    zone: Zone,
    window: Window,
    *,
    environment: str | None = None,
    cells: Sequence[Cell] | None = None,
    changes: Sequence[Change] | None = None,
) -> ZoneSuite:
    """Load what one zone's suite is scored by; ``cells`` and ``changes`` where they are known already.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused a query.
    """
    if cells is None:
        since = max(window.start, window.end - _VERDICT_TIME)
        cells = load_cells(client, zone, since, window.end, environment=environment).cells
    if changes is None:
        changes = load_changes(client, window)
    named = environment or ""
    of_it = [change for change in changes if named in {"", change.release.environment}]
    tracks = pick_vantages(load_tracks(client, window, Only(environment=named)))
    return assess(zone.name, window, tracks, cells, of_it)


def assess(
    zone: str,
    window: Window,
    tracks: tuple[Track, ...],
    cells: Sequence[Cell] = (),
    changes: Sequence[Change] = (),
) -> ZoneSuite:
    """Find what moved in one zone, pair it, and see who moves first; pure."""
    length = bin_length(window)
    moves = find_moves(tracks, length)
    seen, alarms = pair_moves(
        tracks, moves, tuple(release_changes(changes)), window.minutes, length
    )
    return ZoneSuite(
        zone=zone,
        window=window,
        length=length,
        tracks=tracks,
        cells=tuple(cells),
        changes=seen,
        alarms=alarms,
        together=move_together(tracks, length),
    )
