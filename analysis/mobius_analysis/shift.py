"""The shift function: production against the test, quantile by quantile, and where the test lies.

Doksum 1974, as ratios. Each ratio has the interval of the verdicts (MOVER), and beside it a band that holds
for all quantiles of the endpoint at once, from which alone the reading is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log, sqrt
from typing import Any, Final, Literal

import numpy as np
from scipy.special import ndtr, stdtrit

from mobius_analysis.clusters import Clusters, ewc_count
from mobius_analysis.histogram import HALF_BUCKET
from mobius_analysis.intervals import Bounds, Estimate, estimate
from mobius_analysis.ratio import MARGIN, Ratio, ratio, shared_correlation
from mobius_analysis.verdicts import QUANTILES, name_of

__all__ = ["SHIFT_LEVELS", "Shift", "ShiftLevel", "Where", "critical_value", "shift_function"]

Where = Literal[
    "nowhere", "everywhere", "below_median", "above_median", "tail", "crossing", "unknown"
]

SHIFT_LEVELS: Final = (
    0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 0.999,
)  # fmt: skip

_MILLISECONDS: Final = 1000.0
_CONFIDENCE: Final = 0.95
_DRAWS: Final = 20_000
_ROUNDING: Final = sqrt(2) * log(HALF_BUCKET)
_TAIL_FROM: Final = 0.75
_BODY_FROM: Final = 0.3
"""A difference that reaches from here up to the tail is one of the whole body."""


@dataclass(frozen=True, slots=True)
class ShiftLevel:
    """One quantile of both sides; ``band`` is the ratio's interval that holds for all levels together."""

    q: float
    production: Bounds
    synthetic: Bounds
    ratio: Ratio
    band: Bounds

    def differs(self, margin: float = MARGIN) -> Literal["slower", "faster"] | None:
        """Whether users are surely slower or faster than the test by more than ``margin``."""
        if self.band.low is None or self.band.high is None:
            return None
        if self.band.low > margin:
            return "slower"
        return "faster" if self.band.high < 1 / margin else None

    def document(self, margin: float = MARGIN) -> dict[str, Any]:
        """Return the JSON form; latencies in milliseconds."""
        alike = "alike" if self.ratio.equivalent(margin) else None
        return {
            "quantile": name_of(self.q),
            "level": self.q,
            "production_ms": self.production.document(_MILLISECONDS),
            "synthetic_ms": self.synthetic.document(_MILLISECONDS),
            "ratio": self.ratio.bounds.document(),
            "band": self.band.document(),
            "users_are": self.differs(margin) or alike,
        }


@dataclass(frozen=True, slots=True)
class Shift:
    """All levels that the data allow, and in words where the two distributions part."""

    levels: tuple[ShiftLevel, ...]
    where: Where
    text: str
    margin: float = MARGIN

    def document(self) -> dict[str, Any]:
        """Return the JSON form, described in docs/verdicts.md."""
        return {
            "where": self.where,
            "text": self.text,
            "levels": [level.document(self.margin) for level in self.levels],
        }


def shift_function(
    production: Clusters | None,
    synthetic: Clusters | None,
    *,
    levels: Sequence[float] = SHIFT_LEVELS,
    margin: float = MARGIN,
) -> Shift:
    """Compare the whole distributions of both sides.

    Levels without an interval on either side are left out, but for the verdict's own quantiles, which
    then stand without bounds.

    Steps
    -----
    1. Quantile and ratio with its interval at every level.
    2. The band: each interval widened by one factor, the critical value of the greatest deviation over
       all levels (sup-t; Montiel Olea and Plagborg-Moller 2019) over that of one. The half buckets of
       rounding do not grow.
    3. The reading.
    """
    if production is None or synthetic is None:
        return Shift((), "unknown", "Only one side has answered requests.", margin)
    pairs = [(q, estimate(production, q), estimate(synthetic, q)) for q in levels]  # 1
    kept = [(q, y, x) for q, y, x in pairs if q in QUANTILES or (_known(y) and _known(x))]
    known = tuple(q for q, y, x in kept if _known(y) and _known(x))
    terms = min(ewc_count(max(2, len(side.minutes))) for side in (production, synthetic))
    widen = _factor(known, terms)  # 2
    found = []
    for q, y, x in kept:
        one = ratio(y, x, shared_correlation(production, y, synthetic, x))
        found.append(ShiftLevel(q, y.bounds, x.bounds, one, _widened(one.bounds, widen)))
    return Shift(tuple(found), *_read(found, margin), margin)  # 3


