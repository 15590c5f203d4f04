"""How much of the gap between production and a test comes from what is requested, and how much from how it runs.

The gap of a quantile is log(production / test). For one dimension (version, instance, cache hit or miss):

- **mix**: production is reweighted so that its segments have the test's shares (DiNardo, Fortin and
  Lemieux 1996); by how much its quantile moves is what the different mix explains;
- **within**: of one segment, production's latencies are replaced by the test's, its share kept; by how
  much production's quantile moves is what this segment alone explains.

Both are effects on the whole distribution's quantile, not averages of the segments' quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mobius_analysis.blocks import LEAST_BLOCKS, Replicated, blocks_of, draw_blocks
from mobius_analysis.histogram import SCALE

__all__ = ["LEAST_REQUESTS", "Decomposition", "Segments", "decompose", "log_quantile", "segments"]

LEAST_REQUESTS: Final = 30
"""Requests that a segment needs on a side before anything is said about its inside."""

_LOG_PER_BUCKET: Final = float(np.log(2) / 2**SCALE)
_PSEUDO_BLOCKS: Final = 8
_SEEDS: Final = {"production": 17, "synthetic": 29}


@dataclass(frozen=True, eq=False)
class Segments:
    """Both sides' latency histograms by segment, on common axes, and their bootstrap draws.

    Attributes
    ----------
    values
        Names of the S segments.
    buckets : (K,)
        Ascending bucket indices.
    production, synthetic : (1 + DRAWS, S, K)
        Weights; the first entry is the data.
    requests : (2, S)
        Measured requests of production and test.
    freedom
        Blocks of the side that has fewer, less one.
    independent
        Whether a side had so few minutes that its requests were taken as independent.
    """

    values: tuple[str, ...]
    buckets: NDArray[np.int64]
    production: NDArray[np.float64]
    synthetic: NDArray[np.float64]
    requests: NDArray[np.int64]
    freedom: int
    independent: bool


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The gap at one quantile and its parts, all as differences of logarithms.

    ``mix`` is None where both sides share no segment; ``within`` has the segments with enough requests.
    """

    q: float
    gap: Replicated
    mix: Replicated | None
    within: dict[str, Replicated]
    mix_ms: Replicated | None
    within_ms: dict[str, Replicated]


def segments(production: pl.DataFrame, synthetic: pl.DataFrame, values: Sequence[str]) -> Segments:
    """Build both sides' histograms from rows ``minute``, ``value``, ``bucket``, ``weight``, ``requests``.

    Rows of other values than ``values`` are left out. Fewer than 4 minutes on a side: its requests are
    taken as independent, and spread over eight blocks by chance.
    """
    names = tuple(values)
    sides = [side.filter(pl.col("value").is_in(list(names))) for side in (production, synthetic)]
    buckets = np.unique(np.concatenate([side["bucket"].to_numpy() for side in sides]))
    made = [
        _draws(side, names, buckets, seed)
        for side, seed in zip(sides, _SEEDS.values(), strict=True)
    ]
    counts = [
        [int(side.filter(pl.col("value") == name)["requests"].sum()) for name in names]
        for side in sides
    ]
    return Segments(
        names,
        buckets.astype(np.int64),
        made[0][0],
        made[1][0],
        np.asarray(counts, np.int64),
        min(made[0][1], made[1][1]) - 1,
        made[0][2] or made[1][2],
    )


