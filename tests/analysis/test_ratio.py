"""Ratios of two quantiles: MOVER, the covariance of shared minutes, equivalence."""

from __future__ import annotations

from datetime import UTC, datetime
from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from mobius_analysis.clusters import Clusters
from mobius_analysis.histogram import HALF_BUCKET
from mobius_analysis.intervals import Bounds, Estimate, estimate, order_statistic_levels
from mobius_analysis.ratio import Ratio, mover, ratio, shared_correlation
from mobius_analysis.testing import Requests, clusters_from, drifting_load, lognormal

START = datetime(2026, 3, 1, tzinfo=UTC)


def order_statistics(x: np.ndarray, q: float, confidence: float) -> Bounds:
    levels = order_statistic_levels(len(x), q, confidence)
    assert levels is not None
    low, high = (float(x[round(level * len(x)) - 1]) for level in levels)
    return Bounds(float(np.quantile(x, q)), low, high)


def test_mover_by_hand() -> None:
    y, x = Bounds(0.3, 0.28, 0.33), Bounds(0.2, 0.19, 0.215)
    found = mover(y, x)
    d = log(0.3 / 0.2)
    assert found.value == pytest.approx(1.5)
    assert found.low == pytest.approx(exp(d - np.hypot(log(0.3 / 0.28), log(0.215 / 0.2))))
    assert found.high == pytest.approx(exp(d + np.hypot(log(0.33 / 0.3), log(0.2 / 0.19))))


def test_a_side_without_an_interval_leaves_the_ratio_without_one() -> None:
    assert mover(Bounds(0.3), Bounds(0.2, 0.19, 0.21)) == Bounds(0.3 / 0.2)


def estimate_of(value: float, half: float, freedom: float) -> Estimate:
    """An estimate whose interval is ``half`` wide in logs on each side, besides the rounding."""
    reach = np.exp(half) * HALF_BUCKET
    bounds = Bounds(value, value / reach, value * reach)
    return Estimate(
        bounds, bounds, np.empty(0), 1.0, drift=False, missing=0, independent=False, freedom=freedom
    )


def test_a_ratio_has_the_degrees_of_freedom_of_both_its_variances() -> None:
    x = estimate_of(1.0, 0.1, 4)
    found = ratio(estimate_of(1.0, 0.1, 4), x).bounds
    assert found.high is not None
    one = 0.1 * student.ppf(0.975, 8) / student.ppf(0.975, 4) + log(HALF_BUCKET)
    assert log(found.high) == pytest.approx(np.hypot(one, one))
    # Beside a side that is known far better, the other's own count; and requests alone have endless ones.
    alone = ratio(estimate_of(1.0, 1e-4, 50), x).bounds
    assert alone.high is not None
    assert log(alone.high) == pytest.approx(0.1 + log(HALF_BUCKET), abs=0.002)
    sure = estimate_of(1.0, 0.1, inf)
    assert ratio(sure, sure).bounds == mover(sure.bounds, sure.bounds)
    nothing = estimate_of(1.0, 0.0, 4)
    assert ratio(nothing, nothing).bounds == mover(nothing.bounds, nothing.bounds)


positive = st.floats(1e-3, 10)
widths = st.floats(1.0, 3)


@given(positive, widths, widths, positive, widths, widths, st.floats(-1, 1))
def test_a_ratio_is_ordered_and_its_inverse_is_the_other_way_round(  # noqa: PLR0917 - hypothesis fills them
    a: float, al: float, au: float, b: float, bl: float, bu: float, r: float
) -> None:
    y, x = Bounds(a, a / al, a * au), Bounds(b, b / bl, b * bu)
    there, back = mover(y, x, r), mover(x, y, r)
    assert there.low is not None
    assert there.high is not None
    assert back.high is not None
    assert there.low <= there.value * (1 + 1e-9)
    assert there.value <= there.high * (1 + 1e-9)
    assert back.high == pytest.approx(1 / there.low)
    # A correlation never takes away the rounding of the histogram.
    assert there.high / there.value >= min(HALF_BUCKET, max(au, bl)) * (1 - 1e-9)


