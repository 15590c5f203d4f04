"""How much slower production is than a test, learned from past pairs of both: partial pooling on the log ratio.

The log ratio of one quantile, production over test, of cell c (an endpoint in a region), release r and run i is

    d = m + cell(c) + release(c, r) + run(c, r, i) + error of measurement

with variances between cells, between releases and between runs of one release, all estimated by restricted
maximum likelihood over all cells together (random effects; DerSimonian and Laird 1986 is the simplest form),
and errors whose size is known: the intervals of both quantiles. Neighbouring releases may be alike (``memory``),
which follows a ratio that drifts. A cell with little history of its own is drawn towards the others; a cell that
varies more than they do gets wider intervals (moderated variances, Smyth 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import f as f_distribution

__all__ = ["Calibration", "Forecast", "Observation", "Spread", "Subject", "calibrate"]

Array = NDArray[np.float64]
Subject = tuple[str, str, str, str]
"""Region, service, method and route."""

_MEMORY: Final = (0.0, 0.6, 0.9)
_MOST_CELLS: Final = 100  # that the variances are estimated from; more would only take longer
_MOST_RUNS: Final = 60  # of a cell, the latest
_FEW_CELLS: Final = 3
_PRIOR_FREEDOM: Final = (2.0, 4.0, 8.0, 16.0, 32.0, 1e3)
_LEAST_FOR_MEMORY: Final = 5
_CLEARLY: Final = 1.92  # gain in log likelihood that one parameter more must bring (5 %)
_GUESS: Final = 0.05  # deviation, in logs, from which the search begins
_BETWEEN_CELLS: Final = 0.2  # deviation taken where there are too few cells to tell
_PENALTY_RATE: Final = 10.0  # of a gamma density with shape 2: deviations of 0.1 are likeliest
_FLOOR: Final = 1e-4
_WIDE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One pair's log ratio of one quantile, with the variance of its measurement.

    ``order`` numbers the releases of all cells in time; equal numbers are one release.
    """

    cell: Subject
    order: int
    value: float
    variance: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Deviations in logs (about: shares) between cells, releases of a cell, runs of a release, and the memory."""

    cells: float
    releases: float
    runs: float
    memory: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Log ratio to expect: ``value``, its variance without errors of measurement, and degrees of freedom.

    ``settled`` is the variance that any amount of history would leave: how much releases and runs differ.
    ``own`` counts the pairs of the cell itself.
    """

    value: float
    variance: float
    settled: float
    freedom: float
    own: int


@dataclass(frozen=True, eq=False)
class _Block:
    """Cells side by side, padded to one length: shapes (C, n)."""

    value: Array
    variance: Array
    order: Array
    mask: Array

    @classmethod
    def of(cls, cells: Sequence[Sequence[Observation]]) -> _Block:
        shape = (len(cells), max((len(cell) for cell in cells), default=0))
        made = cls(*(np.zeros(shape) for _ in range(4)))
        for row, cell in enumerate(cells):
            for column, seen in enumerate(cell):
                made.value[row, column] = seen.value
                made.variance[row, column] = seen.variance
                made.order[row, column] = seen.order
                made.mask[row, column] = 1.0
        return made

    @cached_property
    def pairs(self) -> Array:
        """Which positions of a cell's matrix are real, shape (C, n, n)."""
        return self.mask[:, :, None] * self.mask[:, None, :]

    @cached_property
    def apart(self) -> Array:
        """Releases between two pairs of a cell, shape (C, n, n)."""
        return np.abs(self.order[:, :, None] - self.order[:, None, :])

    def covariance(self, spread: Spread) -> Array:
        """Covariance of a cell's log ratios; padding has variance 1 and touches nothing."""
        alike = _alike(self.apart, spread.memory)
        shared = (spread.cells**2 + spread.releases**2 * alike) * self.pairs
        own = np.where(self.mask > 0, spread.runs**2 + self.variance, 1.0)
        made: Array = shared + own[:, :, None] * np.eye(self.mask.shape[1])
        return made


