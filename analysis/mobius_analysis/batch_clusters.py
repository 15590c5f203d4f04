"""Sums of all groups of a batch at once: the histograms, and Woodruff's z minute by minute.

Everything that grows with traffic is done here in a few passes over flat arrays; what is left for each
group (:func:`mobius_analysis.intervals.estimate`) grows with its minutes only. Shapes: G groups, K buckets,
R rows, E entries, C minutes of groups that have an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.batch import Batch
from mobius_analysis.clusters import Pooled
from mobius_analysis.error_rates import Failures
from mobius_analysis.histogram import LEVEL_ROUNDING

__all__ = ["NOBODY", "Group", "PooledGroup", "pool_groups"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_MOST_CELLS: Final = 4_000_000  # of a table of groups times buckets: 32 MB
# What corrections leave of requests that they took away is rounding; one of matched minutes may weigh little.
_NOTHING: Final = 1e-6


@dataclass(frozen=True, eq=False)
class PooledGroup(Pooled):
    """The answered requests of a group, at least one; knows z of those quantiles only that were asked for."""

    minutes: _Ints
    buckets: _Ints
    weights: _Floats
    z: Mapping[float, _Floats]
    requests: int
    squared: float

    @property
    def totals(self) -> _Floats:  # noqa: D102 - the base class says it
        return self.weights

    def deviations(self, q: float) -> _Floats:  # noqa: D102 - the base class says it
        return self.z[q]


@dataclass(frozen=True, slots=True)
class Group:
    """All requests of a group and which of them failed; ``pooled`` is None where none was answered."""

    failures: Failures
    pooled: Pooled | None


NOBODY: Final = Group(Failures(np.empty(0), np.empty(0), requests=0, errors=0, squared=0.0), None)
"""The group of which there is no row."""


def pool_groups(batch: Batch, quantiles: Sequence[float]) -> list[Group]:
    """Sum up each group of ``batch``, in its order."""
    width = int(np.ptp(batch.buckets)) + 1 if len(batch.buckets) else 1
    return [
        group
        for part in batch.parts(max(1, _MOST_CELLS // width))
        for group in _Table(part).groups(quantiles)
    ]


class _Table:
    """A small batch with a table of G times K: what each group holds in each bucket."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.lowest = int(batch.buckets.min()) if len(batch.buckets) else 0
        self.width = int(np.ptp(batch.buckets)) + 1 if len(batch.buckets) else 1
        self.size = batch.groups.height
        row_group = np.repeat(np.arange(self.size), np.diff(batch.rows))
        self._row = np.repeat(np.arange(len(row_group)), np.diff(batch.entries))
        self._place = row_group[self._row] * self.width + (batch.buckets - self.lowest)
        self._join_minutes(row_group)
        flat = np.bincount(self._place, batch.weights, minlength=self.size * self.width)
        self.histogram: _Floats = np.where(flat > _NOTHING, flat, 0.0).reshape(self.size, -1)
        self.cumulative: _Floats = np.cumsum(self.histogram, axis=1)

    def _join_minutes(self, row_group: _Ints) -> None:
        """Find each group's minutes, which rows belong to each, and which have an answer."""
        first = int(self.batch.minutes.min()) if len(row_group) else 0
        span = int(np.ptp(self.batch.minutes)) + 1 if len(row_group) else 1
        found, self._row_minute = np.unique(
            row_group * span + (self.batch.minutes - first), return_inverse=True
        )
        self._found = len(found)
        group, minute = np.divmod(found, span)
        bounds = np.arange(self.size + 1)
        sizes = self._by_minute(self.batch.weights)
        self._answered = sizes > _NOTHING
        self._sizes = sizes[self._answered]
        self.minutes: _Ints = minute[self._answered] + first
        self.begins: _Ints = np.searchsorted(group[self._answered], bounds)
        weights = self._add(self.batch.row_weights)
        there = weights > _NOTHING
        self.loads = weights[there], self._add(self.batch.row_failed)[there]
        self.load_begins: _Ints = np.searchsorted(group[there], bounds)

    def _by_minute(self, values: _Floats) -> _Floats:
        """Sum what the entries hold over the minutes of each group."""
        rows = np.bincount(self._row, values, minlength=len(self._row_minute))
        return self._add(rows.astype(np.float64, copy=False))

    def _add(self, values: _Floats) -> _Floats:
        """Sum what the rows hold over the minutes of each group."""
        sums = np.bincount(self._row_minute, values, minlength=self._found)
        return sums.astype(np.float64, copy=False)

    def deviations(self, q: float) -> _Floats:
        """Woodruff's z of every minute of every group, shape (C,)."""
        weight = self.cumulative[:, -1]
        # As in Clusters.deviations: k is the bucket that holds Q.
        target = weight * (q - LEVEL_ROUNDING)
        k = np.minimum((self.cumulative < target[:, None]).sum(axis=1), self.width - 1)
        groups = np.arange(self.size)
        inside = self.histogram[groups, k]
        below = self.cumulative[groups, k] - inside
        part = (np.arange(self.width) < k[:, None]).astype(np.float64)
        part[groups, k] = np.divide(
            q * weight - below, inside, out=np.zeros(self.size), where=inside > 0
        )
        counted = self._by_minute(self.batch.weights * part.ravel()[self._place])
        return counted[self._answered] - q * self._sizes

    def groups(self, quantiles: Sequence[float]) -> Iterator[Group]:
        z = {q: self.deviations(q) for q in quantiles}
        for g, sums in enumerate(self.batch.groups.iter_rows(named=True)):
            yield Group(self._failures(g, sums), self._pooled(g, sums, z))

    def _failures(self, g: int, sums: Mapping[str, Any]) -> Failures:
        first, end = self.load_begins[g : g + 2]
        weights, failed = self.loads
        return Failures(
            weights[first:end],
            failed[first:end],
            requests=sums["requests"],
            errors=sums["errors"],
            squared=sums["weight_squared"],
        )

    def _pooled(
        self, g: int, sums: Mapping[str, Any], z: Mapping[float, _Floats]
    ) -> PooledGroup | None:
        first, end = self.begins[g : g + 2]
        there = np.flatnonzero(self.histogram[g])
        if first == end or not len(there):
            return None
        return PooledGroup(
            minutes=self.minutes[first:end],
            buckets=there + self.lowest,
            weights=self.histogram[g, there],
            z={q: values[first:end] for q, values in z.items()},
            requests=sums["answered"],
            squared=sums["squared"],
        )
