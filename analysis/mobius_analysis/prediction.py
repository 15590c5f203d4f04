"""From a test run to production: predicted quantiles of the next release, and how past predictions fared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, exp, log, sqrt
from typing import Final

import numpy as np
from scipy.special import stdtrit

from mobius_analysis.calibration import Calibration, Forecast, Observation, Subject, calibrate
from mobius_analysis.intervals import CONFIDENCE, Bounds
from mobius_analysis.pairs import LEVELS, Measured, Pair
from mobius_analysis.quantile_mapping import Curve, make_curve

__all__ = [
    "PREDICTED",
    "Past",
    "Prediction",
    "Predictor",
    "Subject",
]

PREDICTED: Final = (0.5, 0.95, 0.99)

_NORMAL: Final = 1.959964
_TAIL_DEVIATION: Final = 0.2
_FEW_RELEASES: Final = 3
_FEW_PREDICTIONS: Final = 60
_STRETCH: Final = (0.5, 3.0)
_NOISE_IF_UNKNOWN: Final = 0.1


@dataclass(frozen=True, slots=True)
class Prediction:
    """Production's quantile to expect.

    Attributes
    ----------
    bounds
        Seconds, with the 95 % prediction interval; without it where the test has no interval itself.
    test
        How far the test's own error reaches down and up, in logs.
    history
        How far everything else reaches on each side: error of the mapping, difference between releases,
        error of production's own measurement.
    floor
        What of ``history`` would stay with endless history.
    own
        Pairs of this endpoint and region that it stands on; the others lend the rest.
    """

    bounds: Bounds
    ratio: float
    test: tuple[float, float] | None
    history: float
    floor: float
    own: int


@dataclass(frozen=True, slots=True)
class Past:
    """A past pair predicted without itself, against what production then showed (seconds)."""

    pair: Pair
    predicted: Bounds
    actual: float

    @property
    def inside(self) -> bool | None:
        """Whether production lay within the interval; None without an interval."""
        low, high = self.predicted.low, self.predicted.high
        return None if low is None or high is None else low <= self.actual <= high

    @property
    def miss(self) -> float | None:
        """How far off the prediction was, in lengths of its interval on that side: up to 1 is inside."""
        low, high = self.predicted.low, self.predicted.high
        if low is None or high is None:
            return None
        off = log(self.actual / self.predicted.value)
        return (
            off / log(high / self.predicted.value)
            if off > 0
            else off / log(low / self.predicted.value)
        )


class Predictor:
    """Predicts production from tests; made from the history of one test, in any order.

    Notes
    -----
    1. p50: partial pooling of the log ratios over cells (:mod:`~mobius_analysis.calibration`).
    2. Other quantiles: the same with each cell's p50 ratio taken off first, so that a cell with little tail
       data is drawn to the scaling of its median (and to the tail of other cells).
    3. From 200 requests of a cell's history on, fully from 1,000, the ratio is moved along the cell's quantile
       mapping: a release that is slower in the test meets the ratio that slower requests had.
    4. From 60 past predictions on, intervals are stretched or shrunk so that 95 % of the past ones would hold.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.pairs: tuple[Pair, ...] = tuple(sorted(pairs, key=lambda p: (p.at, p.run, p.subject)))
        self._orders = _number_releases(self.pairs)
        self._begins = [
            next(p.at for p in self.pairs if _release_of(p) == name) for name in self._orders
        ]
        self._models: dict[float, Calibration | None] = {}
        self._stretches: dict[float, float] = {}

    @property
    def releases(self) -> int:
        """How many releases the history holds; a run without a release counts as one of its own."""
        return len(self._orders)

    def knows(self, release: str) -> bool:
        """Whether the history holds this release."""
        return release in self._orders

    def calibration(self, q: float) -> Calibration | None:
        """What the history says of quantile ``q``; None where no pair has an interval of it."""
        if q not in self._models:
            seen = list(self._observations(q))
            if not seen:
                self._models[q] = None
            elif q == 0.5:
                self._models[q] = calibrate(seen)
            else:
                self._models[q] = calibrate(seen, mean_deviation=_TAIL_DEVIATION)
        return self._models[q]

    def predict(
        self,
        subject: Subject,
        test: Measured,
        q: float,
        release: str = "",
        at: float | None = None,
    ) -> Prediction | None:
        """Predict production's quantile ``q``; None where no history tells anything of it.

        ``at`` is the begin of the test (seconds since the epoch): a release that the history does not hold
        stands between those before and after; the newest where it is None.
        """
        model = self.calibration(q)
        if model is None or q not in test.quantiles:
            return None
        forecast = model.forecast(subject, self._place(release, at))
        value = forecast.value + self._taken_off(subject, test.log(q), q)
        stretch = self._stretch(q)
        return self._prediction(subject, test, q, (forecast, value), stretch=stretch)

    def _place(self, release: str, at: float | None) -> float:
        if release in self._orders:
            return float(self._orders[release])
        before = sum(at is None or begin < at for begin in self._begins)
        return before if before == len(self._begins) else before - 0.5

    def past(self, q: float, *, whole_release: bool = False) -> tuple[Past, ...]:
        """Predict every pair of the history from the others (or from those of other releases)."""
        return self._past(q, whole_release=whole_release, stretch=self._stretch(q))

    def _stretch(self, q: float) -> float:
        """Factor on every interval that would have made 95 % of the past ones hold (split conformal, Vovk 2005).

        1 below 60 past predictions: then the model's own errors are all there is.
        """
        if q not in self._stretches:
            # The gate asks for a release that nobody has met; where releases are few, for another run.
            many = self._past(q, whole_release=self.releases >= _FEW_RELEASES, stretch=1.0)
            misses = np.sort([found for one in many if (found := one.miss) is not None])
            rank = ceil((len(misses) + 1) * CONFIDENCE)
            enough = len(misses) >= _FEW_PREDICTIONS
            self._stretches[q] = float(np.clip(misses[rank - 1], *_STRETCH)) if enough else 1.0
        return self._stretches[q]

    def _past(self, q: float, *, whole_release: bool, stretch: float) -> tuple[Past, ...]:
        model = self.calibration(q)
        if model is None:
            return ()
        made = []
        for subject in model.cells:
            pairs = [p for p in self._known(q) if p.subject == subject]
            pairs = pairs[-len(model.cells[subject]) :]
            forecasts = model.left_out(subject, whole_release=whole_release)
            for pair, forecast in zip(pairs, forecasts, strict=True):
                value = forecast.value + self._taken_off(subject, pair.test.log(q), q)
                noise = pair.production.variance(q)
                found = self._prediction(
                    subject, pair.test, q, (forecast, value), stretch=stretch, noise=noise
                )
                made.append(Past(pair, found.bounds, pair.production.quantiles[q].value))
        return tuple(made)

    def _prediction(
        self,
        subject: Subject,
        test: Measured,
        q: float,
        expected: tuple[Forecast, float],
        *,
        stretch: float,
        noise: float | None = None,
    ) -> Prediction:
        forecast, log_ratio = expected
        # What production shows next has an error too: as large as it was so far.
        noise = self._noise(subject, q) if noise is None else noise
        t = float(stdtrit(forecast.freedom, (1 + CONFIDENCE) / 2))
        history = stretch * t * sqrt(forecast.variance + noise)
        value = exp(test.log(q) + log_ratio)
        reach = test.reach(q)
        bounds = Bounds(value)
        if reach is not None:
            reach = stretch * reach[0], stretch * reach[1]
            down, up = (sqrt(side**2 + history**2) for side in reach)
            bounds = Bounds(value, value * exp(-down), value * exp(up))
        floor = stretch * _NORMAL * sqrt(forecast.settled + noise)
        return Prediction(bounds, exp(log_ratio), reach, history, floor, forecast.own)

    def _noise(self, subject: Subject, q: float) -> float:
        known = self._known(q)
        own = [p for p in known if p.subject == subject] or known
        found = [v for p in own if (v := p.production.variance(q)) is not None]
        return float(np.median(found)) if found else _NOISE_IF_UNKNOWN**2

    def _known(self, q: float) -> tuple[Pair, ...]:
        return self._pairs_by_level[q]

    @cached_property
    def _pairs_by_level(self) -> dict[float, tuple[Pair, ...]]:
        return {
            q: tuple(
                p
                for p in self.pairs
                if q in p.test.quantiles
                and q in p.production.quantiles
                and p.test.reach(q) is not None
                and p.production.reach(q) is not None
            )
            for q in LEVELS
        }

    def _observations(self, q: float) -> Iterable[Observation]:
        for pair in self._known(q):
            x, y = pair.test.variance(q), pair.production.variance(q)
            if x is None or y is None:
                continue
            ratio = pair.production.log(q) - pair.test.log(q)
            ratio -= self._taken_off(pair.subject, pair.test.log(q), q)
            order = self._orders[_release_of(pair)]
            yield Observation(pair.subject, order, ratio, x + y)

    def _taken_off(self, subject: Subject, x: float, q: float) -> float:
        """What of the log ratio is not left to the model of ``q``: the median's ratio, and the mapping's bend."""
        curve = self._curves.get(subject)
        bend = 0.0 if curve is None or q not in curve.centre else curve.bend(x, q)
        if q == 0.5:
            return bend
        median = self.calibration(0.5)
        return bend + (0.0 if median is None else median.cell_mean(subject))

    @cached_property
    def _curves(self) -> dict[Subject, Curve]:
        cells: dict[Subject, list[Pair]] = {}
        for pair in self.pairs:
            cells.setdefault(pair.subject, []).append(pair)
        return {subject: found for subject, many in cells.items() if (found := make_curve(many))}


def _release_of(pair: Pair) -> str:
    # Without a release nobody knows which runs met the same build.
    return pair.release or f"run {pair.run}"


def _number_releases(pairs: Sequence[Pair]) -> dict[str, int]:
    made: dict[str, int] = {}
    for pair in pairs:
        made.setdefault(_release_of(pair), len(made))
    return made
