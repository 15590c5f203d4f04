"""The intervals of all groups of a batch at once.

Numbers and steps are those of :func:`mobius_analysis.intervals.estimate` and
:func:`mobius_analysis.ratio.shared_correlation`, in arrays instead of one after the other; a test holds both
to be equal. Shapes: G groups, C minutes with an answer, all groups one after the other, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from mobius_analysis.batch import Batch
from mobius_analysis.batch_sums import BatchSums
from mobius_analysis.clusters import (
    drift_bound,
    ewc_count,
    ewc_terms,
    strongest_correlation,
)
from mobius_analysis.error_rates import Failures
from mobius_analysis.histogram import HALF_BUCKET
from mobius_analysis.intervals import (
    CONFIDENCE,
    EQUIVALENCE_CONFIDENCE,
    FEW_IN_TAIL,
    FEW_MINUTES,
    LEAST_MINUTES,
    SHORT_MINUTES,
    Bounds,
    Estimate,
    least_requests,
    order_statistic_levels,
)
from mobius_analysis.many_series import ManySeries
from mobius_analysis.ratio import FEW_COMMON_MINUTES, ONE_SIDED

__all__ = ["NOBODY", "Answered", "Group", "estimate_groups", "shared_correlations"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_MOST_CELLS: Final = 4_000_000  # of a table of groups times buckets: 32 MB
_NONE: Final = np.empty(0)


@dataclass(frozen=True, eq=False, slots=True)
class Answered:
    """The answered requests of one group, of which there is at least one.

    Attributes
    ----------
    minutes : (T,)
        Minutes since the epoch that had some, ascending.
    requests
        Requests that were measured.
    seconds
        Time that all of them took together.
    unit
        Whether every request stands for itself alone.
    estimates
        By quantile; their ``z`` are empty, since a large zone has a gigabyte of them.
    z : (T, Q)
        Woodruff's z of each minute and quantile, for the correlation with another side.
    """

    minutes: Ints
    requests: int
    seconds: float
    unit: bool
    estimates: Mapping[float, Estimate]
    z: Floats = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True)
class Group:
    """All requests of a group and which of them failed; ``answered`` is None where none was answered."""

    failures: Failures
    answered: Answered | None


NOBODY: Final = Group(Failures(_NONE, _NONE, requests=0, errors=0, squared=0.0), None)
"""The group of which there is no row."""


def estimate_groups(batch: Batch, quantiles: Sequence[float]) -> list[Group]:
    """Estimate ``quantiles`` of each group of ``batch``, in its order."""
    width = int(np.ptp(batch.buckets)) + 1 if len(batch.buckets) else 1
    return [
        group
        for part in batch.parts(max(1, _MOST_CELLS // width))
        for group in _groups(BatchSums(part), quantiles)
    ]


def _groups(sums: BatchSums, quantiles: Sequence[float]) -> list[Group]:
    z = sums.deviations(quantiles)
    series = ManySeries(z, sums.begins)
    columns = [
        _Column(sums, q, variances, drift)
        for q, variances, drift in zip(
            quantiles, _variances(series), _drifts(series, quantiles, sums.squared), strict=True
        )
    ]
    found: list[Group] = []
    for g, failures in enumerate(sums.failures()):
        first, end = sums.begins[g : g + 2]
        if first == end:
            found.append(Group(failures, None))
            continue
        answered = Answered(
            sums.minutes[first:end],
            int(sums.requests[g]),
            float(sums.seconds[g]),
            bool(sums.unit[g]),
            {q: column.estimate(g) for q, column in zip(quantiles, columns, strict=True)},
            z[first:end],
        )
        found.append(Group(failures, answered))
    return found


def _variances(series: ManySeries) -> list[tuple[Floats, Floats]]:
    """Return rho and the long-run variance of every group, for each quantile; NaN where minutes are too few."""
    strongest = _of_minutes(strongest_correlation, series.lengths)
    rho = np.clip(series.lag_one(), 0.0, strongest[:, None])
    variances = series.long_run_variances(rho, LEAST_MINUTES)
    return list(zip(rho.T, variances.T, strict=True))


def _drifts(series: ManySeries, quantiles: Sequence[float], squared: Floats) -> list[list[bool]]:
    """Tell of every group whether its minutes drift, for each quantile."""
    shares = np.asarray(quantiles)
    noise = squared[:, None] * (shares * (1 - shares))
    bound = _of_minutes(drift_bound, series.lengths)
    drifts = (series.lengths >= FEW_MINUTES)[:, None] & (series.lag_one(noise) > bound[:, None])
    found: list[list[bool]] = drifts.T.tolist()
    return found


def _of_minutes(function: Callable[[int], float], T: Ints) -> Floats:
    """Apply a function of a number of minutes to all groups."""
    different, place = np.unique(np.maximum(T, 1), return_inverse=True)
    found: Floats = np.array([function(int(t)) for t in different], float)[place]
    return found


class _Column:
    """One quantile of all groups of a table."""

    def __init__(
        self, sums: BatchSums, q: float, variances: tuple[Floats, Floats], drift: list[bool]
    ) -> None:
        rho, variance = variances
        outer = _levels(sums, q, CONFIDENCE, variance)
        inner = _levels(sums, q, EQUIVALENCE_CONFIDENCE, variance)
        # As in `estimate`: of few requests the narrower confidence may reach farther.
        both = ~np.isnan(outer[0]) & ~np.isnan(inner[0])
        outer = (
            np.where(both, np.minimum(outer[0], inner[0]), outer[0]),
            np.where(both, np.maximum(outer[1], inner[1]), outer[1]),
        )
        value = sums.quantile(q)
        self._value = value.tolist()
        self._outer, self._inner = (_bounds(sums, value, levels) for levels in (outer, inner))
        self._rho, self._variance = rho.tolist(), _optional(variance)
        missing = np.where(np.isnan(outer[0]), _missing(sums, q, variance), 0)
        self._missing = missing.astype(np.int64).tolist()
        self._drift = drift
        self._freedom = _of_minutes(ewc_count, np.maximum(sums.T, 2)).tolist()
        self._short = ((sums.T >= LEAST_MINUTES) & (sums.T < SHORT_MINUTES)).tolist()

    def estimate(self, g: int) -> Estimate:
        """Return the estimate of group ``g``, without its z."""
        value, variance = self._value[g], self._variance[g]
        return Estimate(
            bounds=Bounds(value, *self._outer[g]),
            inner=Bounds(value, *self._inner[g]),
            z=_NONE,
            variance=variance,
            drift=self._drift[g],
            missing=self._missing[g],
            independent=variance is None,
            short=self._short[g],
            rho=self._rho[g],
            freedom=inf if variance is None else self._freedom[g],
        )


def _levels(
    sums: BatchSums, q: float, confidence: float, variance: Floats
) -> tuple[Floats, Floats]:
    """ECDF levels of the interval's bounds, NaN where there is none: ``intervals._levels`` for all groups."""
    n = sums.effective.astype(np.int64)
    clustered = ~np.isnan(variance) & (n >= least_requests(q, confidence))
    # 2.
    t = stdtrit(_of_minutes(ewc_count, np.maximum(sums.T, 2)), (1 + confidence) / 2)
    margin = t * np.sqrt(variance) / np.where(sums.weight > 0, sums.weight, 1.0)
    low, high = q - margin, q + margin
    # 3.
    normal = float(ndtri((1 + confidence) / 2))
    whole = np.divide(normal, margin, out=np.zeros(sums.size), where=margin > 0) ** 2
    n_effective = np.where(
        margin > 0, np.minimum(sums.requests, q * (1 - q) * whole), sums.effective
    ).astype(np.int64)
    few = (sums.T < FEW_MINUTES) | (n_effective * min(q, 1 - q) < FEW_IN_TAIL)
    alone, wider = ~clustered, clustered & few
    exact = _exact(np.where(alone, n, n_effective), alone | wider, q, confidence)
    inside = (low > 0) & (high <= 1)
    return (
        np.select(
            [alone, wider, inside],
            [exact[0], np.maximum(0.0, np.minimum(low, exact[0])), low],
            np.nan,
        ),
        np.select(
            [alone, wider, inside],
            [exact[1], np.minimum(1.0, np.maximum(high, exact[1])), high],
            np.nan,
        ),
    )