# Share declared equivalent for independent lognormal samples of sigma .6; the reference itself was
# simulated with 300 repetitions (theory says .62 where it says .69).
@pytest.mark.parametrize(
    ("q", "n", "true_ratio", "expected"),
    [
        (0.5, 500, 1.0, 0.24),
        (0.5, 500, 1.05, 0.13),
        (0.5, 500, 1.1, 0.050),
        (0.5, 500, 1.15, 0.003),
        (0.5, 2000, 1.0, 0.97),
        (0.5, 2000, 1.05, 0.69),
        (0.5, 2000, 1.1, 0.043),
        (0.5, 2000, 1.15, 0.0),
        (0.95, 2000, 1.0, 0.50),
        (0.95, 2000, 1.05, 0.25),
        (0.95, 2000, 1.1, 0.047),
        (0.95, 2000, 1.15, 0.003),
        (0.95, 10_000, 1.0, 1.0),
        (0.95, 10_000, 1.05, 0.82),
        (0.95, 10_000, 1.1, 0.057),
        (0.95, 10_000, 1.15, 0.0),
    ],
)
def test_the_power_of_the_equivalence_test(
    q: float, n: int, true_ratio: float, expected: float
) -> None:
    rng = np.random.default_rng(21)
    repeats = 300
    found = 0
    for _ in range(repeats):
        y = np.sort(true_ratio * np.exp(0.6 * rng.standard_normal(n)))
        x = np.sort(np.exp(0.6 * rng.standard_normal(n)))
        inner = mover(order_statistics(y, q, 0.9), order_statistics(x, q, 0.9))
        found += Ratio(inner, inner).equivalent()
    assert found / repeats == pytest.approx(expected, abs=0.12 if 0.1 < expected < 0.9 else 0.045)


def sides(
    rng: np.random.Generator, T: int, *, shared: bool, present: np.ndarray | None = None
) -> tuple[Clusters, Clusters]:
    load = drifting_load(rng, T, 0.6, 0.15)
    other = load if shared else drifting_load(rng, T, 0.6, 0.15)
    y = Requests(*lognormal(rng, START, load, rate=50, median=0.05))
    x = Requests(*lognormal(rng, START, other, rate=30, median=0.05, present=present))
    return clusters_from(y), clusters_from(x)


def correlation(y: Clusters, x: Clusters, q: float = 0.5) -> float:
    return shared_correlation(y, estimate(y, q), x, estimate(x, q))


def test_shared_minutes_narrow_the_ratio_and_it_still_covers() -> None:
    rng = np.random.default_rng(22)
    hits, found, narrower = 0, [], []
    for _ in range(60):
        y, x = sides(rng, 360, shared=True)
        r = correlation(y, x)
        with_it, without = (ratio(estimate(y, 0.5), estimate(x, 0.5), c).bounds for c in (r, 0.0))
        assert with_it.low is not None
        assert with_it.high is not None
        assert without.low is not None
        hits += with_it.low <= 1 <= with_it.high
        found.append(r)
        narrower.append(log(with_it.value / with_it.low) / log(without.value / without.low))
    assert np.mean(found) > 0.4
    assert np.mean(narrower) < 0.9
    assert hits >= 57


def test_minutes_that_only_look_alike_by_chance_do_not_narrow_it() -> None:
    rng = np.random.default_rng(23)
    found = [correlation(*sides(rng, 60, shared=False)) for _ in range(60)]
    assert np.mean(np.array(found) > 0.1) <= 0.1
    assert abs(np.mean(found)) < 0.05


def test_no_common_minutes_no_correlation() -> None:
    rng = np.random.default_rng(24)
    y, x = sides(rng, 120, shared=True)
    odd, even = y.minutes % 2 == 1, x.minutes % 2 == 0
    y = Clusters(y.minutes[odd], y.buckets, y.counts[odd], y.requests, y.squared)
    x = Clusters(x.minutes[even], x.buckets, x.counts[even], x.requests, x.squared)
    assert correlation(y, x) == 0
    few = Clusters(x.minutes[:3], x.buckets, x.counts[:3], x.requests, x.squared)
    assert correlation(x, few) == 0


def test_the_p_value_agrees_with_the_interval() -> None:
    for value in (0.7, 0.9, 1.0, 1.12, 1.4):
        for width in (1.01, 1.05, 1.2, 1.5):
            found = Ratio(
                Bounds(value, value / width, value * width),
                Bounds(value, value / width, value * width),
            )
            assert (found.p_beyond() < 0.05) == (found.above() or found.below())
    assert Ratio(Bounds(2.0), Bounds(2.0)).p_beyond() == 1
