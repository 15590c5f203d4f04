"""Lead and lag: what is there is found, and what is not there seldom is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mobius_analysis.lead_lag import lead_lag, prewhiten
from mobius_analysis.seasons import season_of, without_season
from mobius_analysis.testing import drifting_load

Floats = NDArray[np.float64]


def pair(seed: int, phi: float, *, n: int = 300, lead: int = 3) -> tuple[Floats, Floats]:
    """Two noisy views of one series; the first sees it ``lead`` points sooner."""
    rng = np.random.default_rng(seed)
    common = drifting_load(rng, n + lead, phi, 1.0)
    noise = 0.3 * np.sqrt(1 - phi**2) * rng.standard_normal((2, n))
    return common[lead:] + noise[0], common[:n] + noise[1]


@pytest.mark.parametrize("phi", [0.5, 0.8, 0.95])
def test_a_true_lead_of_three_is_found_in_every_run(phi: float) -> None:
    assert [lead_lag(*pair(seed, phi)).lead for seed in range(20)] == [3] * 20
    tests, users = pair(1, phi)
    assert lead_lag(users, tests).lead == -3


@pytest.mark.parametrize("phi", [0.8, 0.95])
def test_series_that_have_nothing_in_common_seldom_seem_to(phi: float) -> None:
    repeats = 150
    rng = np.random.default_rng(7)
    naive = found = 0
    for _ in range(repeats):
        x, y = (drifting_load(rng, 300, phi, 1.0) for _ in range(2))
        result = lead_lag(x, y)
        found += result.lead is not None
        assert result.chance is not None
        naive += max(abs(np.corrcoef(x[: 300 - k], y[k:])[0, 1]) for k in range(13)) > result.chance
    assert 0.01 * repeats < found < 0.09 * repeats
    # What prewhitening is for: the same bound, asked of the series themselves.
    assert naive > 0.25 * repeats


def test_too_few_common_points_cannot_tell() -> None:
    x, y = pair(1, 0.5, n=30)
    assert (lead_lag(x, y).lead, lead_lag(x, y).p, lead_lag(x, y).common) == (None, None, 30)
    x, y = pair(1, 0.5)
    x[::2], y[1::2] = np.nan, np.nan
    assert lead_lag(x, np.full(300, np.nan)).common == 0
    assert lead_lag(np.full(300, np.nan), y).p is None


def test_gaps_are_left_out_and_not_filled() -> None:
    x, y = pair(1, 0.8, n=600)
    for series, first in ((x, 50), (y, 200)):
        series[first : first + 40] = np.nan
    found = lead_lag(x, y)
    assert found.lead == 3
    assert found.common < 600 - 80
    residuals = prewhiten(x)
    assert np.isnan(residuals[50:90]).all()
    assert np.isfinite(residuals[100:]).all()


def test_a_constant_series_moves_with_nothing() -> None:
    assert lead_lag(np.ones(300), drifting_load(np.random.default_rng(1), 300, 0.5, 1)).p is None


def test_a_daily_course_is_taken_out_from_three_days_on_and_a_step_stays() -> None:
    minutes = np.arange(7 * 24) * 60
    course = 0.3 * np.sin(2 * np.pi * minutes / 1440)
    noise = 0.01 * np.random.default_rng(1).standard_normal(len(minutes))
    step = np.where(minutes >= 5 * 1440, 0.5, 0.0)
    left = without_season(minutes, course + noise + step)
    assert np.std(left - step) < 0.02
    assert np.mean(left[120:]) - np.mean(left[:120]) == pytest.approx(0.5, abs=0.01)
    short = (course + noise)[:48]
    assert without_season(minutes[:48], short) is short
    assert (season_of(minutes[:48]), season_of(minutes)) == ("none", "day")
    assert season_of(np.zeros(0, np.int64)) == "none"


def test_a_weekend_is_taken_out_from_three_weeks_on() -> None:
    minutes = np.arange(28 * 24) * 60
    weekend = np.where(minutes // 1440 % 7 >= 5, 0.4, 0.0)
    left = without_season(minutes, weekend.copy())
    assert np.ptp(left) < 1e-9


@pytest.mark.parametrize("length", [0, 1, 5, 8, 39])
def test_series_shorter_than_the_lags_tell_nothing(length: int) -> None:
    series = np.random.default_rng(1).standard_normal(length)
    found = lead_lag(series, series, 12)
    assert (found.lead, found.p, found.common) == (None, None, length)
