"""Change points: the published reference values, and steps with a known place and size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from mobius_analysis.change_points import change_points
from mobius_analysis.change_votes import VOTERS, compare_levels, find_steps
from mobius_analysis.testing import drifting_load

REFERENCE = Path(__file__).parents[1] / "data/changes/tigerbeetle.json"
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def tigerbeetle() -> list[float]:
    values: list[float] = json.loads(REFERENCE.read_text())
    assert (len(values), sum(values)) == (365, 10_218_214)
    return values


@pytest.mark.parametrize(
    ("p", "magnitude", "expected"),
    [
        (0.01, 0.05, (15, 71)),
        (0.05, 0.05, (15, 71)),
        (0.1, 0.05, (10, 11, 15, 71, 363)),
        (1e-4, 0.0, (71, 95, 117, 131, 142, 148, 192, 212)),
        (1e-5, 0.0, (71, 95, 131, 192, 212)),
    ],
)
def test_apache_otavas_reference_values(
    tigerbeetle: list[float], p: float, magnitude: float, expected: tuple[int, ...]
) -> None:
    assert change_points(tigerbeetle, window=30, p=p, magnitude=magnitude) == expected


def test_one_step_is_one_change_at_the_step() -> None:
    step = [15.0] * 50 + [100.0] * 50
    assert change_points(step) == (50,)
    (found,) = find_steps(np.log(step))
    assert (found.index, found.first, found.last) == (50, 50, 50)
    assert found.comparison.ratio.value == pytest.approx(100 / 15)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [3.0] * 200])
def test_what_has_no_level_to_change_has_no_change(values: list[float]) -> None:
    assert change_points(values) == ()
    assert find_steps(np.array(values)) == ()


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        change_points([1.0, float("nan")])
    with pytest.raises(ValueError, match="window"):
        change_points([1.0, 2.0], window=1)


def series(seed: int, n: int, phi: float, deviation: float = 0.05) -> Floats:
    return drifting_load(np.random.default_rng(seed), n, phi, deviation)


def test_one_outlier_is_no_change() -> None:
    values = series(3, 168, 0.3)
    values[100] += 3.0
    assert find_steps(values) == ()


def test_each_of_several_steps_is_found_with_its_size_and_place() -> None:
    values = series(1, 168, 0.3)
    values[60:120] += np.log(1.5)
    values[120:] += np.log(1.2)
    up, down = find_steps(values)
    for step, place, ratio in ((up, 60, 1.5), (down, 120, 1.2 / 1.5)):
        bounds = step.comparison.ratio
        assert bounds.low is not None
        assert bounds.high is not None
        assert bounds.low < ratio < bounds.high
        assert step.first <= place <= step.last
        assert sum(p < 0.01 for p in step.comparison.p.values()) >= 3


def test_a_step_below_the_floor_is_nobodys_business() -> None:
    values = series(2, 168, 0.3, 0.01)
    values[84:] += np.log(1.06)
    assert find_steps(values) == ()
    assert len(find_steps(values, floor=1.04)) == 1


@pytest.mark.parametrize(("n", "phi"), [(24, 0.0), (168, 0.0), (168, 0.6), (168, 0.8)])
def test_a_series_that_merely_drifts_seldom_has_a_step(n: int, phi: float) -> None:
    # Nominal 5 % of series; the least effect keeps it far below where noise is small.
    found = sum(bool(find_steps(series(seed, n, phi, 0.1))) for seed in range(80))
    assert found <= 6


def test_the_place_of_a_step_lies_in_its_set() -> None:
    held = found = 0
    for seed in range(40):
        values = series(seed, 120, 0.5, 0.1)
        values[70:] += np.log(1.3)
        for step in find_steps(values):
            if abs(step.index - 70) <= 10:
                found += 1
                held += step.first <= 70 <= step.last
    assert found >= 35
    assert held >= 0.9 * found


# STATISTICS of two samples that scipy computes too; without autocorrelation every point counts.
X = np.array([12, 15, 15, 18, 20, 21, 22, 25, 27, 30, 31, 33, 38, 41, 47, 52, 66, 81, 120, 410.0])


def test_the_votes_are_those_of_scipy_where_points_are_independent() -> None:
    rng = np.random.default_rng(4)
    before, after = rng.permutation(X), rng.permutation(np.round(1.15 * X + 2, 2))
    found = compare_levels(before, after)
    assert found.rho == 0.0
    expected = {
        "student": scipy.stats.ttest_ind(before, after).pvalue,
        "welch": scipy.stats.ttest_ind(before, after, equal_var=False).pvalue,
        "mann_whitney": scipy.stats.mannwhitneyu(before, after, method="asymptotic").pvalue,
        "kolmogorov_smirnov": scipy.special.kolmogorov(np.sqrt(10) * 0.2),
        "cramer_von_mises": scipy.stats.cramervonmises_2samp(
            before, after, method="asymptotic"
        ).pvalue,
    }
    assert set(found.p) == set(VOTERS)
    for voter in VOTERS:
        assert found.p[voter] == pytest.approx(expected[voter], rel=0.02)
    assert expected["mann_whitney"] == pytest.approx(0.33008620, abs=1e-6)


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_two_halves_of_one_drifting_series_seldom_differ(phi: float) -> None:
    repeats = 200
    flagged = dict.fromkeys(VOTERS, 0)
    for seed in range(repeats):
        values = series(seed, 120, phi)
        for voter, p in compare_levels(values[:60], values[60:]).p.items():
            flagged[voter] += p < 0.05
    assert all(count <= 0.1 * repeats for count in flagged.values()), flagged
    assert 0.01 * repeats <= flagged["mann_whitney"]