def _exact(n: Ints, wanted: Flags, q: float, confidence: float) -> tuple[Floats, Floats]:
    """Order-statistic levels of the groups that are ``wanted``; NaN for the others, and below the least n."""
    levels = np.full((2, len(n)), np.nan)
    different, place = np.unique(n[wanted], return_inverse=True)
    found = [order_statistic_levels(int(one), q, confidence) for one in different]
    table = np.array([(np.nan, np.nan) if one is None else one for one in found], float)
    levels[:, wanted] = table.reshape(-1, 2)[place].T
    return levels[0], levels[1]


def _missing(sums: BatchSums, q: float, variance: Floats) -> Floats:
    """Requests still missing for an interval: ``intervals._missing`` for all groups."""
    real, least = sums.effective, least_requests(q)
    tells = (variance > 0) & (real >= least)
    share = np.divide(
        q * (1 - q) * sums.weight**2, variance * real, out=np.ones(sums.size), where=tells
    )
    yielded = np.minimum(1.0, share)
    missing: Floats = np.maximum(1.0, np.ceil((least - yielded * real) / yielded))
    return missing


def _bounds(
    sums: BatchSums, value: Floats, levels: tuple[Floats, Floats]
) -> list[tuple[float | None, float | None]]:
    low, high = (np.where(np.isnan(x), np.nan, sums.at_level(x)) for x in levels)
    # 4.
    lows = _optional(np.minimum(low, value) / HALF_BUCKET)
    return list(zip(lows, _optional(np.maximum(high, value) * HALF_BUCKET), strict=True))


