"""Simulated histories of tests and production with a known truth, for the tests and the gate's benchmark.

The truth is that of published comparisons: users get 1.3 x^1.1 where the test measures x (milliseconds,
lognormal around 20 ms with a deviation of 0.6 in logs), so the ratio grows towards the tail; on top of it
releases, runs and minutes differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from mobius_analysis.pair_history import measure_clusters
from mobius_analysis.pairs import Pair, pinball
from mobius_analysis.prediction import Predictor
from mobius_analysis.testing import Requests, clusters_from, drifting_load

__all__ = ["SCENARIOS", "History", "LeftOut", "Scenario", "left_out", "simulate"]

_MEDIAN_MS: Final = 20.0
_SIGMA: Final = 0.6
_MINUTE_DEVIATION: Final = 0.05
_PHI: Final = 0.5
_BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scenario:
    """How much history there is, and what varies in it; deviations are in logs.

    ``drift`` is the step of the ratio's random walk from one release to the next; ``uneven`` how much cells
    differ in their deviation between releases.
    """

    name: str
    cells: int = 6
    releases: int = 10
    runs: int = 1
    test_requests: int = 600
    production_requests: int = 6_000
    between_cells: float = 0.15
    between_releases: float = 0.05
    between_runs: float = 0.02
    builds: float = 0.15
    drift: float = 0.0
    uneven: float = 0.0


SCENARIOS: Final = (
    Scenario("few pairs", cells=3, releases=5),
    Scenario("many pairs", cells=5, releases=20),
    Scenario("several runs a release", cells=5, releases=6, runs=3),
    Scenario("small tests", test_requests=100),
    Scenario("large tests", test_requests=5_000, production_requests=20_000),
    Scenario("drifting", releases=20, between_releases=0.02, drift=0.06),
    Scenario("heteroscedastic", cells=10, releases=12, uneven=0.9),
)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One pair predicted from all others, in three ways, at one level; losses in seconds.

    ``inside`` tells whether production's measured quantile lay within the interval, ``width`` the interval's
    length in logs. ``oracle`` is the loss of production's own quantile, the least there is.
    """

    inside: bool
    width: float
    ours: float
    raw: float
    median_scaling: float
    oracle: float


@dataclass(frozen=True, slots=True)
class History:
    """Pairs of a scenario in the order of time."""

    scenario: Scenario
    pairs: Sequence[Pair] = field(repr=False)


def simulate(scenario: Scenario, rng: np.random.Generator) -> History:
    """Draw a history; measured the way stored requests are, from minute histograms."""
    s = scenario
    cells = rng.normal(0, s.between_cells, s.cells)
    speed = rng.normal(0, 0.4, s.cells)
    scale = np.exp(rng.normal(0, s.uneven, s.cells))
    walk = np.cumsum(rng.normal(0, s.drift, (s.releases, s.cells)), axis=0)
    pairs = []
    for release in range(s.releases):
        own = rng.normal(0, s.between_releases, s.cells) * scale + walk[release]
        build = rng.normal(0, s.builds, s.cells)
        for run in range(s.runs):
            for cell in range(s.cells):
                ratio = cells[cell] + own[cell] + rng.normal(0, s.between_runs)
                start = _BEGIN + timedelta(days=release, hours=run)
                median = _MEDIAN_MS * np.exp(speed[cell] + build[cell])
                test = _requests(rng, start, 8, s.test_requests, median)
                users = _as_users(_requests(rng, start, 60, s.production_requests, median), ratio)
                pairs.append(
                    Pair(
                        subject=("eu-west-1", "shop", "GET", f"/{cell}"),
                        run=f"{release}-{run}",
                        release=f"1.{release}",
                        at=start.timestamp(),
                        test=measure_clusters(clusters_from(test), run=True),
                        production=measure_clusters(clusters_from(users)),
                    )
                )
    return History(s, tuple(pairs))


def _requests(
    rng: np.random.Generator, start: datetime, T: int, count: int, median: float
) -> Requests:
    load = drifting_load(rng, T, _PHI, _MINUTE_DEVIATION)
    minute = np.sort(rng.integers(0, T, count))
    ms = np.exp(np.log(median) + _SIGMA * rng.standard_normal(count) + load[minute])
    return Requests(int(start.timestamp() // 60) + minute, ms / 1000)


def _as_users(test: Requests, ratio: float) -> Requests:
    return replace(test, seconds=1.3 * (test.seconds * 1000) ** 1.1 * np.exp(ratio) / 1000)


def left_out(
    pairs: Sequence[Pair], q: float, *, whole_release: bool = False, future: bool = False
) -> Iterator[LeftOut]:
    """Predict every pair from a history in which its run (or its release) never happened, all fitted anew.

    ``future``: only from earlier runs, from the fifth release on. Median scaling is the test's quantile times
    the median ratio of the medians of the same cell.
    """
    groups = sorted({(p.release if whole_release or future else p.run) for p in pairs})
    for group in groups:
        gone = [p for p in pairs if (p.release if whole_release or future else p.run) == group]
        begin = min(p.at for p in gone)
        rest = [p for p in pairs if p not in gone and (not future or p.at < begin)]
        if future and len({p.release for p in rest}) < 4:
            continue
        predictor = Predictor(rest)
        for pair in gone:
            made = _judge(predictor, rest, pair, q)
            if made is not None:
                yield made


def _judge(predictor: Predictor, rest: Sequence[Pair], pair: Pair, q: float) -> LeftOut | None:
    found = predictor.predict(pair.subject, pair.test, q, pair.release, pair.at)
    medians = [p.production.log(0.5) - p.test.log(0.5) for p in rest if p.subject == pair.subject]
    if found is None or found.bounds.low is None or found.bounds.high is None or not medians:
        return None
    test = pair.test.quantiles[q].value
    actual = pair.production.quantiles[q].value
    losses = [
        pinball(pair.production, value, q)
        for value in (found.bounds.value, test, test * float(np.exp(np.median(medians))), actual)
    ]
    ours, raw, scaled, oracle = (np.nan if loss is None else loss for loss in losses)
    inside = found.bounds.low <= actual <= found.bounds.high
    width = float(np.log(found.bounds.high / found.bounds.low))
    return LeftOut(inside, width, ours, raw, scaled, oracle)