def _alike(apart: Array, memory: float) -> Array:
    made: Array = (apart == 0).astype(float) if memory == 0 else memory**apart
    return made


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the history says of one quantile; made by :func:`calibrate`."""

    spread: Spread
    mean: float
    mean_variance: float
    freedom: float
    prior_freedom: float
    cells: dict[Subject, tuple[Observation, ...]]

    def cell_mean(self, cell: Subject) -> float:
        """Log ratio of a cell whatever its release: its own history, drawn towards the other cells."""
        seen = self.cells.get(cell, ())
        if not seen:
            return self.mean
        solved = np.linalg.solve(self._matrix(seen), self._values(seen) - self.mean)
        return float(self.mean + self.spread.cells**2 * solved.sum())

    def forecast(self, cell: Subject, order: float) -> Forecast:
        """Predict the log ratio of a run of release number ``order`` (kriging with a known covariance)."""
        s = self.spread
        settled = s.releases**2 + s.runs**2
        seen = self.cells.get(cell, ())
        if not seen:
            variance = s.cells**2 + settled + self.mean_variance
            return Forecast(self.mean, variance, settled, self.freedom, 0)
        apart = np.abs(np.array([one.order for one in seen], float) - order)
        towards = s.cells**2 + s.releases**2 * _alike(apart, s.memory)
        solved = np.linalg.solve(self._matrix(seen), np.stack([towards, np.ones(len(seen))], 1))
        weights, ones = solved.T
        value = self.mean + float(weights @ (self._values(seen) - self.mean))
        variance = s.cells**2 + settled - float(towards @ weights)
        variance += (1 - float(towards @ ones)) ** 2 * self.mean_variance
        factor, freedom = self._moderation(cell)
        return Forecast(
            value, factor * max(variance, _FLOOR**2), factor * settled, freedom, len(seen)
        )

    def left_out(self, cell: Subject, *, whole_release: bool) -> tuple[Forecast, ...]:
        """Predict each of a cell's pairs from all others, or from those of other releases (Dubrule 1983).

        The variances stay those of the whole history.
        """
        seen = self.cells.get(cell, ())
        factor, freedom = self._moderation(cell)
        settled = factor * (self.spread.releases**2 + self.spread.runs**2)
        precision = np.linalg.inv(self._matrix(seen))
        right = np.stack([self._values(seen) - self.mean, np.ones(len(seen))], 1)
        solved = precision @ right
        made = []
        for i, one in enumerate(seen):
            out = [
                k
                for k, other in enumerate(seen)
                if k == i or (whole_release and other.order == one.order)
            ]
            block = np.linalg.inv(precision[np.ix_(out, out)])
            at = out.index(i)
            error, unexplained = map(float, block[at] @ solved[out])
            variance = float(block[at, at]) - one.variance + unexplained**2 * self.mean_variance
            variance = max(variance, _FLOOR**2)
            made.append(
                Forecast(
                    one.value - error, factor * variance, settled, freedom, len(seen) - len(out)
                )
            )
        return tuple(made)

    def _matrix(self, seen: Sequence[Observation]) -> Array:
        made: Array = _Block.of([seen]).covariance(self.spread)[0]
        return made

    def _values(self, seen: Sequence[Observation]) -> Array:
        return np.array([one.value for one in seen])

    def _moderation(self, cell: Subject) -> tuple[float, float]:
        """Factor on the cell's variances and its degrees of freedom (Smyth 2004, equation 5)."""
        seen = self.cells.get(cell, ())
        own = len({one.order for one in seen}) - 1
        if not np.isfinite(self.prior_freedom) or not seen:
            return 1.0, self.freedom
        ratio = _scaled_square(self._matrix(seen), self._values(seen) - self.mean)
        prior = self.prior_freedom
        factor = (prior + len(seen) * ratio) / (prior + len(seen))
        return factor, min(self.freedom, prior + max(own, 0))


def _scaled_square(matrix: Array, residual: Array) -> float:
    return float(residual @ np.linalg.solve(matrix, residual)) / len(residual)


