"""The shift function: where the test lies, with a band that holds for all quantiles at once."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from mobius_analysis.clusters import Clusters
from mobius_analysis.shift import SHIFT_LEVELS, Shift, critical_value, shift_function
from mobius_analysis.testing import Requests, clusters_from, drifting_load, lognormal

START = datetime(2026, 3, 1, tzinfo=UTC)


def side(
    seed: int, *, rate: float = 60, minutes: int = 120, tail: float = 1.0, body: float = 1.0,
    low: float = 1.0, phi: float = 0.3,
) -> Clusters:  # fmt: skip
    """Lognormal requests around 50 ms, those above p85 times ``tail``, those below the median times ``low``."""
    rng = np.random.default_rng(seed)
    load = drifting_load(rng, minutes, phi, 0.03)
    at, seconds = lognormal(rng, START, load, rate=rate, median=0.05, sigma=0.4)
    upper, middle = np.quantile(seconds, [0.85, 0.5])
    seconds = np.where(seconds > upper, seconds * tail, seconds)
    seconds = np.where(seconds < middle, seconds * low, seconds)
    return clusters_from(Requests(at, seconds * body))


def differing(shift: Shift) -> list[float]:
    return [level.q for level in shift.levels if level.differs()]


def test_equal_distributions_agree_everywhere() -> None:
    shift = shift_function(side(1, rate=300), side(2, rate=300))
    assert (shift.where, differing(shift)) == ("nowhere", [])
    assert [level.q for level in shift.levels] == list(SHIFT_LEVELS)


@pytest.mark.parametrize(
    ("changed", "where", "word"),
    [
        ({"tail": 1.6}, "tail", "slower"),
        ({"body": 1.5}, "everywhere", "slower"),
        ({"body": 0.6}, "everywhere", "faster"),
        ({"low": 0.6}, "below_median", "faster"),
        ({"low": 0.6, "tail": 1.6}, "crossing", None),
    ],
)
def test_the_reading_names_the_part_that_differs(
    changed: dict[str, float], where: str, word: str | None
) -> None:
    shift = shift_function(side(1, rate=200, **changed), side(2, rate=200))  # type: ignore[arg-type]  # floats
    assert shift.where == where
    if word is not None:
        assert word in shift.text
        assert {level.differs() for level in shift.levels} <= {word, None}
    document = shift.document()
    assert {level["users_are"] for level in document["levels"]} >= {word} - {None}


def test_the_reading_says_from_which_quantile_on() -> None:
    shift = shift_function(side(1, rate=200, tail=1.6), side(2, rate=200))
    assert min(differing(shift)) in (0.85, 0.9)
    assert f"from p{min(differing(shift)) * 100:g} on" in shift.text


def test_few_requests_leave_levels_out_and_the_verdicts_own_without_bounds() -> None:
    shift = shift_function(side(1), side(2, rate=1, minutes=30))
    left = {level.q: level.band.low for level in shift.levels}
    assert 0.999 not in left
    assert 0.01 not in left
    assert left[0.99] is None
    assert left[0.5] is not None
    assert shift_function(None, side(1)).where == "unknown"
    assert shift_function(side(1), None).document()["levels"] == []


def test_the_band_is_wider_than_each_interval_and_two_levels_need_less_than_sixteen() -> None:
    assert critical_value((0.5,)) == pytest.approx(1.96, abs=0.03)
    assert critical_value((0.5,)) < critical_value((0.5, 0.95)) < critical_value(SHIFT_LEVELS) < 3.0
    for level in shift_function(side(1), side(2)).levels:
        if level.band.low is None:
            continue
        assert level.band.low <= (level.ratio.bounds.low or 0)
        assert (level.band.high or 0) >= (level.ratio.bounds.high or 0)


def test_the_band_holds_for_all_levels_at_once() -> None:
    """100 pairs of equal distributions: the whole band covers 1 in at least 92 of them."""
    held = 0
    for seed in range(100):
        shift = shift_function(
            side(2 * seed, rate=20, minutes=60), side(2 * seed + 1, rate=20, minutes=60)
        )
        bands = [level.band for level in shift.levels if level.band.low is not None]
        held += all((b.low or 0) <= 1 <= (b.high or np.inf) for b in bands)
    assert held >= 92
