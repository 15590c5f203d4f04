"""Worlds with a known truth: requests whose every quantile is known exactly, drawn as minute histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import exp, log
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from mobius_analysis.clusters import Clusters
from mobius_analysis.histogram import bucket_of

__all__ = [
    "LOAD",
    "SHAPES",
    "Draw",
    "Sampling",
    "Shape",
    "World",
    "draw_pair",
    "truth",
]

Shape = Literal["lognormal", "pareto", "bimodal"]
SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)
Sampling = Literal["none", "head", "tail"]
Floats = NDArray[np.float64]

LOAD: Final = 0.15
"""Deviation of the minutes' log load factor; what AR(1) makes follow one another."""

_MEDIAN: Final = 0.05
_SIGMA: Final = 0.6
_BODY: Final = 0.9  # share of the Pareto shape's requests below its tail
_TAIL_INDEX: Final = 2.0
_HITS: Final = (
    0.7  # share of the bimodal shape's fast requests: its p50 lies in one mode, p95 in the other
)
_MODE_RATIO: Final = 8.0
_MODE_SIGMA: Final = 0.3
_TAIL_FROM: Final = 0.8  # a shift of the tail begins at this quantile and is whole from p95 on
_HEAD_RATES: Final = (1.0, 1 / 4, 1 / 16)
_TAIL_RATES: Final = (1 / 4, 1 / 16)
_KEEP_FROM: Final = 0.9  # tail sampling keeps every request slower than this quantile


@dataclass(frozen=True, slots=True)
class World:
    """How one side's requests come about.

    Attributes
    ----------
    shape
        lognormal (sigma 0.6), its body with a Pareto tail of index 2 from p90 on, or 70 % fast and
        30 % eight times slower requests.
    phi
        Of the AR(1) log load of minutes; None where every request is independent of every other.
    requests, minutes
        Expected number of measured requests, Poisson over the whole window; length of the window.
    sampling
        none; head: each request kept with probability 1, 1/4 or 1/16 whatever its latency; tail: every one
        slower than p90, of the others 1/4 or 1/16. The weight is one over the probability.
    scale, tail
        Factors on every latency, and on those from p95 on (growing from 1 at p80).
    """

    shape: Shape = "lognormal"
    phi: float | None = None
    requests: int = 2000
    minutes: int = 60
    sampling: Sampling = "none"
    scale: float = 1.0
    tail: float = 1.0


@dataclass(frozen=True, eq=False)
class Draw:
    """One side's requests: minute, seconds and weight of each, and the same as the product's clusters."""

    minutes: NDArray[np.int64]
    seconds: Floats
    weights: Floats
    clusters: Clusters | None

    @cached_property
    def by_minute(self) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Latencies sorted by minute and size, and each minute's first position and number of requests."""
        rising = np.argsort(self.seconds)
        order = rising[np.argsort(self.minutes[rising].astype(np.int32), kind="stable")]
        _, starts, counts = np.unique(self.minutes[order], return_index=True, return_counts=True)
        return self.seconds[order], starts, counts


@lru_cache(maxsize=4096)
def truth(world: World, q: float) -> float:
    """Quantile ``q`` in seconds of all the world's requests, exact to 1e-9 of its logarithm."""
    if (world.scale, world.tail) != (1.0, 1.0):
        base = truth(replace(world, scale=1.0, tail=1.0), q)
        return float(_shifted(np.array([base]), world)[0])
    deviation = 0.0 if world.phi is None else LOAD
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)

    def excess(x: float) -> float:
        return float(weights @ _cdf(world.shape, x - deviation * nodes) / weights.sum()) - q

    return exp(brentq(excess, log(1e-4), log(1e4), xtol=1e-9))


def _cdf(shape: Shape, x: Floats) -> Floats:
    """Share of requests faster than ``x`` (log seconds) in a minute with the load factor 1."""
    x = x - log(_MEDIAN)
    if shape == "bimodal":
        slow = ndtr((x - log(_MODE_RATIO)) / _MODE_SIGMA)
        return np.asarray(_HITS * ndtr(x / _MODE_SIGMA) + (1 - _HITS) * slow)
    body = np.asarray(ndtr(x / _SIGMA))
    if shape == "lognormal":
        return body
    start = _SIGMA * ndtri(_BODY)
    beyond = 1 - (1 - _BODY) * np.exp(-_TAIL_INDEX * np.maximum(x - start, 0))
    return np.where(x <= start, body, beyond)