def _draws(
    side: pl.DataFrame, names: tuple[str, ...], buckets: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], int, bool]:
    """Histograms of the data and of every draw, the number of blocks, and whether these are made up."""
    order = {name: i for i, name in enumerate(names)}
    value = side["value"].replace_strict(order, return_dtype=pl.Int64).to_numpy()
    bucket = np.searchsorted(buckets, side["bucket"].to_numpy())
    weight = side["weight"].to_numpy().astype(np.float64)
    minutes = side["minute"].to_numpy().astype(np.int64)
    S, K = len(names), len(buckets)
    independent = len(np.unique(minutes)) < LEAST_BLOCKS
    if independent:
        rng = np.random.default_rng(seed)
        size = np.maximum(1, side["requests"].to_numpy())
        chance = np.full(_PSEUDO_BLOCKS, 1 / _PSEUDO_BLOCKS)
        parts = rng.multinomial(size, chance) * (weight / size)[:, None]
        count = _PSEUDO_BLOCKS
        place = np.tile(np.arange(count), len(side))
        flat = np.repeat(value * K + bucket, count)
        weight = parts.reshape(-1)
    else:
        place, count = blocks_of(minutes)
        flat = value * K + bucket
    sums = np.bincount(place * (S * K) + flat, weight, count * S * K).reshape(count, S * K)
    drawn = draw_blocks(count, seed) @ sums
    return drawn.reshape(-1, S, K), count, independent


def log_quantile(
    histograms: NDArray[np.float64], buckets: NDArray[np.int64], q: float
) -> NDArray[np.float64]:
    """Natural logarithm of quantile ``q`` in seconds of each histogram (last axis), NaN where it is empty.

    Inside its bucket the ECDF is taken as linear in the logarithm, so that small shifts show.
    """
    cumulative = np.cumsum(histograms, axis=-1)
    total = cumulative[..., -1]
    level = q * total
    k = np.minimum((cumulative < level[..., None] * (1 - 1e-12)).sum(axis=-1), len(buckets) - 1)
    above = np.take_along_axis(cumulative, k[..., None], axis=-1)[..., 0]
    inside = np.take_along_axis(histograms, k[..., None], axis=-1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = 1 - (above - level) / inside
        found: NDArray[np.float64] = (buckets[k] + np.clip(part, 0.0, 1.0)) * _LOG_PER_BUCKET
    return np.where(total > 0, found, np.nan)


def decompose(both: Segments, q: float) -> Decomposition:
    """Decompose the gap at quantile ``q`` over the segments of one dimension."""
    P, X = both.production, both.synthetic
    freedom = both.freedom
    whole = log_quantile(P.sum(axis=1), both.buckets, q)
    test = log_quantile(X.sum(axis=1), both.buckets, q)
    gap = Replicated(whole - test, freedom)
    common = both.requests.min(axis=0) > 0
    mix = mix_ms = None
    if common.any():
        like = log_quantile(_reweighted(P, X, common), both.buckets, q)
        mix = Replicated(whole - like, freedom)
        mix_ms = Replicated(1000 * (np.exp(whole) - np.exp(like)), freedom)
    within: dict[str, Replicated] = {}
    within_ms: dict[str, Replicated] = {}
    enough = both.requests.min(axis=0) >= LEAST_REQUESTS
    for s, name in enumerate(both.values):
        if not enough[s] or len(both.values) < 2:
            continue
        other = log_quantile(_replaced(P, X, s), both.buckets, q)
        within[name] = Replicated(whole - other, freedom)
        within_ms[name] = Replicated(1000 * (np.exp(whole) - np.exp(other)), freedom)
    return Decomposition(q, gap, mix, within, mix_ms, within_ms)


def _reweighted(
    P: NDArray[np.float64], X: NDArray[np.float64], common: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Production's histograms with the test's shares of the common segments."""
    mass, wanted = P.sum(axis=2), X.sum(axis=2) * common
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(mass > 0, wanted / mass, 0.0)
    found: NDArray[np.float64] = np.einsum("rs,rsk->rk", factor, P)
    return found


def _replaced(P: NDArray[np.float64], X: NDArray[np.float64], s: int) -> NDArray[np.float64]:
    """Production's histograms with those of segment ``s`` replaced by the test's, at production's mass."""
    mass, other = P[:, s].sum(axis=1), X[:, s].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(other > 0, mass / other, np.nan)
    found: NDArray[np.float64] = P.sum(axis=1) - P[:, s] + X[:, s] * scale[:, None]
    return found