def calibrate(
    seen: Sequence[Observation], *, mean: float = 0.0, mean_deviation: float = _WIDE
) -> Calibration:
    """Learn from past pairs; ``seen`` must hold at least one.

    Parameters
    ----------
    seen
        Pairs in the order of time.
    mean, mean_deviation
        What is believed of the common log ratio before: normal with this mean and deviation.

    Notes
    -----
    1. Variances by restricted maximum likelihood, for each memory, with a gamma penalty that keeps them off
       zero (Chung, Rabe-Hesketh et al. 2013): few pairs that agree by luck must not make sure.
    2. The common mean by generalised least squares.
    3. How far cells differ in their variance: the F distribution's degrees of freedom that fit best.
    """
    cells: dict[Subject, tuple[Observation, ...]] = {}
    for one in seen:
        cells[one.cell] = (*cells.get(one.cell, ()), one)
    cells = {cell: many[-_MOST_RUNS:] for cell, many in cells.items()}
    chosen = sorted(cells.values(), key=len, reverse=True)[:_MOST_CELLS]
    block = _Block.of(chosen)
    spread = _estimate(block, chosen, mean, mean_deviation)  # 1
    total, precision = _sums(block, spread, mean, mean_deviation)[:2]  # 2
    centre = total / precision
    freedom = sum(len({one.order for one in many}) - 1 for many in cells.values())
    return Calibration(
        spread=spread,
        mean=centre,
        mean_variance=1 / precision,
        freedom=float(max(freedom, 1)),
        prior_freedom=_prior_freedom(block, spread, centre),
        cells=cells,
    )


def _estimate(
    block: _Block, cells: Sequence[Sequence[Observation]], mean: float, deviation: float
) -> Spread:
    several_cells = len(cells) >= _FEW_CELLS
    several_runs = any(len({one.order for one in many}) < len(many) for many in cells)
    several_releases = any(len({one.order for one in many}) > 1 for many in cells)
    estimated = np.array([several_cells, several_releases or not several_runs, several_runs])

    def spread_of(logs: Array, memory: float) -> Spread:
        sizes = np.array([_BETWEEN_CELLS, 0.0, 0.0])
        sizes[estimated] = np.exp(np.clip(logs, -12, 3))
        cells, releases, runs = map(float, sizes)
        return Spread(cells, releases, runs, memory)

    def cost(logs: Array, memory: float) -> float:
        penalty = np.sum(_PENALTY_RATE * np.exp(logs) - logs)
        return _deviance(block, spread_of(logs, memory), mean, deviation) + float(penalty)

    logs = np.full(int(estimated.sum()), np.log(_GUESS))
    best, likeliest = spread_of(logs, 0.0), float("inf")
    longest = max(len({one.order for one in many}) for many in cells)
    for memory in _MEMORY if longest >= _LEAST_FOR_MEMORY else (0.0,):
        found = minimize(
            cost,
            logs,
            args=(memory,),
            method="Nelder-Mead",
            options={"xatol": 0.1, "fatol": 0.05, "maxiter": 80 if memory == 0 else 40},
        )
        spread = spread_of(found.x, memory)
        # Without the penalty, which prefers the memory that needs the greater variance.
        deviance = _deviance(block, spread, mean, deviation)
        if deviance < likeliest - (_CLEARLY if memory else 0.0):
            best, likeliest, logs = spread, deviance, found.x
    return best


def _sums(
    block: _Block, spread: Spread, mean: float, deviation: float
) -> tuple[float, float, float, float]:
    """Weighted sum of values, precision of the mean, weighted sum of squares, log determinant."""
    lower = np.linalg.cholesky(block.covariance(spread))
    right = np.stack([block.value, block.mask], axis=2)
    solved = np.linalg.solve(lower, right)
    values, ones = solved[:, :, 0], solved[:, :, 1]
    prior = 1 / deviation**2
    return (
        float(np.sum(values * ones)) + mean * prior,
        float(np.sum(ones * ones)) + prior,
        float(np.sum(values * values)) + mean**2 * prior,
        2 * float(np.sum(np.log(np.diagonal(lower, axis1=1, axis2=2)))),
    )


def _deviance(block: _Block, spread: Spread, mean: float, deviation: float) -> float:
    """Minus the restricted log likelihood, but for a constant."""
    total, precision, squares, determinant = _sums(block, spread, mean, deviation)
    return 0.5 * (determinant + float(np.log(precision)) + squares - total**2 / precision)


def _prior_freedom(block: _Block, spread: Spread, mean: float) -> float:
    """Degrees of freedom of the cells' own variances around the common one; infinite for few cells."""
    lengths = block.mask.sum(axis=1).astype(int)
    if np.sum(lengths > 1) < _FEW_CELLS:
        return float("inf")
    matrices = block.covariance(spread)
    ratios = np.array(
        [
            _scaled_square(matrices[c][:n, :n], block.value[c, :n] - mean)
            for c, n in enumerate(lengths)
        ]
    )
    fits = [float(np.sum(f_distribution.logpdf(ratios, lengths, nu))) for nu in _PRIOR_FREEDOM]
    return _PRIOR_FREEDOM[int(np.argmax(fits))]
