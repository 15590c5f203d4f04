"""The demo shop's history as pairs of test and production: the same draws that `mobius-rum up` pushes, without a store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from mobius_analysis.pair_history import measure
from mobius_analysis.pairs import Pair
from mobius_analysis.testing import Requests, loaded, rollup_rows
from mobius_infra.demo import shop
from mobius_infra.demo.history import Period
from mobius_infra.demo.history_draw import OLD_RELEASE, RELEASE, TestRun, draw_requests, test_runs
from mobius_infra.demo.history_draw import Requests as Drawn

__all__ = ["demo_pairs"]

_END_NS: Final = 1_772_366_400_000_000_000  # 2026-03-01T12:00Z
_AROUND_MINUTES: Final = int(timedelta(hours=1).total_seconds() // 60)


def demo_pairs(seed: int, hours: float = 24.0) -> tuple[Pair, ...]:
    """Pairs of all regions and tested endpoints, at the server, as the gate makes them from the store."""
    period = Period.before(_END_NS, hours)
    return tuple(
        pair
        for number, region in enumerate(shop.REGIONS)
        for pair in _region(region, period, np.random.default_rng([seed, number]))
    )


def _region(region: str, period: Period, rng: np.random.Generator) -> Iterator[Pair]:
    span = (period.start_ns, period.end_ns)
    runs = test_runs(region, *span, period.release_ns, "bench")
    drawn = list(draw_requests(region, span, period.release_ns, runs, rng))
    for tests in drawn:
        if tests.tests:
            users = next(d for d in drawn if not d.tests and d.endpoint == tests.endpoint)
            yield from _endpoint(tests, users, runs)


def _endpoint(tests: Drawn, users: Drawn, runs: list[TestRun]) -> Iterator[Pair]:
    own, theirs = _frame(tests), _frame(users)
    subject = (
        tests.region,
        shop.SERVICE_STOREFRONT,
        tests.endpoint.method,
        tests.endpoint.route,
    )
    for number, run in enumerate(runs):
        first = run.start_ns // 60_000_000_000
        test = measure(own.filter(pl.col("test_run") == str(number)), run=True)
        near = pl.col("minute").is_between(first - _AROUND_MINUTES, first + 4 + _AROUND_MINUTES)
        production = measure(theirs.filter(near & (pl.col("version") == run.version)))
        if test is not None and production is not None:
            yield Pair(subject, run.run, run.version, run.start_ns / 1e9, test, production)


def _frame(drawn: Drawn) -> pl.DataFrame:
    """Minute histograms of answered requests, by release and test run."""
    answered = drawn.status < 500
    groups = []
    for released in (False, True):
        for run in np.unique(drawn.run):
            chosen = answered & (drawn.released == released) & (drawn.run == run)
            if chosen.any():
                groups.append(
                    Requests(
                        drawn.start_ns[chosen] // 60_000_000_000,
                        drawn.storefront_ms[chosen] / 1000,
                        version=RELEASE if released else OLD_RELEASE,
                        test_run=str(run),
                    )
                )
    return loaded(rollup_rows(groups))