def _known(found: Estimate) -> bool:
    return found.bounds.low is not None


def _factor(levels: tuple[float, ...], terms: int) -> float:
    """How much wider than one interval the band is, for variances from that many EWC terms."""
    if len(levels) < 2:
        return 1.0
    alike = float(ndtr(critical_value(levels)))
    return float(stdtrit(terms, alike) / stdtrit(terms, (1 + _CONFIDENCE) / 2))


@lru_cache(maxsize=256)
def critical_value(levels: tuple[float, ...]) -> float:
    """Bound that the greatest of the standardised deviations at ``levels`` keeps to with 95 %.

    The deviations of an ECDF of independent requests: a Brownian bridge, drawn 20,000 times with a fixed
    seed. Common minutes bind the levels closer together and so only make the true value smaller.
    """
    points = np.asarray(sorted(levels))
    steps = np.diff(points, prepend=0.0, append=1.0)
    draws = np.random.default_rng(1974).standard_normal((_DRAWS, len(steps))) * np.sqrt(steps)
    walk = np.cumsum(draws, axis=1)
    bridge = walk[:, :-1] - points * walk[:, -1:]
    greatest = np.abs(bridge / np.sqrt(points * (1 - points))).max(axis=1)
    return float(np.quantile(greatest, _CONFIDENCE))


def _widened(bounds: Bounds, factor: float) -> Bounds:
    if bounds.low is None or bounds.high is None:
        return bounds
    low, high = (
        _ROUNDING + factor * (reach - _ROUNDING) if reach > _ROUNDING else reach
        for reach in (log(bounds.value / bounds.low), log(bounds.high / bounds.value))
    )
    return Bounds(bounds.value, bounds.value * exp(-low), bounds.value * exp(high))


def _read(levels: Sequence[ShiftLevel], margin: float) -> tuple[Where, str]:
    known = [level for level in levels if level.band.low is not None]
    if len(known) < 2:
        return "unknown", "Too few requests to say where the distributions differ."
    slower = [level.q for level in known if level.differs(margin) == "slower"]
    faster = [level.q for level in known if level.differs(margin) == "faster"]
    reach = f"{name_of(known[0].q)} to {name_of(known[-1].q)}"
    if slower and faster:
        text = (
            f"Users are faster at {_span(faster)} and slower at {_span(slower)} than the test says."
        )
        return "crossing", text
    if not slower and not faster:
        if all(level.ratio.equivalent(margin) for level in known):
            return "nowhere", f"The two agree within {margin - 1:.0%} from {reach}."
        return "unknown", f"Nowhere from {reach} is a difference beyond {margin - 1:.0%} sure."
    where = _where(slower or faster, known[-1].q)
    word = "slower" if slower else "faster"
    return (
        where,
        f"{_PLACES[where].format(first=name_of(min(slower or faster)))}: users are {word}.",
    )


_PLACES: Final[dict[Where, str]] = {
    "everywhere": "The test differs in the whole body of requests",
    "below_median": "The test differs only up to the median",
    "above_median": "The test differs in the slower half, from {first} on",
    "tail": "The test differs in the tail alone, from {first} on",
}


def _where(differing: Sequence[float], greatest: float) -> Where:
    """Name the part of the distribution that ``differing`` levels lie in; ``greatest`` level could be compared."""
    low, high = min(differing), max(differing)
    if high <= 0.5 < greatest:
        return "below_median"
    if low <= _BODY_FROM or (low <= 0.5 and high < _TAIL_FROM):
        return "everywhere"
    return "tail" if low >= _TAIL_FROM else "above_median"


def _span(levels: Sequence[float]) -> str:
    first, last = name_of(min(levels)), name_of(max(levels))
    return first if first == last else f"{first} to {last}"