def _optional(values: Floats) -> list[float | None]:
    return [None if np.isnan(x) else x for x in values.tolist()]


def shared_correlations(
    pairs: Sequence[tuple[Answered, Answered]], quantiles: Sequence[float]
) -> list[float]:
    """Correlation of both sides' sampling errors, of each pair for each quantile, one pair after the other."""
    if not pairs:
        return []
    Q = len(quantiles)
    found = np.zeros((len(pairs), Q))
    common = [_common_z(y, x) for y, x in pairs]
    lengths = [len(both) for both in common]
    series = ManySeries(np.concatenate(common), np.cumsum([0, *lengths], dtype=np.int64))
    sides = [[[side.estimates[q] for q in quantiles] for side in pair] for pair in pairs]
    rho = np.array([[e.rho for side in pair for e in side] for pair in sides], float)
    whole = np.array(
        [[e.variance or 0.0 for side in pair for e in side] for pair in sides], float
    ).reshape(-1, 2, Q)
    variances = series.long_run_variances(rho.reshape(-1, 2 * Q), FEW_COMMON_MINUTES)
    shared = variances.reshape(-1, 2, Q).prod(axis=1)
    for places, both in series.alike(FEW_COMMON_MINUTES):
        a, b = np.split(ewc_terms(both), 2, axis=2)
        size = np.sqrt(np.sum(a * a, axis=0) * np.sum(b * b, axis=0))
        own = whole[places].prod(axis=1)
        known = (size > 0) & (own > 0)
        size, own = np.where(known, size, 1.0), np.where(known, own, 1.0)
        r = np.clip(np.sum(a * b, axis=0) / size, -0.999, 0.999)
        drawn = np.maximum(0.0, np.abs(np.arctanh(r)) - ONE_SIDED / np.sqrt(len(a) - 2))
        share = np.minimum(1.0, np.sqrt(shared[places] / own))
        found[places] = np.where(known, np.copysign(np.tanh(drawn), r) * share, 0.0)
    correlations: list[float] = found.ravel().tolist()
    return correlations


def _common_z(y: Answered, x: Answered) -> Floats:
    """Both sides' z in the minutes that both have, shape (T, 2 Q); no minute where they are too few."""
    place = np.searchsorted(y.minutes, x.minutes)
    place[place == len(y.minutes)] = 0
    in_x = y.minutes[place] == x.minutes
    if np.count_nonzero(in_x) < FEW_COMMON_MINUTES:
        return np.empty((0, 2 * y.z.shape[1]))
    return np.hstack([y.z[place[in_x]], x.z[in_x]])