def _latencies(rng: np.random.Generator, shape: Shape, n: int) -> Floats:
    """Log seconds of ``n`` requests in minutes with the load factor 1."""
    z = rng.standard_normal(n)
    if shape == "bimodal":
        slow = rng.random(n) >= _HITS
        return log(_MEDIAN) + _MODE_SIGMA * z + slow * log(_MODE_RATIO)
    x = _SIGMA * z
    if shape == "pareto":
        start = _SIGMA * ndtri(_BODY)
        beyond = x > start
        x[beyond] = start + rng.exponential(1 / _TAIL_INDEX, int(beyond.sum()))
    return np.asarray(log(_MEDIAN) + x)


def _shifted(seconds: Floats, world: World) -> Floats:
    """A rising function of the latency, so that every quantile of the shifted world is known too."""
    if world.tail != 1.0:
        base = replace(world, scale=1.0, tail=1.0)
        start, whole = log(truth(base, _TAIL_FROM)), log(truth(base, 0.95))
        seconds = seconds * world.tail ** np.clip((np.log(seconds) - start) / (whole - start), 0, 1)
    return seconds * world.scale


def shifted(draw: Draw, world: World) -> Draw:
    """The requests of ``draw`` as they would have been in the same world with ``world``'s scale and tail."""
    seconds = _shifted(draw.seconds, world)
    return Draw(
        draw.minutes, seconds, draw.weights, histograms(draw.minutes, seconds, draw.weights)
    )


def _load(rng: np.random.Generator, minutes: int, phi: float | None) -> Floats:
    """Log load factor of each minute: AR(1) with ``phi`` and the stationary deviation ``LOAD``."""
    if phi is None:
        return np.zeros(minutes)
    shocks = LOAD * np.sqrt(1 - phi**2) * rng.standard_normal(minutes)
    first = LOAD * rng.standard_normal()
    return np.asarray(lfilter([1.0], [1.0, -phi], shocks, zi=[phi * first])[0])


def draw_pair(
    rng: np.random.Generator, production: World, test: World, *, together: bool = False
) -> tuple[Draw, Draw]:
    """Draw both sides; ``together``: in the same minutes under one common load, else each under its own."""
    load = _load(rng, production.minutes, production.phi)
    other = load if together else _load(rng, test.minutes, test.phi)
    return _draw(rng, production, load), _draw(rng, test, other)


def _draw(rng: np.random.Generator, world: World, load: Floats) -> Draw:
    rates = np.array(_HEAD_RATES if world.sampling == "head" else _TAIL_RATES)
    kept = 1.0
    if world.sampling == "head":
        kept = float(rates.mean())
    elif world.sampling == "tail":
        kept = (1 - _KEEP_FROM) + _KEEP_FROM * float(rates.mean())
    n = int(rng.poisson(world.requests / kept))
    minutes = rng.integers(0, world.minutes, n)
    seconds = _shifted(np.exp(_latencies(rng, world.shape, n) + load[minutes]), world)
    weights = np.ones(n)
    if world.sampling != "none":
        chance = rates[rng.integers(0, len(rates), n)]
        if world.sampling == "tail":
            chance[seconds > truth(world, _KEEP_FROM)] = 1.0
        hit = rng.random(n) < chance
        minutes, seconds, weights = minutes[hit], seconds[hit], 1 / chance[hit]
    return Draw(minutes, seconds, weights, histograms(minutes, seconds, weights))


def sample_quantiles(draw: Draw, quantiles: Sequence[float]) -> Floats:
    """Weighted sample quantiles in seconds of the requests themselves, shape (len(quantiles),)."""
    order = np.argsort(draw.seconds)
    reached = np.cumsum(draw.weights[order])
    positions = np.searchsorted(reached, np.asarray(quantiles) * reached[-1])
    return np.asarray(draw.seconds[order][np.minimum(positions, len(order) - 1)])


def histograms(minutes: NDArray[np.int64], seconds: Floats, weights: Floats) -> Clusters | None:
    """The rollup of these requests as the product reads it back; None without requests.

    The same as by way of a frame and `clusters_of`, which a test holds it to, but ten times faster.
    """
    n = len(minutes)
    if n == 0:
        return None
    buckets = bucket_of(seconds)
    first, least = int(minutes.min()), int(buckets.min())
    height, width = int(minutes.max()) - first + 1, int(buckets.max()) - least + 1
    flat = (minutes - first) * width + buckets - least
    counts = (
        np.bincount(flat, weights, minlength=height * width).astype(float).reshape(height, width)
    )
    rows, columns = counts.any(axis=1), counts.any(axis=0)
    return Clusters(
        minutes=first + np.flatnonzero(rows),
        buckets=least + np.flatnonzero(columns),
        counts=counts[np.ix_(rows, columns)],
        requests=n,
        squared=float(weights @ weights),
    )
