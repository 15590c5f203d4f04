"""Sums of all groups of a batch at once: their histograms, their minutes, and Woodruff's z minute by minute.

Everything that grows with traffic is done here, in a few passes over flat arrays. Shapes: G groups, K buckets,
R rows, E entries (a row's buckets), C minutes with an answer, all groups one after the other.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

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
        self._row = np.repeat(np.arange(len(row_group)), np.diff(batch.entries))
        self._place = row_group[self._row] * self.width + (batch.buckets - self.lowest)
        self._join_minutes(row_group)
        flat = np.bincount(self._place, batch.weights, minlength=self.size * self.width)
        self.histogram: Floats = np.where(flat > _NOTHING, flat, 0.0).reshape(self.size, -1)
        self.cumulative: Floats = np.cumsum(self.histogram, axis=1)

    def _join_minutes(self, row_group: Ints) -> None:
        """Find each group's minutes, which rows belong to each, and which have an answer."""
        first, span = _range(self._batch.minutes)
        found, self._row_minute = np.unique(
            row_group * span + (self._batch.minutes - first), return_inverse=True
        )
        self._found = len(found)
        group, minute = np.divmod(found, span)
        bounds = np.arange(self.size + 1)
        sizes = self._by_minute(self._batch.weights)
        self._answered = sizes > _NOTHING
        self.sizes: Floats = sizes[self._answered]
        self.minutes: Ints = minute[self._answered] + first
        self.group: Ints = group[self._answered]
        self.begins: Ints = np.searchsorted(self.group, bounds)
        self.T: Ints = np.diff(self.begins)
        weights = self._add(self._batch.row_weights)
        there = weights > _NOTHING
        self._loads = weights[there], self._add(self._batch.row_failed)[there]
        self._load_begins = np.searchsorted(group[there], bounds)

    def _by_minute(self, values: Floats) -> Floats:
        """Sum what the entries hold over the minutes of each group."""
        rows = np.bincount(self._row, values, minlength=len(self._row_minute))
        return self._add(rows.astype(np.float64, copy=False))

    def _add(self, values: Floats) -> Floats:
        """Sum what the rows hold over the minutes of each group."""
        sums = np.bincount(self._row_minute, values, minlength=self._found)
        return sums.astype(np.float64, copy=False)

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

    def _level_index(self, level: Floats | float) -> Ints:
        target = self.weight * (level - LEVEL_ROUNDING)
        return self._nth((self.cumulative < target[:, None]).sum(axis=1))

    def at_level(self, level: Floats | float) -> Floats:
        """Mid point in seconds of the bucket at which each group's weighted ECDF reaches ``level``, shape (G,)."""
        return self._midpoints[self._level_index(level)]

    def quantile(self, q: float) -> Floats:
        """Quantile ``q`` of each group in seconds, shape (G,)."""
        position = (np.rint(self.weight) - 1) * q
        below = np.floor(position)
        first, second = (
            self._midpoints[self._nth((self.cumulative - 0.5 <= rank[:, None]).sum(axis=1))]
            for rank in (below, below + 1)
        )
        between: Floats = first + (position - below) * (second - first)
        return np.where(self.unit, between, self.at_level(q))

    def deviations(self, q: float) -> Floats:
        """Woodruff's z of each minute, shape (C,)."""
        k = self._level_index(q)
        groups = np.arange(self.size)
        inside = self.histogram[groups, k]
        below = self.cumulative[groups, k] - inside
        part = (np.arange(self.width) < k[:, None]).astype(np.float64)
        part[groups, k] = np.divide(
            q * self.weight - below, inside, out=np.zeros(self.size), where=inside > 0
        )
        counted = self._by_minute(self._batch.weights * part.ravel()[self._place])
        return counted[self._answered] - q * self.sizes


def _range(values: Ints) -> tuple[int, int]:
    """Least of the values, and how many there are from it to the greatest."""
    return (int(values.min()), int(np.ptp(values)) + 1) if len(values) else (0, 1)
