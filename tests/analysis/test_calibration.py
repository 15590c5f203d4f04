"""The mapping from tests to production: known truths come back, and errors are as large as claimed."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from mobius_analysis.calibration import Observation, calibrate
from mobius_analysis.intervals import Bounds
from mobius_analysis.pairs import LEVELS, Measured, Pair, pinball
from mobius_analysis.prediction import Predictor
from mobius_analysis.testing_histories import SCENARIOS, LeftOut, left_out, simulate

Subject = tuple[str, str, str, str]


def cell(number: int) -> Subject:
    return ("eu-west-1", "shop", "GET", f"/{number}")


def observations(
    rng: np.random.Generator,
    *,
    cells: int,
    releases: int,
    runs: int = 1,
    between_cells: float = 0.3,
    between_releases: float = 0.1,
    between_runs: float = 0.0,
    error: float = 0.02,
) -> list[Observation]:
    made = []
    offsets = rng.normal(0.2, between_cells, cells)
    for order in range(releases):
        own = rng.normal(0, between_releases, cells)
        for c in range(cells):
            made += [
                Observation(
                    cell(c),
                    order,
                    offsets[c] + own[c] + rng.normal(0, between_runs) + rng.normal(0, error),
                    error**2,
                )
                for _ in range(runs)
            ]
    return made


def test_the_variances_of_a_simulation_come_back() -> None:
    rng = np.random.default_rng(1)
    found = calibrate(
        observations(rng, cells=30, releases=12, runs=3, between_runs=0.04), mean_deviation=10
    )
    assert found.spread.cells == pytest.approx(0.3, rel=0.3)
    assert found.spread.releases == pytest.approx(0.1, rel=0.15)
    assert found.spread.runs == pytest.approx(0.04, rel=0.15)
    assert found.mean == pytest.approx(0.2, abs=3 * 0.3 / np.sqrt(30))
    assert found.freedom == 30 * 11


def test_a_cell_with_little_history_is_drawn_to_the_others_and_one_with_much_is_not() -> None:
    rng = np.random.default_rng(2)
    seen = observations(rng, cells=12, releases=10, between_cells=0.05, between_releases=0.05)
    few, many, new = cell(100), cell(101), cell(102)
    seen.append(Observation(few, 9, 0.6, 0.2**2))
    seen += [Observation(many, order, 0.6, 0.02**2) for order in range(10)]
    found = calibrate(seen)
    assert found.mean < found.cell_mean(few) < 0.35
    assert found.cell_mean(many) > 0.5
    assert found.cell_mean(new) == found.mean
    # Nothing of its own: the spread between cells is part of the error.
    assert found.forecast(new, 10).variance > found.forecast(cell(0), 10).variance
    assert found.forecast(new, 10).own == 0


def test_more_history_narrows_down_to_what_releases_differ_by() -> None:
    rng = np.random.default_rng(3)
    short = calibrate(observations(rng, cells=6, releases=4)).forecast(cell(0), 4)
    long = calibrate(observations(rng, cells=6, releases=40)).forecast(cell(0), 40)
    assert long.freedom > short.freedom
    assert long.variance - long.settled < short.variance - short.settled
    assert long.settled == pytest.approx(0.1**2, rel=0.5)


def test_a_ratio_that_drifts_is_followed() -> None:
    rng = np.random.default_rng(4)
    walk = np.cumsum(rng.normal(0, 0.1, (30, 4)), axis=0)
    seen = [
        Observation(cell(c), order, walk[order, c] + rng.normal(0, 0.01), 0.01**2)
        for order in range(29)
        for c in range(4)
    ]
    found = calibrate(seen)
    assert found.spread.memory > 0
    errors = [found.forecast(cell(c), 29).value - walk[29, c] for c in range(4)]
    plain = [np.mean(walk[:29, c]) - walk[29, c] for c in range(4)]
    assert np.mean(np.abs(errors)) < 0.5 * np.mean(np.abs(plain))


def test_an_uneven_cell_gets_a_wider_interval() -> None:
    rng = np.random.default_rng(5)
    seen = observations(rng, cells=8, releases=15, between_releases=0.03)
    seen += [Observation(cell(50), o, 0.2 + rng.normal(0, 0.3), 0.02**2) for o in range(15)]
    found = calibrate(sorted(seen, key=lambda o: o.order))
    assert found.forecast(cell(50), 15).variance > 4 * found.forecast(cell(0), 15).variance


def test_leaving_out_by_algebra_equals_forgetting_the_pair() -> None:
    rng = np.random.default_rng(6)
    seen = observations(rng, cells=3, releases=6, runs=2, between_runs=0.05)
    found = calibrate(seen)
    own = [one for one in seen if one.cell == cell(1)]
    for whole_release in (False, True):
        forecasts = found.left_out(cell(1), whole_release=whole_release)
        for i, forecast in enumerate(forecasts):
            rest = tuple(
                one
                for k, one in enumerate(own)
                if (one.order != own[i].order if whole_release else k != i)
            )
            without = type(found)(
                found.spread,
                found.mean,
                found.mean_variance,
                found.freedom,
                found.prior_freedom,
                {**found.cells, cell(1): rest},
            )
            again = without.forecast(cell(1), own[i].order)
            assert forecast.value == pytest.approx(again.value, abs=1e-9)
            assert forecast.own == again.own


def one_pair(number: int, ratio: float, *, requests: int = 1000, reach: float = 0.05) -> Pair:
    def side(factor: float) -> Measured:
        values = {q: 0.1 * factor * exp(q) for q in LEVELS}
        bounds = {q: Bounds(v, v * exp(-reach), v * exp(reach)) for q, v in values.items()}
        return Measured(bounds, requests)

    return Pair(cell(0), f"r{number}", f"1.{number}", float(number), side(1.0), side(ratio))


def test_one_pair_predicts_and_a_test_without_interval_has_none() -> None:
    predictor = Predictor([one_pair(0, 1.5)])
    test = one_pair(1, 1.0).test
    found = predictor.predict(cell(0), test, 0.95)
    assert found is not None
    assert found.ratio == pytest.approx(1.5, rel=0.1)
    assert found.bounds.low is not None
    bare = Measured({0.95: Bounds(0.2)}, 10)
    without = predictor.predict(cell(0), bare, 0.95)
    assert without is not None
    assert without.bounds.low is None
    assert without.bounds.high is None
    assert Predictor([]).predict(cell(0), test, 0.95) is None


def test_intervals_are_stretched_to_what_the_past_needed() -> None:
    rng = np.random.default_rng(8)
    pairs = [one_pair(i, float(np.exp(rng.normal(0, 0.02))), reach=0.5) for i in range(80)]
    predictor = Predictor(pairs)
    past = [one.inside for one in predictor.past(0.95)]
    # Errors of measurement are said to be far greater than they are.
    assert 0.9 <= np.mean([inside is True for inside in past]) <= 1.0
    wide = Predictor(pairs[:40]).predict(cell(0), pairs[0].test, 0.95)
    shrunk = predictor.predict(cell(0), pairs[0].test, 0.95)
    assert wide is not None
    assert shrunk is not None
    assert wide.test is not None
    assert shrunk.test is not None
    assert wide.test[0] == pytest.approx(0.5)
    assert shrunk.test[0] == pytest.approx(0.25)  # no further than by half


def test_pinball_is_least_at_the_quantile() -> None:
    buckets = np.arange(-100, -60)
    measured = Measured({}, 40, buckets, np.ones(40))
    candidates = np.exp(np.linspace(log(0.1), log(0.3), 60))
    losses = [pinball(measured, float(c), 0.9) or 0.0 for c in candidates]
    best = candidates[int(np.argmin(losses))]
    assert best == pytest.approx(2 ** ((-100 + 36) / 32), rel=0.05)
    assert pinball(Measured({}, 40), 0.1, 0.9) is None


@pytest.fixture(scope="module")
def simulated() -> list[LeftOut]:
    chosen = [s for s in SCENARIOS if s.name in {"few pairs", "large tests", "small tests"}]
    return [
        one
        for seed, scenario in enumerate(chosen)
        for one in left_out(simulate(scenario, np.random.default_rng([3, seed])).pairs, 0.95)
    ]


def test_intervals_hold_what_production_shows_as_often_as_they_claim(
    simulated: list[LeftOut],
) -> None:
    assert len(simulated) > 80
    assert 0.90 <= np.mean([one.inside for one in simulated]) <= 0.99
    # And not by being endless: the test's own interval is about half of it.
    assert np.median([one.width for one in simulated]) < 0.8


def test_predictions_beat_the_raw_percentile_and_the_scaling_of_the_median(
    simulated: list[LeftOut],
) -> None:
    excess = {
        way: np.mean([getattr(one, way) - one.oracle for one in simulated])
        for way in ("ours", "median_scaling", "raw")
    }
    assert 0 < excess["ours"] < excess["median_scaling"] < excess["raw"]
