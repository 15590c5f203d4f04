"""Is a test's traffic that of production? Each dimension is compared by itself: pure, from counts to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mobius_analysis.intervals import Bounds, wilson

__all__ = [
    "DIMENSIONS",
    "Dimension",
    "Outcome",
    "arrivals",
    "concurrency",
    "hours",
    "mix",
    "ratio_of_hits",
    "share",
    "sizes",
    "unknown",
    "worst",
]

Array = NDArray[np.float64]
Outcome = Literal["alike", "differs", "unclear", "unknown"]

DIMENSIONS: Final = (
    "endpoints", "arrivals", "concurrency", "payloads", "cache", "data_volume",
    "time_of_day", "versions", "regions", "environment",
)  # fmt: skip

_REPETITIONS: Final = 500
_CLOSE: Final = 0.1
"""A distance up to which two mixes count as alike: a tenth of the requests would have to move."""
_FACTOR: Final = 1.5
"""Up to this factor two dispersions count as alike."""
_NORMAL: Final = float(ndtri(0.975))
_LEAST_SECONDS: Final = 30
_LEAST_SIZES: Final = 30


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension's comparison.

    Attributes
    ----------
    score
        From 0 (nothing in common) to 1 (the same), with a 95 % interval where there is one; None: unknown.
    chance
        The score that sampling alone would fall short of in 1 of 20 cases, where test and production were the
        same; None where there is no such level.
    text
        What was found, or why nothing was.
    """

    name: str
    outcome: Outcome
    score: Bounds | None
    chance: float | None
    text: str


def unknown(name: str, reason: str) -> Dimension:
    """Make a dimension of which nothing is known."""
    return Dimension(name, "unknown", None, None, reason)


def worst(dimensions: Sequence[Dimension]) -> Dimension | None:
    """Return the dimension that differs with the least score; None where none differs."""
    found = [d for d in dimensions if d.outcome == "differs" and d.score is not None]
    return min(found, key=lambda d: 1.0 if d.score is None else d.score.value, default=None)


def mix(
    name: str,
    test: Mapping[str, float],
    production: Mapping[str, float],
    *,
    requests: tuple[float, float],
    seed: int = 0,
) -> Dimension:
    """Compare two mixes by the share of requests that has to move (total variation).

    Parameters
    ----------
    test, production
        Weight by label.
    requests
        Independent requests behind each side, for the interval (parametric bootstrap of both) and the chance
        level (both drawn from the pooled mix).
    """
    if not sum(test.values()) or not sum(production.values()):
        return unknown(name, "no requests on one side")
    labels = sorted({*test, *production})
    p, q = (_shares(side, labels) for side in (test, production))
    rng = np.random.default_rng(seed)
    n, m = (max(1, int(count)) for count in requests)
    pooled = (n * p + m * q) / (n + m)
    distance = float(np.abs(p - q).sum() / 2)
    by_chance = _distances(rng, pooled, pooled, (n, m))
    drawn = _distances(rng, p, q, (n, m))
    # Sampling adds distance; the bootstrap's own shift takes it off again (basic bootstrap).
    low, high = 2 * distance - np.quantile(drawn, [0.975, 0.025])
    low, high = max(0.0, min(float(low), distance)), min(1.0, max(float(high), distance))
    level = float(np.quantile(by_chance, 0.95))
    outcome: Outcome = "unclear"
    if distance <= level or high <= _CLOSE:
        outcome = "alike" if max(high, level) <= 2 * _CLOSE else "unclear"
    elif low > _CLOSE:
        outcome = "differs"
    return Dimension(
        name,
        outcome,
        Bounds(1 - distance, 1 - high, 1 - low),
        1 - level,
        _describe_mix(labels, p, q, distance),
    )


def _shares(side: Mapping[str, float], labels: Sequence[str]) -> Array:
    values = np.array([max(0.0, side.get(label, 0.0)) for label in labels])
    shares: Array = values / values.sum()
    return shares


def _distances(rng: np.random.Generator, p: Array, q: Array, sizes: tuple[int, int]) -> Array:
    x = rng.multinomial(sizes[0], p, _REPETITIONS) / sizes[0]
    y = rng.multinomial(sizes[1], q, _REPETITIONS) / sizes[1]
    distances: Array = np.abs(x - y).sum(axis=1) / 2
    return distances


def _describe_mix(labels: Sequence[str], p: Array, q: Array, distance: float) -> str:
    at = int(np.argmax(np.abs(p - q)))
    return (
        f"{distance:.0%} of the requests would have to move; most at {labels[at]}: "
        f"{p[at]:.0%} of the test, {q[at]:.0%} of users"
    )


def share(
    name: str, covered: float, total: float, *, requests: float, noun: str, missing: str = ""
) -> Dimension:
    """Compare by the share of users' requests that the test's kind covers; Wilson's interval."""
    if total <= 0:
        return unknown(name, "no users' requests")
    part = covered / total
    n = max(1, int(requests))
    found = wilson(round(part * n), n)
    assert found is not None  # noqa: S101 -- n is at least 1
    outcome: Outcome = (
        "alike"
        if part >= 1 - _CLOSE
        else "differs"
        if (found.high or 1) < 1 - _CLOSE
        else "unclear"
    )
    text = f"{part:.0%} of users' requests are {noun}" + (f"; {missing}" if missing else "")
    return Dimension(name, outcome, Bounds(part, found.low, found.high), None, text)


