from __future__ import annotations

import numpy as np
import pytest

from mobius_infra.demo import latency_models as models

MINUTES = np.arange(29_000_000, 29_000_000 + 20_000)


def test_load_is_a_function_of_region_and_minute_alone() -> None:
    whole = models.load_factor("eu-west-1", MINUTES)
    assert np.array_equal(whole[500:700], models.load_factor("eu-west-1", MINUTES[500:700]))
    assert models.load_factor_now("eu-west-1", float(MINUTES[500]) * 60 + 59.9) == whole[500]
    other = models.load_factor("us-east-1", MINUTES)
    assert abs(np.corrcoef(np.log(whole), np.log(other))[0, 1]) < 0.05


def test_load_is_ar1_around_1() -> None:
    logs = np.log(models.load_factor("eu-central-1", MINUTES))
    assert abs(logs.mean()) < 0.002
    assert logs.std() == pytest.approx(0.02, rel=0.1)
    lagged = [float(np.corrcoef(logs[:-k], logs[k:])[0, 1]) for k in (1, 2, 3)]
    assert lagged == pytest.approx([0.6, 0.36, 0.216], abs=0.04)


def test_a_draw_has_the_partys_median_and_a_heavy_tail() -> None:
    rng = np.random.default_rng(5)
    warehouse = models.PARTIES["warehouse"]
    units = np.repeat([2, 24], 40_000)
    drawn = models.draw_ms(warehouse, "eu-west-1", rng, units=units)
    medians = [float(np.median(drawn[units == n])) for n in (2, 24)]
    assert medians == pytest.approx([5 + 3.2 * 2, 5 + 3.2 * 24], rel=0.02)
    lognormal_share = 1e-5  # above exp(4.3 sigma)
    above = np.mean(drawn[units == 2] > medians[0] * np.exp(4.3 * warehouse.sigma))
    assert above > 50 * lognormal_share


@pytest.mark.parametrize(
    ("version", "asks"),
    [("1.4.2", False), ("1.5.0", True), ("1.5.1", True), ("2.0", True), ("", False)],
)
def test_personalisation_comes_with_a_release(version: str, asks: bool) -> None:
    assert models.personalises(version) is asks
