"""Many series at once: minute histograms of whole services as flat arrays, one group a series and window.

The arrays are what :mod:`mobius_analysis.batch_estimates` computes with; 20,000 frames and matrices of
minutes times buckets, one by one, would take minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mobius_analysis.rollup import SERIES, Window

__all__ = ["GROUP", "Batch"]

GROUP: Final = (*SERIES, "window")
"""What makes one group: a series, and the number of the window."""

_LISTS: Final = ("minutes", "lengths", "row_weights", "row_failed", "buckets", "weights")


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of the rollup as flat arrays; several rows of one minute are added up by whoever computes.

    Attributes
    ----------
    groups
        A row a group: the columns of ``GROUP``, and over the group's minutes the sums ``requests``,
        ``errors``, ``weight_squared``, ``answered`` and ``squared`` as
        :func:`~mobius_analysis.rollup.load_rollup` has them by the minute.
    rows : (G + 1,)
        Where each group's rows begin, and where the last one's end.
    minutes : (R,)
        Minute of each row, since the epoch.
    row_weights, row_failed : (R,)
        Weight of each row's requests, and of the failed ones of them.
    entries : (R + 1,)
        Where each row's buckets of answered requests begin, and where the last one's end.
    buckets, weights : (E,)
        Index and weight of each bucket.
    """

    groups: pl.DataFrame
    rows: NDArray[np.int64]
    minutes: NDArray[np.int64]
    row_weights: NDArray[np.float64]
    row_failed: NDArray[np.float64]
    entries: NDArray[np.int64]
    buckets: NDArray[np.int32]
    weights: NDArray[np.float64]

    @classmethod
    def of_nested(cls, groups: pl.DataFrame) -> Batch:
        """Take apart a frame with a row a group and the lists that ``_LISTS`` names, ``lengths`` being the rows' numbers of buckets."""
        lengths = _flat(groups["lengths"])
        return cls(
            groups=groups.drop(_LISTS),
            rows=_starts(groups["lengths"].list.len().to_numpy()),
            minutes=_flat(groups["minutes"]).astype(np.int64),
            row_weights=_flat(groups["row_weights"]).astype(np.float64),
            row_failed=_flat(groups["row_failed"]).astype(np.float64),
            entries=_starts(lengths),
            buckets=_flat(groups["buckets"]).astype(np.int32),
            weights=_flat(groups["weights"]).astype(np.float64),
        )

    @classmethod
    def of_rollup(cls, frame: pl.DataFrame, windows: Sequence[Window]) -> Batch:
        """Take rows of ``load_rollup`` that lie in ``windows``, which do not overlap."""
        ordered = sorted(range(len(windows)), key=lambda i: windows[i].start)
        starts, ends = np.array([windows[i].minutes for i in ordered], np.int64).T
        minutes = frame["minute"].to_numpy().astype(np.int64)
        position = np.searchsorted(starts, minutes, side="right") - 1
        inside = (position >= 0) & (minutes < ends[position])
        rows = frame.with_columns(window=np.array(ordered, np.int64)[position]).filter(inside)
        counted = rows.with_columns(lengths=pl.col("buckets").list.len())
        nested = counted.group_by(GROUP, maintain_order=True).agg(
            pl.col("requests", "errors", "weight_squared", "answered", "squared").sum(),
            pl.col("minute").alias("minutes"),
            pl.col("lengths"),
            pl.col("weight").alias("row_weights"),
            pl.col("error_weight").alias("row_failed"),
            pl.col("buckets", "weights").explode(empty_as_null=False),
        )
        return cls.of_nested(nested)

    def parts(self, size: int) -> Iterator[Batch]:
        """Cut into batches of at most ``size`` groups, which share this one's memory."""
        for first in range(0, self.groups.height, size):
            rows = self.rows[first : first + size + 1]
            entries = self.entries[rows[0] : rows[-1] + 1]
            yield Batch(
                groups=self.groups[first : first + size],
                rows=rows - rows[0],
                minutes=self.minutes[rows[0] : rows[-1]],
                row_weights=self.row_weights[rows[0] : rows[-1]],
                row_failed=self.row_failed[rows[0] : rows[-1]],
                entries=entries - entries[0],
                buckets=self.buckets[entries[0] : entries[-1]],
                weights=self.weights[entries[0] : entries[-1]],
            )


def _starts(lengths: NDArray[np.generic]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _flat(lists: pl.Series) -> NDArray[np.generic]:
    return lists.explode(empty_as_null=False).to_numpy()
