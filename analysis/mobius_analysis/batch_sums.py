"""Sums of all groups of a batch at once: their histograms, their minutes, and Woodruff's z minute by minute.

Everything that grows with traffic is done here. A batch's entries are a sparse matrix as they come, a row of the rollup
being its row, so that each sum is one pass over them in compiled code, and no list of places is made for it.
Shapes: G groups, K buckets, R rows, E entries (a row's buckets), C minutes with an answer, all groups one after the
other, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mobius_analysis.batch import Batch
from mobius_analysis.error_rates import Failures
from mobius_analysis.histogram import LEVEL_ROUNDING, midpoint

__all__ = ["BatchSums"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# What corrections leave of requests that they took away is rounding; one of matched minutes may weigh little.
_NOTHING: Final = 1e-6


class BatchSums:
    """Histograms and minutes of the groups of a batch, which should be small: there is a table of G times K.

    Attributes
    ----------
    histogram, cumulative : (G, K)
        Weight of each bucket, and the running sum, as :class:`~mobius_analysis.clusters.Clusters` has them.
    minutes : (C,)
        Minutes since the epoch that had answered requests, ascending within each group.
    begins : (G + 1,)
        Where each group's minutes begin, and where the last one's end.
    group : (C,)
        Which group each of these minutes belongs to.
    sizes : (C,)
        Weight of the answered requests of each of these minutes.
    T : (G,)
        How many of these minutes each group has.
    requests, squared : (G,)
        Answered requests that were measured, and the sum of their squared weights.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.lowest, self.width = _range(batch.buckets)
        self.size = batch.groups.height
        self.requests: Ints = batch.groups["answered"].to_numpy().astype(np.int64)
        self.squared: Floats = batch.groups["squared"].to_numpy().astype(np.float64)
        row_group = np.repeat(np.arange(self.size), np.diff(batch.rows))
        self._entries = self._table_of_rows(row_group)
        self._join_minutes(row_group)
        flat = _times(self._entries.T, np.ones(len(row_group)))
        self.histogram: Floats = np.where(flat > _NOTHING, flat, 0.0).reshape(self.size, -1)
        self.cumulative: Floats = np.cumsum(self.histogram, axis=1)

    def _table_of_rows(self, row_group: Ints) -> csr_array:
        """Weight by row of the rollup and by place in the table of groups and buckets, shape (R, G K)."""
        first = (row_group * self.width - self.lowest).astype(np.int32)
        place = np.repeat(first, np.diff(self._batch.entries)) + self._batch.buckets
        return csr_array(
            (self._batch.weights, place, self._batch.entries.astype(np.int32)),
            shape=(len(row_group), self.size * self.width),
        )

    def _join_minutes(self, row_group: Ints) -> None:
        """Find each group's minutes, which rows belong to each, and which have an answer."""
        first, span = _range(self._batch.minutes)
        found, row_minute = _distinct(row_group * span + (self._batch.minutes - first))
        rows = len(row_minute)
        by_row = (np.ones(rows), row_minute, np.arange(rows + 1))
        self._to_minutes = csr_array(by_row, shape=(rows, len(found))).T
        group, minute = np.divmod(found, span)
        bounds = np.arange(self.size + 1)
        sizes = self._by_minute(np.ones(self.size * self.width))
        self._answered = sizes > _NOTHING
        self.sizes: Floats = sizes[self._answered]
        self.minutes: Ints = minute[self._answered] + first
        self.group: Ints = group[self._answered]
        self.begins: Ints = np.searchsorted(self.group, bounds)
        self.T: Ints = np.diff(self.begins)
        weights = _times(self._to_minutes, self._batch.row_weights)
        there = weights > _NOTHING
        failed = _times(self._to_minutes, self._batch.row_failed)
        self._loads = weights[there], failed[there]
        self._load_begins = np.searchsorted(group[there], bounds)

    def _by_minute(self, table: Floats) -> Floats:
        """Sum what is in the minutes of each group, each entry times ``table``'s value for its place."""
        return _times(self._to_minutes, _times(self._entries, table))

    def failures(self) -> list[Failures]:
        """Return each group's requests and failures by minute."""
        sums = self._batch.groups.select("requests", "errors", "weight_squared")
        ends = zip(self._load_begins[:-1], self._load_begins[1:], strict=True)
        weights, failed = self._loads
        return [
            Failures(weights[first:end], failed[first:end], requests, errors, squared)
            for (first, end), (requests, errors, squared) in zip(
                ends, sums.iter_rows(), strict=True
            )
        ]

    @cached_property
    def weight(self) -> Floats:
        """What the answered requests of each group stand for, shape (G,)."""
        weight: Floats = self.cumulative[:, -1]
        return weight

    @cached_property
    def unit(self) -> Flags:
        """Whether every request stands for itself alone, shape (G,)."""
        near = np.abs(self.squared - self.weight) <= 1e-6 * np.maximum(self.weight, 1)
        unit: Flags = near & (np.rint(self.weight) == self.requests)
        return unit

    @cached_property
    def effective(self) -> Floats:
        """Kish's effective number of requests, shape (G,)."""
        kish = np.divide(
            self.weight**2, self.squared, out=np.zeros(self.size), where=self.squared > 0
        )
        effective: Floats = np.minimum(self.requests, np.round(kish, 6))
        return np.where(self.unit, self.requests, effective).astype(np.float64)

    @cached_property
    def seconds(self) -> Floats:
        """Time that all answered requests of each group took together, shape (G,)."""
        seconds: Floats = self.histogram @ self._midpoints
        return seconds

    @cached_property
    def _midpoints(self) -> Floats:
        return midpoint(np.arange(self.lowest, self.lowest + self.width))

    @cached_property
    def _occupied(self) -> tuple[Ints, Ints]:
        """First and last bucket of each group that holds anything."""
        there = self.histogram > 0
        return there.argmax(axis=1), self.width - 1 - there[:, ::-1].argmax(axis=1)

    def _nth(self, count: Ints) -> Ints:
        """Position of the bucket before which there are ``count`` others of the table."""
        first, last = self._occupied
        return np.clip(count, first, last)

    def _count_below(self, target: Floats) -> Ints:
        """How many of each group's running sums are less than its target, shape (G,)."""
        groups = np.arange(self.size)
        low, high = np.zeros(self.size, np.int64), np.full(self.size, self.width)
        for _ in range(self.width.bit_length()):
            middle = np.minimum((low + high) // 2, self.width - 1)
            less = (self.cumulative[groups, middle] < target) & (low < high)
            low, high = (
                np.where(less, middle + 1, low),
                np.where(less, high, np.minimum(high, middle)),
            )
        return low

    def _level_index(self, level: Floats | float) -> Ints:
        return self._nth(self._count_below(self.weight * (level - LEVEL_ROUNDING)))

    def at_level(self, level: Floats | float) -> Floats:
        """Mid point in seconds of the bucket at which each group's weighted ECDF reaches ``level``, shape (G,)."""
        return self._midpoints[self._level_index(level)]

    def quantile(self, q: float) -> Floats:
        """Quantile ``q`` of each group in seconds, shape (G,)."""
        position = (np.rint(self.weight) - 1) * q
        below = np.floor(position)
        first, second = (
            # The bucket in which the sums first exceed the rank, half a request of rounding left out.
            self._midpoints[self._nth(self._count_below(np.nextafter(rank + 0.5, np.inf)))]
            for rank in (below, below + 1)
        )
        between: Floats = first + (position - below) * (second - first)
        return np.where(self.unit, between, self.at_level(q))

    def deviations(self, quantiles: Sequence[float]) -> Floats:
        """Woodruff's z of each minute and quantile, shape (C, Q)."""
        groups = np.arange(self.size)
        parts = np.empty((self.size, self.width, len(quantiles)))
        for i, q in enumerate(quantiles):
            k = self._level_index(q)
            inside = self.histogram[groups, k]
            below = self.cumulative[groups, k] - inside
            parts[:, :, i] = np.arange(self.width) < k[:, None]
            parts[groups, k, i] = np.divide(
                q * self.weight - below, inside, out=np.zeros(self.size), where=inside > 0
            )
        deviations = self._by_minute(parts.reshape(-1, len(quantiles)))
        if not self._answered.all():
            deviations = np.compress(self._answered, deviations, axis=0)
        deviations -= np.multiply.outer(self.sizes, np.asarray(quantiles))
        return deviations


def _range(values: NDArray[np.integer[Any]]) -> tuple[int, int]:
    """Least of the values, and how many there are from it to the greatest."""
    return (int(values.min()), int(np.ptp(values)) + 1) if len(values) else (0, 1)


def _times(matrix: Any, values: Floats) -> Floats:
    """The product, of which scipy's types say only that it may be anything."""
    return np.asarray(matrix @ values, np.float64)


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """Distinct values, ascending, and the place of each value among them."""
    steps = np.diff(values)
    if (
        steps >= 0
    ).all():  # as rows of the rollup mostly come: sorting them would be most of the work
        new = np.concatenate([[True], steps > 0])[: len(values)]
        return values[new], np.cumsum(new) - 1
    found, place = np.unique(values, return_inverse=True)
    return found, place
