"""Whether the 95 % intervals cover the truth in 95 % of windows, and how wide they are beside an ideal one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.intervals import Bounds, Estimate, estimate
from mobius_analysis.ratio import ratio, shared_correlation
from mobius_analysis.verdicts import QUANTILES, name_of
from mobius_infra.benchmarks._statistics_worlds import (
    SHAPES,
    Sampling,
    World,
    draw_pair,
    sample_quantiles,
    truth,
)

__all__ = [
    "COLUMNS",
    "MINUTES",
    "PHIS",
    "REQUESTS",
    "CoverageTask",
    "coverage_tasks",
    "measure_coverage",
]

MINUTES: Final = (10, 30, 60, 360)
REQUESTS: Final = (20, 200, 2000, 20_000)
PHIS: Final = (None, 0.0, 0.3, 0.5, 0.8)
_MANY: Final = 20_000  # windows of that many requests cost ten times the others
_SAMPLINGS: Final[tuple[Sampling, ...]] = ("head", "tail")
_SAMPLED: Final = tuple(product((60, 360), (200, 2000), (None, 0.5, 0.8), _SAMPLINGS))
_TOGETHER: Final = tuple(product((60, 360), (2000,), (0.5, 0.8)))
COLUMNS: Final = ("shape", "phi", "minutes", "requests", "sampling", "together", "of", "quantile")


@dataclass(frozen=True, slots=True)
class CoverageTask:
    """Draw both sides of one world ``repeats`` times; ``together``: in the same minutes, under one load."""

    world: World
    repeats: int
    seed: tuple[int, ...]
    together: bool = False


def coverage_tasks(repeats: int, seed: int) -> list[CoverageTask]:
    """Every world that is looked at; those of very many requests half as often."""
    plain = [
        World(shape, phi, requests, minutes)
        for minutes, requests, phi, shape in product(MINUTES, REQUESTS, PHIS, SHAPES)
    ]
    sampled = [
        World(shape, phi, requests, minutes, sampling)
        for (minutes, requests, phi, sampling), shape in product(_SAMPLED, SHAPES)
    ]
    worlds = [(world, False) for world in (*plain, *sampled)]
    worlds += [(World("lognormal", phi, n, minutes), True) for minutes, n, phi in _TOGETHER]
    return [
        CoverageTask(
            world, max(1, repeats // 2 if world.requests >= _MANY else repeats), (seed, i), together
        )
        for i, (world, together) in enumerate(worlds)
    ]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One window: error of the exact sample quantile or ratio (log), our interval, the truth, a warning note."""

    error: float
    bounds: Bounds
    exact: float
    noted: bool


def measure_coverage(task: CoverageTask) -> list[dict[str, Any]]:
    """One row per quantile, of the single quantiles of both sides and of their ratio."""
    rng = np.random.default_rng(task.seed)
    seen: dict[tuple[str, float], list[_Seen]] = {}
    for _ in range(task.repeats):
        draws = draw_pair(rng, task.world, task.world, together=task.together)
        y, x = (draw.clusters for draw in draws)
        if y is None or x is None:
            continue
        samples = [sample_quantiles(draw, QUANTILES) for draw in draws]
        for i, q in enumerate(QUANTILES):
            above, below = estimate(y, q), estimate(x, q)
            exact = truth(task.world, q)
            for one, sample in zip((above, below), samples, strict=True):
                error = log(sample[i] / exact)
                seen.setdefault(("quantile", q), []).append(
                    _Seen(error, one.bounds, exact, _noted(one))
                )
            both = ratio(above, below, shared_correlation(y, above, x, below)).bounds
            error = log(samples[0][i] / samples[1][i])
            seen.setdefault(("ratio", q), []).append(
                _Seen(error, both, 1.0, _noted(above) or _noted(below))
            )
    return [_row(task, of, q, found) for (of, q), found in seen.items()]


def _noted(found: Estimate) -> bool:
    """Whether a cell's note would warn of this window."""
    return found.drift or found.short or found.independent


def _row(task: CoverageTask, of: str, q: float, found: Sequence[_Seen]) -> dict[str, Any]:
    world = task.world
    key = (world.shape, world.phi, world.minutes, world.requests, world.sampling, task.together)
    known = [(one, low, high) for one in found for low, high in _interval(one.bounds)]
    covered = np.array([low <= one.exact <= high for one, low, high in known], bool)
    misses = sum(not hit and not one.noted for (one, *_), hit in zip(known, covered, strict=True))
    return {
        **dict(zip(COLUMNS, (*key, of, name_of(q)), strict=True)),
        "windows": len(found),
        "intervals": len(known),
        "covered": int(covered.sum()),
        "honest": len(found) - misses,
        "noted": sum(one.noted for one in found),
        "half_width": float(np.mean([log(high / low) / 2 for _, low, high in known]))
        if known
        else None,
        "oracle_half_width": _oracle([one.error for one, *_ in known], covered) if known else None,
    }


def _interval(bounds: Bounds) -> Iterator[tuple[float, float]]:
    if bounds.low is not None and bounds.high is not None:
        yield bounds.low, bounds.high


def _oracle(errors: Sequence[float], covered: NDArray[np.bool_]) -> float:
    """Half width of the ideal interval that covers as often as ours did.

    It has one fixed width around the sample's own quantile, not rounded to buckets, which only somebody can
    choose who knows the sampling distribution: the quantile of the errors at the coverage attained.
    """
    level = min(float(covered.mean()), 1 - 1 / (2 * len(errors)))
    return float(np.quantile(np.abs(errors), level))
