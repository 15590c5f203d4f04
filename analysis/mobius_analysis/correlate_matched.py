"""The comparison with production's minutes matched to the tests'; cells of the same shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from mobius_analysis.batch import Batch
from mobius_analysis.correlate import Cell, judge_cells, measure, pick_vantage
from mobius_analysis.matching import Match, Matching, loads_of, match_cell
from mobius_analysis.ratio import MARGIN
from mobius_analysis.reported import Reported
from mobius_analysis.rollup import CELL, Window
from mobius_analysis.verdicts import Needs

__all__ = ["Matchings", "correlate_matched", "judge_matched", "measure_matched"]

Matchings = Mapping[tuple[object, ...], Matching]
"""How each cell was matched, by the window's start and the cell's subject."""

_NO_LIKE: Final = Needs(
    "production", None, None, "production has no minute like those of the test: try a longer time"
)


def correlate_matched(
    frame: pl.DataFrame,
    windows: Sequence[Window],
    by: Match,
    *,
    reported: Sequence[Reported] = (),
    margin: float = MARGIN,
) -> tuple[Cell, ...]:
    """Compare both sides of every endpoint as ``correlate`` does, after matching each to its own test.

    Endpoints without a test or without users stay as they are. Where production has no minute like the
    test's, the verdict is inconclusive.
    """
    cells, matchings = measure_matched(frame, windows, by)
    return judge_matched(cells, matchings, windows, reported=reported, margin=margin)


def measure_matched(
    frame: pl.DataFrame, windows: Sequence[Window], by: Match
) -> tuple[list[Cell], Matchings]:
    """Match and measure the cells of whole services; :func:`judge_matched` judges those of all services together."""
    loads = loads_of(frame)
    parts: list[pl.DataFrame] = []
    matchings: dict[tuple[object, ...], Matching] = {}
    for window in windows:
        first, end = window.minutes
        inside = frame.filter(pl.col("minute").is_between(first, end, closed="left"))
        for key, rows in inside.partition_by(CELL, as_dict=True, maintain_order=True).items():
            kept, matching = _match(rows, by, loads)
            parts.append(kept)
            if matching is not None:
                matchings[window.start, *key] = matching
    matched = pl.concat(parts) if parts else frame.clear()
    return measure(Batch.of_rollup(matched, windows), windows), matchings


def judge_matched(
    cells: Iterable[Cell],
    matchings: Matchings,
    windows: Sequence[Window],
    *,
    reported: Sequence[Reported] = (),
    margin: float = MARGIN,
) -> tuple[Cell, ...]:
    """Judge all cells of :func:`measure_matched` as one family, as :func:`correlate_matched` says."""
    judged = judge_cells(cells, windows, reported=reported, margin=margin)
    return tuple(_told(cell, matchings.get((cell.window.start, *cell.subject))) for cell in judged)


def _match(
    rows: pl.DataFrame, by: Match, loads: pl.DataFrame
) -> tuple[pl.DataFrame, Matching | None]:
    real = (pl.col("source") == "real") & (pl.col("vantage") == "server")
    synthetic = pl.col("source") == "synthetic"
    test = rows.filter(synthetic)
    users = rows.filter(real)
    if test.is_empty() or users.is_empty():
        return rows, None
    seen = test.filter(pl.col("vantage") == pick_vantage(test))
    users, seen, matching = match_cell(users, seen, by, loads)
    if not matching.matched:
        return rows, matching  # so that there is a cell that says so
    return pl.concat([users, seen, rows.filter(~real & ~synthetic)]), matching


def _told(cell: Cell, matching: Matching | None) -> Cell:
    if matching is None:
        return cell
    if not matching.matched:
        return replace(
            cell,
            matching=matching,
            ratios={},
            kept={},
            verdict="inconclusive",
            needs=_NO_LIKE,
            p99_verdict=None,
            errors=replace(
                cell.errors,
                difference=None,
                inner_difference=None,
                ratio=None,
                inner_ratio=None,
                verdict=None,
            ),
        )
    return replace(cell, matching=matching)
