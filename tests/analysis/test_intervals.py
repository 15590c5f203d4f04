"""Intervals of one quantile: least n, coverage in simulations with fixed seeds, and what they must admit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mobius_analysis.clusters import (
    Clusters,
    drift_bound,
    ewc_count,
    ewc_terms,
    lag_one,
    long_run_variance,
    strongest_correlation,
)
from mobius_analysis.histogram import HALF_BUCKET, bucket_of
from mobius_analysis.intervals import (
    Bounds,
    estimate,
    least_requests,
    order_statistic_levels,
    wilson,
)
from mobius_analysis.testing import Requests, clusters_from, drifting_load, lognormal

START = datetime(2026, 3, 1, tzinfo=UTC)
MEDIAN = 0.05
SIGMA = 0.6
LOAD = 0.15


def draw(rng: np.random.Generator, T: int, rate: float, phi: float, load: float = LOAD) -> Clusters:
    minutes, seconds = lognormal(
        rng, START, drifting_load(rng, T, phi, load), rate=rate, median=MEDIAN, sigma=SIGMA
    )
    return clusters_from(Requests(minutes, seconds))


def truth(q: float, load: float = LOAD) -> float:
    return float(MEDIAN * np.exp(np.hypot(load, SIGMA) * norm.ppf(q)))


def covers(bounds: Bounds, value: float) -> bool:
    return bounds.low is not None and bounds.high is not None and bounds.low <= value <= bounds.high


@pytest.mark.parametrize(
    ("q", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688), (0.1, 36)]
)
def test_the_least_number_of_requests(q: float, n: int) -> None:
    assert least_requests(q) == n
    assert order_statistic_levels(n - 1, q, 0.95) is None
    levels = order_statistic_levels(n, q, 0.95)
    assert levels is not None
    assert 0 < levels[0] < q < levels[1] <= 1


@pytest.mark.parametrize(("q", "n"), [(0.5, 5), (0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2995)])
def test_the_least_number_of_requests_for_one_side(q: float, n: int) -> None:
    assert least_requests(q, 0.90) == n


@given(st.integers(6, 3000), st.sampled_from([0.05, 0.5, 0.9, 0.95]))
def test_order_statistics_cover_at_least_as_promised_and_no_narrower_pair_does(
    n: int, q: float
) -> None:
    from scipy.stats import binom

    levels = order_statistic_levels(n, q, 0.95)
    if levels is None:
        return
    r, s = (round(level * n) for level in levels)
    assert binom.cdf(s - 1, n, q) - binom.cdf(r - 1, n, q) >= 0.95
    assert binom.cdf(r - 1, n, q) <= 0.025 < binom.cdf(r, n, q)
    assert s == n or binom.cdf(s - 2, n, q) < 0.975


def test_the_number_of_cosine_terms() -> None:
    assert [ewc_count(T) for T in (2, 4, 5, 20, 60, 360, 1440)] == [1, 3, 4, 4, 6, 20, 52]


def test_ewc_terms_are_the_cosine_sums_of_the_paper() -> None:
    z = np.random.default_rng(1).standard_normal(60)
    t = np.arange(1, 61)
    by_hand = [
        np.sqrt(2 / 60) * np.sum(np.cos(np.pi * j * (t - 0.5) / 60) * z) for j in range(1, 7)
    ]
    assert ewc_terms(z) == pytest.approx(by_hand)


def test_minutes_that_do_not_follow_one_another_have_the_variance_of_the_paper() -> None:
    z = np.tile([1.0, -1.0], 30)
    assert long_run_variance(z, 0.0) == pytest.approx(60 / 6 * np.sum(np.square(ewc_terms(z))))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_the_long_run_variance_is_that_of_the_process(phi: float) -> None:
    # The sum of T minutes of AR(1) with deviation 1 varies by about T (1 + phi) / (1 - phi).
    rng = np.random.default_rng(3)
    T = 360
    found = []
    for _ in range(300):
        z = drifting_load(rng, T, phi, 1.0)
        z -= z.mean()
        found.append(long_run_variance(z, max(lag_one(z), 0.0)) / T)
    assert np.median(found) == pytest.approx((1 + phi) / (1 - phi), rel=0.1)


def test_minutes_are_prewhitened_by_what_so_many_can_show() -> None:
    assert [strongest_correlation(T) for T in (3, 4, 16, 100)] == [0, 0, 0.5, 0.8]
    assert drift_bound(100) == pytest.approx(0.9)
    clusters = draw(np.random.default_rng(7), 36, 200, 0.95)
    assert estimate(clusters, 0.5).rho <= strongest_correlation(36) < 0.95


def test_the_correlation_of_neighbours_is_that_of_the_process() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(400):
        z = drifting_load(rng, 40, 0.6, 1.0)
        found.append(lag_one(z - z.mean()))
    # Without the correction the mean would be 0.6 - (1 + 1.8) / 40 = 0.53.
    assert np.mean(found) == pytest.approx(0.6, abs=0.03)


def test_the_chance_of_requests_does_not_hide_the_correlation_of_minutes() -> None:
    rng = np.random.default_rng(6)
    seen, corrected = [], []
    for _ in range(200):
        z = drifting_load(rng, 360, 0.8, 1.0) + 0.8 * rng.standard_normal(360)
        z -= z.mean()
        seen.append(lag_one(z))
        corrected.append(lag_one(z, 360 * 0.8**2))
    assert np.mean(seen) < 0.55
    assert np.mean(corrected) == pytest.approx(0.8, abs=0.04)
    # However much noise is expected, no more than half of what there is counts as noise.
    assert lag_one(z, 1e9) == pytest.approx(2 * lag_one(z))


def test_deviations_of_minutes_sum_to_nothing_and_follow_the_minutes() -> None:
    clusters = draw(np.random.default_rng(2), 30, 50, 0.5)
    for q in (0.5, 0.95):
        z = clusters.deviations(q)
        assert z.shape == (30,)
        assert z.sum() == pytest.approx(0, abs=1e-6)
        # A minute with slower requests than the rest has fewer below the quantile.
        slow = int(np.argmin(z / clusters.counts.sum(axis=1)))
        below = clusters.counts[
            slow, clusters.buckets <= bucket_of([clusters.quantile(q)])[0]
        ].sum()
        assert below / clusters.counts[slow].sum() < q


# Coverage. 60 minutes at 200 a minute, phi .5: taken as independent .31, EWC about .92 or more.
REPEATS = 200


def share_covered(T: int, rate: float, phi: float, *, q: float, seed: int) -> float:
    rng = np.random.default_rng(seed)
    return float(
        np.mean(
            [covers(estimate(draw(rng, T, rate, phi), q).bounds, truth(q)) for _ in range(REPEATS)]
        )
    )


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_an_interval_covers_where_minutes_follow_one_another(q: float) -> None:
    assert share_covered(60, 50, 0.5, q=q, seed=11) >= 0.91


def test_an_interval_covers_where_minutes_drift() -> None:
    assert share_covered(60, 50, 0.8, q=0.5, seed=12) >= 0.87


def test_taking_requests_as_independent_does_not_cover() -> None:
    # So that the tests above can fail: the textbook interval on the same data.
    rng = np.random.default_rng(13)
    hits = 0
    for _ in range(100):
        clusters = draw(rng, 60, 200, 0.5)
        levels = order_statistic_levels(clusters.requests, 0.5, 0.95)
        assert levels is not None
        low, high = (clusters.at_level(level) for level in levels)
        hits += low / HALF_BUCKET <= truth(0.5) <= high * HALF_BUCKET
    assert hits / 100 < 0.6


def test_short_bursts_of_a_test_are_clusters_and_their_gaps_are_not() -> None:
    # Two minutes of every 15 for six hours, drifting with phi .8 in between.
    rng = np.random.default_rng(14)
    present = np.arange(360) % 15 < 2
    hits = []
    for _ in range(REPEATS):
        minutes, seconds = lognormal(
            rng,
            START,
            drifting_load(rng, 360, 0.8, LOAD),
            rate=30,
            median=MEDIAN,
            sigma=SIGMA,
            present=present,
        )
        clusters = clusters_from(Requests(minutes, seconds))
        assert len(clusters.minutes) <= 48
        hits.append(covers(estimate(clusters, 0.5).bounds, truth(0.5)))
    assert np.mean(hits) >= 0.91


def test_an_interval_is_not_merely_wide() -> None:
    # An oracle that knows the process: the deviation of the mean of AR(1) minutes, and of the requests.
    rng = np.random.default_rng(15)
    T, rate, phi = 360, 50, 0.5
    minutes = LOAD * np.sqrt((1 + phi) / (1 - phi) / T)
    requests = np.hypot(LOAD, SIGMA) * np.sqrt(np.pi / 2 / (T * rate))
    oracle = 1.96 * np.hypot(minutes, requests)
    widths = []
    for _ in range(50):
        bounds = estimate(draw(rng, T, rate, phi), 0.5).bounds
        assert bounds.low is not None
        assert bounds.high is not None
        widths.append(np.log(bounds.high / bounds.low) / 2)
    assert np.mean(widths) < 1.4 * oracle + np.log(HALF_BUCKET)


# What it must admit.


def test_a_window_that_is_too_short_for_its_drift_says_so() -> None:
    rng = np.random.default_rng(16)
    ramp = np.linspace(-1, 1, 60)
    minutes, seconds = lognormal(rng, START, ramp, rate=200, median=MEDIAN, sigma=0.2)
    assert estimate(clusters_from(Requests(minutes, seconds)), 0.5).drift
    assert not estimate(draw(rng, 60, 50, 0.5), 0.5).drift
    assert lag_one(np.zeros(30)) == 0


def test_too_few_requests_have_a_value_and_no_interval() -> None:
    rng = np.random.default_rng(17)
    minutes, seconds = lognormal(rng, START, np.zeros(40), rate=1, median=MEDIAN)
    clusters = clusters_from(Requests(minutes[:40], seconds[:40]))
    p50, p95 = estimate(clusters, 0.5), estimate(clusters, 0.95)
    assert p50.bounds.low is not None
    assert p95.bounds.value > 0
    assert (p95.bounds.low, p95.bounds.high) == (None, None)
    assert p95.missing >= 72 - 40


def test_few_minutes_take_the_wider_interval() -> None:
    # Minutes that differ; requests taken as independent would be too sure.
    minutes = int(START.timestamp() // 60) + np.repeat(np.arange(10), 100)
    seconds = np.repeat(0.05 * 1.05 ** np.arange(10), 100) * np.exp(
        0.6 * np.random.default_rng(4).standard_normal(1000)
    )
    clusters = clusters_from(Requests(minutes, seconds))
    found = estimate(clusters, 0.5)
    levels = order_statistic_levels(1000, 0.5, 0.95)
    assert levels is not None
    assert found.bounds.low is not None
    assert found.bounds.high is not None
    independent = [clusters.at_level(level) for level in levels]
    assert found.bounds.low < 0.97 * independent[0]
    assert found.bounds.high > 1.03 * independent[1]
    assert not found.independent


def test_two_minutes_are_no_clusters_and_it_says_so() -> None:
    minutes = int(START.timestamp() // 60) + np.repeat(np.arange(2), 100)
    found = estimate(clusters_from(Requests(minutes, np.linspace(0.04, 0.06, 200))), 0.5)
    assert found.independent
    assert found.bounds.low is not None


def test_equal_latencies_give_the_bucket_itself() -> None:
    minutes = int(START.timestamp() // 60) + np.repeat(np.arange(30), 10)
    bounds = estimate(clusters_from(Requests(minutes, np.full(300, 0.05))), 0.5).bounds
    assert bounds.low == pytest.approx(bounds.value / HALF_BUCKET)
    assert bounds.high == pytest.approx(bounds.value * HALF_BUCKET)
    assert covers(bounds, 0.05)


def test_the_sum_of_weights_is_never_the_number_of_requests() -> None:
    rng = np.random.default_rng(18)
    minutes, seconds = lognormal(rng, START, np.zeros(60), rate=5, median=MEDIAN)
    plain = clusters_from(Requests(minutes, seconds))
    sampled = clusters_from(Requests(minutes, seconds, weight=100.0))
    assert not sampled.unit
    assert sampled.weight == pytest.approx(100 * plain.weight)
    assert sampled.effective == pytest.approx(plain.effective)
    a, b = estimate(plain, 0.9).bounds, estimate(sampled, 0.9).bounds
    assert (a.low, a.high) == pytest.approx((b.low, b.high))
    assert replace(sampled, squared=sampled.weight**2).effective == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80), st.floats(0.5, 30), st.floats(0, 0.9))
def test_intervals_are_ordered_nested_and_rise_with_the_level(
    seed: int, T: int, rate: float, phi: float
) -> None:
    rng = np.random.default_rng(seed)
    minutes, seconds = lognormal(
        rng, START, drifting_load(rng, T, phi, 0.3), rate=rate, median=MEDIAN
    )
    if len(minutes) == 0:
        return
    clusters = clusters_from(Requests(minutes, seconds))
    last = 0.0
    for q in (0.1, 0.5, 0.9, 0.95, 0.99):
        found = estimate(clusters, q)
        assert found.bounds.value >= last * (1 - 1e-12)
        last = found.bounds.value
        if found.bounds.low is None or found.bounds.high is None:
            assert found.missing > 0
            continue
        assert found.missing == 0
        assert found.bounds.low < found.bounds.value < found.bounds.high
        assert found.inner.low is not None
        assert found.inner.high is not None
        assert found.bounds.low <= found.inner.low
        assert found.inner.high <= found.bounds.high


def test_wilson() -> None:
    # Newcombe 1998, table I: 15 of 148 is .0624 to .1605.
    found = wilson(15, 148)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 0) is None
    nothing, everything = wilson(0, 20), wilson(20, 20)
    assert nothing is not None
    assert everything is not None
    assert (nothing.value, nothing.low) == (0, 0)
    assert nothing.high == pytest.approx(0.1611, abs=1e-4)
    assert everything.low == pytest.approx(0.8389, abs=1e-4)
    assert (everything.value, everything.high) == (1, 1)
