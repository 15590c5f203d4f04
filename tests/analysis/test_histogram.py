"""The rollup's histogram: bounds, mid points, merging, quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_analysis.histogram import (
    BASE,
    HALF_BUCKET,
    bucket_bounds,
    bucket_of,
    level_index,
    merge,
    midpoint,
    quantile,
)

latencies = st.lists(st.floats(1e-7, 3600.0), min_size=1, max_size=200)
levels = st.floats(0.0, 1.0)


def histogram_of(seconds: list[float]) -> dict[int, float]:
    found, counts = np.unique(bucket_of(seconds), return_counts=True)
    return {int(b): float(n) for b, n in zip(found, counts, strict=True)}


def quantile_of(histogram: dict[int, float], q: float, *, unit: bool = True) -> float:
    return quantile(np.array(list(histogram)), np.array(list(histogram.values())), q, unit=unit)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(1.0, -1), (1.0000001, 0), (2.0, 31), (0.5, -33), (0.001, -319), (1e-9, -957)],
)
def test_a_latency_is_in_the_bucket_that_the_sql_puts_it_in(seconds: float, bucket: int) -> None:
    assert bucket_of([seconds]).tolist() == [bucket]


def test_the_relative_error_is_that_of_scale_5() -> None:
    assert pytest.approx(0.01083, abs=1e-5) == (BASE - 1) / (BASE + 1)
    assert pytest.approx(1.01095, abs=1e-5) == HALF_BUCKET


@given(st.floats(1e-9, 1e5))
def test_a_mid_point_is_within_the_relative_error_and_half_a_bucket_of_its_latency(
    x: float,
) -> None:
    index = bucket_of([x])
    lower, upper = bucket_bounds(index)
    # Rounding at a bound may put a latency one bucket aside, never further.
    assert lower[0] * (1 - 1e-12) <= x <= upper[0] * (1 + 1e-12)
    middle = midpoint(index)[0]
    assert abs(middle - x) / x <= (BASE - 1) / (BASE + 1) + 1e-12
    assert middle / HALF_BUCKET <= x * (1 + 1e-12)
    assert x <= middle * HALF_BUCKET * (1 + 1e-12)


@given(latencies, latencies)
def test_merged_histograms_are_the_histogram_of_the_union(a: list[float], b: list[float]) -> None:
    assert merge(histogram_of(a), histogram_of(b)) == histogram_of(a + b)


@given(latencies, levels)
def test_a_quantile_is_within_the_bucket_error_of_the_exact_type_7(
    x: list[float], q: float
) -> None:
    exact = float(np.quantile(x, q, method="linear"))
    assert quantile_of(histogram_of(x), q) == pytest.approx(exact, rel=0.010831)


@given(latencies, levels, levels)
def test_quantiles_rise_with_the_level(x: list[float], p: float, q: float) -> None:
    low, high = sorted((p, q))
    assert quantile_of(histogram_of(x), low) <= quantile_of(histogram_of(x), high) * (1 + 1e-12)


@given(latencies, levels, st.floats(0.1, 50))
def test_a_hajek_quantile_does_not_depend_on_the_size_of_the_weights(
    x: list[float], q: float, by: float
) -> None:
    histogram = histogram_of(x)
    heavier = {b: w * by for b, w in histogram.items()}
    assert quantile_of(heavier, q, unit=False) == quantile_of(histogram, q, unit=False)


def test_the_reference_sample_gives_its_weighted_quantiles() -> None:
    # 20 latencies with the weights 1..20: inverted_cdf at .5, .9, .95 is 41, 120, 410 ms.
    x = [12, 15, 15, 18, 20, 21, 22, 25, 27, 30, 31, 33, 38, 41, 47, 52, 66, 81, 120, 410]
    histogram = merge(
        *({int(bucket_of([v / 1000])[0]): float(w)} for w, v in enumerate(x, start=1))
    )
    for q, exact in ((0.5, 0.041), (0.9, 0.120), (0.95, 0.410)):
        assert quantile_of(histogram, q, unit=False) == pytest.approx(exact, rel=0.010831)


def test_the_reference_sample_gives_its_type_7_quantiles() -> None:
    x = [12, 15, 15, 18, 20, 21, 22, 25, 27, 30, 31, 33, 38, 41, 47, 52, 66, 81, 120, 410]
    histogram = histogram_of([v / 1000 for v in x])
    for q, exact in ((0.5, 0.0305), (0.9, 0.0849), (0.95, 0.1345), (0.99, 0.3549)):
        assert quantile_of(histogram, q) == pytest.approx(exact, rel=0.010831)


def test_a_level_that_floats_just_miss_is_reached() -> None:
    cumulative = np.cumsum(
        np.full(20, 0.1)
    )  # ends at 2.000...04, so that 0.1 looks like less than 5 %
    assert cumulative[-1] * 0.05 > cumulative[0]
    assert [level_index(cumulative, k / 20) for k in range(1, 21)] == list(range(20))
