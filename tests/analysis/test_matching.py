"""Production matched to the hours and the load of the test: the truth of these minutes, honest intervals."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mobius_analysis.cells import CorrelationResult, cell_document, note_of
from mobius_analysis.correlate import Cell, correlate
from mobius_analysis.correlate_matched import correlate_matched
from mobius_analysis.matching import Match
from mobius_analysis.rollup import Window
from mobius_analysis.testing import Requests, drifting_load, loaded, lognormal, rollup_rows

START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = 24
WINDOW = Window(START, START + timedelta(hours=HOURS))
T = HOURS * 60


def side(seed: int, level: np.ndarray, *, rate: float = 20, present: np.ndarray | None = None) -> Requests:  # fmt: skip
    """Requests whose minutes have the given log level, around 50 ms."""
    rng = np.random.default_rng(seed)
    noise = drifting_load(rng, len(level), 0.5, 0.05)
    return Requests(
        *lognormal(rng, START, level + noise, rate=rate, median=0.05, sigma=0.4, present=present)
    )


def day() -> np.ndarray:
    """Twice as slow from 8 to 20 o'clock."""
    hour = np.arange(T) // 60
    return np.where((hour >= 8) & (hour < 20), np.log(2), 0.0)


def night_test(seed: int = 2) -> Requests:
    """Half of each hour from 0 to 6."""
    minute = np.arange(T)
    present = (minute < 360) & (minute % 60 < 30)
    return replace(side(seed, day(), rate=60, present=present), source="synthetic")


def frame(*groups: Requests) -> pl.DataFrame:
    return loaded(rollup_rows(groups))


def matched(rows: pl.DataFrame, by: Match) -> Cell:
    (cell,) = correlate_matched(rows, [WINDOW], by)
    return cell


def test_a_test_at_night_is_compared_with_the_night() -> None:
    rows = frame(side(1, day()), night_test())
    (whole,) = correlate(rows, [WINDOW])
    assert whole.verdict == "optimistic"
    cell = matched(rows, "hour")
    assert cell.verdict == "representative"
    assert cell.matching is not None
    assert (cell.matching.minutes, cell.matching.matched, cell.matching.uncovered) == (T, 360, 0)
    assert [one.name for one in cell.matching.strata] == [f"{hour:02d}:00" for hour in range(6)]
    assert "360 of 1,440 min" in note_of(cell)
    document = cell_document("eu", cell)
    assert document.keys() == cell_document("eu", whole).keys()
    assert document["match"]["by"] == "hour"
    assert cell_document("eu", whole)["match"] is None
    coverage = CorrelationResult("eu", WINDOW, (cell,), (whole,)).document()["coverage"]
    assert coverage["production_requests"] == whole.production.requests


def test_hours_that_production_lacks_are_left_out_and_told() -> None:
    minute = np.arange(T)
    real = side(1, day(), present=minute >= 180)
    cell = matched(frame(real, night_test()), "hour")
    assert cell.matching is not None
    assert cell.matching.matched == 180
    assert cell.matching.uncovered / cell.matching.test_requests == pytest.approx(0.5, abs=0.1)
    assert "have no like in production" in note_of(cell)
    assert cell.synthetic.requests == cell.matching.test_requests - cell.matching.uncovered

    nothing = matched(frame(side(1, day(), present=minute >= 600), night_test()), "hour")
    assert nothing.verdict == "inconclusive"
    assert nothing.ratios == {}
    assert nothing.needs is not None
    assert "no minute like" in nothing.needs.text


def test_load_is_that_of_the_whole_service() -> None:
    """Slow while another endpoint is busy; the test runs only in those minutes."""
    busy = np.arange(T) % 120 < 36  # three tenths of the minutes
    level = np.where(busy, np.log(2), 0.0)
    other = replace(side(3, np.zeros(T), rate=200, present=busy), route="/other")
    test = replace(side(2, level, rate=30, present=busy), source="synthetic")
    rows = frame(side(1, level), other, test)
    cells = {cell.route: cell for cell in correlate(rows, [WINDOW])}
    assert cells["/"].verdict == "pessimistic"
    matched_cells = {cell.route: cell for cell in correlate_matched(rows, [WINDOW], "load")}
    cell = matched_cells["/"]
    assert cell.verdict == "representative"
    assert cell.matching is not None
    assert cell.matching.matched <= busy.sum() * 1.2
    assert matched_cells["/other"].verdict == "untested"
    assert matched_cells["/other"].matching is None


def test_a_load_beyond_productions_is_uncovered() -> None:
    """A load test by itself sends ten times what production ever gets."""
    heavy = replace(side(2, np.zeros(T), rate=400, present=np.arange(T) < 30), source="synthetic")
    cell = matched(frame(side(1, np.zeros(T), present=np.arange(T) >= 30), heavy), "load")
    assert cell.matching is not None
    assert cell.matching.uncovered == cell.matching.test_requests
    assert cell.verdict == "inconclusive"


def test_weights_count_as_evidence_by_kish() -> None:
    """Most of the test lies in one hour: production's other hours count for little."""
    minute = np.arange(T)
    present = (minute < 60) | (minute % 60 == 0)
    test = replace(side(2, np.zeros(T), rate=30, present=present), source="synthetic")
    cell = matched(frame(side(1, np.zeros(T)), test), "hour")
    assert cell.production.sampled
    assert cell.production.weight == pytest.approx(cell.production.requests, rel=0.02)
    narrow, wide = (
        found.estimate(0.5) for found in (correlate(frame(side(1, np.zeros(T))), [WINDOW])[0].production, cell.production)
    )  # fmt: skip
    assert narrow is not None
    assert wide is not None
    assert (wide.bounds.high or 0) / (wide.bounds.low or 1) > (narrow.bounds.high or 0) / (narrow.bounds.low or 1)  # fmt: skip


def test_matched_intervals_cover_the_truth_of_the_tests_hours() -> None:
    """40 days: the interval of production's matched p50 covers what holds in the test's hours, at least 37 times."""
    held = 0
    hour = np.arange(T) // 60
    level = np.where(hour < 3, 0.0, np.log(2))
    present = (hour < 6) & (np.arange(T) % 60 < 10)
    test = replace(side(0, level, rate=30, present=present), source="synthetic")
    rng = np.random.default_rng(1)
    spread = np.sqrt(0.4**2 + 0.05**2)
    mixed = np.concatenate([rng.normal(shift, spread, 500_000) for shift in (0.0, np.log(2))])
    truth = 0.05 * np.exp(np.median(mixed))
    for seed in range(40):
        cell = matched(frame(side(100 + seed, level, rate=5), test), "hour")
        found = cell.production.estimate(0.5)
        assert found is not None
        assert found.bounds.low is not None
        assert found.bounds.high is not None
        held += found.bounds.low <= truth <= found.bounds.high
    assert held >= 37
