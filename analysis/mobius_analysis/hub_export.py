"""What of a zone's rollup may leave it: cells of enough subjects, and totals that give no other cell away.

Frames in, frames out; nothing is read or sent here. Cells keep their histograms, with thin ends merged. Totals
say a number of requests and nothing else: a total's histogram less the cells' would be that of the hidden ones.
A window is exported once, when it is complete: two exports of overlapping windows could be subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mobius_analysis.suppress_cells import hide, small
from mobius_analysis.thin_tails import merge_thin_tails
from mobius_pipeline.residency.tables import CROSSING_COLUMNS

__all__ = ["Account", "Export", "export_cells"]

_AXES: Final = ("minute", "region", "version")
_MEASURES: Final = ("requests", "errors", "buckets", "weights")


@dataclass(frozen=True, slots=True)
class Account:
    """What an export held back. It stays in the zone: how much was hidden is a total itself."""

    cells: int
    small_cells: int
    totals: int
    small_totals: int
    hidden_beside: int


@dataclass(frozen=True, slots=True)
class Export:
    """``cells`` and ``totals`` may leave the zone; ``account`` may not.

    Null on an axis of ``totals`` means all of it. ``counted_by`` says whether the least size was held by
    ``subjects``, by ``requests`` standing in for them, or in some cells by the one and in others by the other.
    """

    cells: pl.DataFrame
    totals: pl.DataFrame
    counted_by: Literal["subjects", "requests", "both"]
    account: Account


def export_cells(
    cells: pl.DataFrame,
    *,
    keys: Sequence[str],
    axes: Sequence[str] = _AXES,
    least: int = 50,
    least_in_tail: float = 5,
) -> Export:
    """Suppress what is too small, and what would give it away.

    Parameters
    ----------
    cells
        One row a cell: ``keys``, ``axes``, ``requests``, ``errors`` (numbers), ``buckets`` and ``weights`` (lists), and,
        where subjects are known, ``subjects`` (how many distinct ones; null for a cell of which none is). Any other
        column stays behind.
    keys, axes
        Columns that tell cells apart; totals are over ``axes``, within one set of ``keys``. Both are columns that
        may cross.
    least
        Distinct subjects of a cell that is published. In a cell whose subjects are unknown, requests stand in. Requests
        of nobody in a cell of which some are known count for nothing.
    least_in_tail
        Requests that the first and the last bucket of a histogram have at least.

    Raises
    ------
    ValueError
        A column may not cross, a cell stands twice, or an axis holds null.
    """
    _check(cells, [*keys, *axes])
    if "subjects" not in cells.columns:
        cells = cells.with_columns(subjects=pl.lit(None, pl.UInt64))
    counted = cells.filter(pl.col("requests") > 0).with_columns(
        _count=pl.min_horizontal(pl.col("subjects", "requests").cast(pl.Int64))  # leaves out nulls
    )
    groups = counted.partition_by(list(keys), maintain_order=True) if keys else [counted]
    parts = [_export_group(group, keys, axes, least) for group in groups if len(group)]
    kept = [cell for cell, _, _ in parts]
    inside = (pl.concat(kept) if kept else counted).select(*keys, *axes, *_MEASURES)
    totals = [total for _, total, _ in parts]
    schema = {name: cells.schema[name] for name in (*keys, *axes, "requests")}
    counts = np.array([numbers for _, _, numbers in parts], int).reshape(-1, 5).sum(axis=0)
    return Export(
        cells=_without_thin_tails(inside, least_in_tail),
        totals=pl.concat(totals) if totals else pl.DataFrame(schema=schema),
        counted_by=_counted_by(counted["subjects"]),
        account=Account(*(int(number) for number in counts)),
    )


def _counted_by(subjects: pl.Series) -> Literal["subjects", "requests", "both"]:
    if subjects.null_count() == len(subjects):
        return "requests"
    return "both" if subjects.null_count() else "subjects"


def _check(cells: pl.DataFrame, columns: list[str]) -> None:
    for column in columns:
        if column not in CROSSING_COLUMNS:
            raise ValueError(f"column {column!r} may not cross to the hub")
        if cells[column].null_count():
            raise ValueError(f"column {column!r} holds null, which is kept for totals")
    if cells.select(columns).is_duplicated().any():
        raise ValueError("a cell stands twice")


def _export_group(
    group: pl.DataFrame, keys: Sequence[str], axes: Sequence[str], least: int
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[int, ...]]:
    members = [group[axis].unique().sort() for axis in axes]
    places = tuple(
        member.search_sorted(group[axis]).to_numpy()
        for axis, member in zip(axes, members, strict=True)
    )
    shape = tuple(len(member) + 1 for member in members)
    values, counts = np.zeros(shape), np.zeros(shape)
    values[places] = group["requests"].to_numpy()
    counts[places] = group["_count"].to_numpy()
    _fill_totals(values, counts)
    hidden = hide(values, counts, least)
    inner = np.zeros(shape, bool)
    inner[tuple(slice(0, size - 1) for size in shape)] = True
    there, primary = values > 0, small(values, counts, least)
    told = np.argwhere(there & ~hidden & ~inner)
    columns = {
        axis: [None if at == len(member) else member[int(at)] for at in told[:, number]]
        for number, (axis, member) in enumerate(zip(axes, members, strict=True))
    }
    totals = pl.DataFrame(
        {
            **{key: [group[key][0]] * len(told) for key in keys},
            **columns,
            "requests": values[tuple(told.T)],
        },
        schema={name: group.schema[name] for name in (*keys, *axes, "requests")},
        strict=False,
    )
    numbers = (
        int((there & inner).sum()),
        int((primary & inner).sum()),
        int((there & ~inner).sum()),
        int((primary & ~inner).sum()),
        int((hidden & ~primary).sum()),
    )
    return group.filter(pl.Series(~hidden[places])), totals, numbers


def _fill_totals(values: NDArray[np.float64], counts: NDArray[np.float64]) -> None:
    """Add up requests along every axis; of subjects a total has at least those of its largest cell.

    Distinct subjects do not add up: one may be in all of its cells.
    """
    cells = tuple(slice(0, size - 1) for size in values.shape)
    for over in product((False, True), repeat=values.ndim):
        axes = tuple(axis for axis, total in enumerate(over) if total)
        if not axes:
            continue
        place = tuple(
            slice(size - 1, None) if total else slice(0, size - 1)
            for size, total in zip(values.shape, over, strict=True)
        )
        values[place] = values[cells].sum(axis=axes, keepdims=True)
        same = np.array_equal(values[cells], counts[cells])
        counts[place] = values[place] if same else counts[cells].max(axis=axes, keepdims=True)


def _without_thin_tails(cells: pl.DataFrame, least: float) -> pl.DataFrame:
    merged = [
        # A sampled request weighs more than 1.
        merge_thin_tails(buckets, weights, least * max(1.0, sum(weights) / requests))
        for buckets, weights, requests in cells.select("buckets", "weights", "requests").iter_rows()
    ]
    return cells.with_columns(
        pl.Series("buckets", [index.tolist() for index, _ in merged], cells.schema["buckets"]),
        pl.Series("weights", [weight.tolist() for _, weight in merged], cells.schema["weights"]),
    )