def hours(test: Sequence[float], production: Sequence[float], *, runs: int) -> Dimension:
    """Compare the hours of the day (24 weights each, UTC): by the overlap of both courses.

    The chance level: as many runs, each in an hour drawn like users' requests.
    """
    name = "time_of_day"
    p, q = np.asarray(test, float), np.asarray(production, float)
    if not p.sum() or not q.sum():
        return unknown(name, "no requests on one side")
    p, q = p / p.sum(), q / q.sum()
    overlap = float(np.minimum(p, q).sum())
    drawn = np.random.default_rng(0).multinomial(max(runs, 1), q, _REPETITIONS) / max(runs, 1)
    chance = float(np.quantile(np.minimum(drawn, q).sum(axis=1), 0.05))
    outcome: Outcome = (
        "alike" if overlap >= 1 - 2 * _CLOSE else "differs" if overlap < chance else "unclear"
    )
    quiet = float(q[p == 0].sum())
    text = f"{quiet:.0%} of users' requests come in hours of the day in which the test never ran"
    return Dimension(name, outcome, Bounds(overlap), chance, text)


def arrivals(
    test: Array | None, production: Array | None, *, load_model: str, reason: str = ""
) -> Dimension:
    """Compare how requests arrive, by the index of dispersion of counts a second (variance / mean).

    1 is a Poisson process, below it a pacemaker, above it bursts. Counts of neighbouring seconds are taken as
    independent for the interval, sqrt(2 / (T - 1)) on the logarithm.
    """
    name = "arrivals"
    if test is None or production is None:
        return unknown(name, reason)
    few = [len(side) for side in (test, production) if len(side) < _LEAST_SECONDS]
    if few or not test.mean() or not production.mean():
        return unknown(name, f"too short: fewer than {_LEAST_SECONDS} s with requests on one side")
    x, y = (max(float(side.var(ddof=1) / side.mean()), 1e-3) for side in (test, production))
    reach = _NORMAL * sqrt(2 / (len(test) - 1) + 2 / (len(production) - 1))
    distance = abs(log(x / y))
    low, high = max(0.0, distance - reach), distance + reach
    outcome: Outcome = (
        "differs" if low > log(_FACTOR) else "alike" if high < log(2 * _FACTOR) else "unclear"
    )
    if load_model == "closed" and outcome == "alike":
        outcome = "unclear"
    kind = {"open": "sent by the clock", "closed": "each sent after the answer before it"}.get(
        load_model, "load model not known"
    )
    text = f"dispersion a second {x:.2f} in the test ({kind}), {y:.2f} of users (1 is random)"
    score = Bounds(float(np.exp(-distance)), float(np.exp(-high)), float(np.exp(-low)))
    return Dimension(name, outcome, score, float(np.exp(-reach)), text)


def concurrency(test: float | None, production: Array) -> Dimension:
    """Compare requests in flight (Little's law) with users' minutes, from a twentieth to the last but one."""
    name = "concurrency"
    if test is None or test <= 0 or not len(production) or production.max() <= 0:
        return unknown(name, "no answered requests on one side")
    low, middle, high = (float(v) for v in np.quantile(production, [0.05, 0.5, 0.95]))
    nearest = min(max(test, low), high)
    score = min(test / nearest, nearest / test) if nearest > 0 else 0.0
    outcome: Outcome = "alike" if low <= test <= high else "unclear"
    if score < 1 / _FACTOR:
        outcome = "differs"
    text = f"{test:.3g} requests in flight in the test; of users {middle:.3g}, {low:.3g} to {high:.3g} in 9 of 10 minutes"
    return Dimension(name, outcome, Bounds(score), None, text)


def sizes(name: str, test: Array, production: Array, *, what: str) -> Dimension:
    """Compare two samples of sizes by the greatest distance of their distributions (Kolmogorov and Smirnov)."""
    few = [
        f"{len(side)} of {who}"
        for who, side in (("the test's", test), ("users'", production))
        if len(side) < _LEAST_SIZES
    ]
    if few:
        return unknown(name, f"too few spans that tell {what}: {', '.join(few)}")
    values = np.concatenate([test, production])
    cdf = [
        np.searchsorted(np.sort(side), values, side="right") / len(side)
        for side in (test, production)
    ]
    distance = float(np.abs(cdf[0] - cdf[1]).max())
    reach = 1.358 * sqrt(1 / len(test) + 1 / len(production))
    outcome: Outcome = "unclear"
    if distance - reach > _CLOSE:
        outcome = "differs"
    elif distance <= reach <= 2 * _CLOSE:
        outcome = "alike"
    text = (
        f"median {what} {np.median(test):,.0f} in the test, {np.median(production):,.0f} of users"
    )
    score = Bounds(1 - distance, max(0.0, 1 - distance - reach), min(1.0, 1 - distance + reach))
    return Dimension(name, outcome, score, max(0.0, 1 - reach), text)


def ratio_of_hits(test: tuple[int, int], production: tuple[int, int]) -> Dimension:
    """Compare the cache's hit ratios, (hits, look-ups) each; Newcombe's interval of their difference (1998)."""
    name = "cache"
    x, y = wilson(*test), wilson(*production)
    if x is None or y is None:
        who = "the test's" if x is None else "users'"
        return unknown(name, f"no span of {who} requests tells of a cache hit")
    difference = abs(x.value - y.value)
    reach = sqrt(
        max(x.value - (x.low or 0), (x.high or 1) - x.value) ** 2
        + max(y.value - (y.low or 0), (y.high or 1) - y.value) ** 2
    )
    low, high = max(0.0, difference - reach), min(1.0, difference + reach)
    outcome: Outcome = "differs" if low > _CLOSE else "alike" if high < 2 * _CLOSE else "unclear"
    text = f"hit ratio {x.value:.0%} in the test, {y.value:.0%} of users"
    return Dimension(
        name, outcome, Bounds(1 - difference, 1 - high, 1 - low), max(0.0, 1 - reach), text
    )
