"""An adversary with the published table, the totals and a solver finds no small cell, nor bounds for one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mobius_analysis.suppress_cells import hide, reach_of, small
from tests.analysis.adversary import bounds, random_cells, with_totals

LEAST = 11


def assert_safe(table: NDArray[np.float64], counts: NDArray[np.float64], least: int) -> int:
    hidden = hide(table, counts, least)
    primary = small(table, counts, least)
    assert hidden[primary].all()
    assert not (hidden & (table == 0)).any()
    reach = reach_of(table, counts, primary, least)
    assert reach >= least - 1
    for place in map(tuple, np.argwhere(primary)):
        low, high = bounds(table, hidden, place)
        slack = 1e-5 * max(1.0, table.max())
        assert low <= slack, (place, low, high)
        assert high >= reach - slack, (place, low, high)
    return int(hidden.sum())


def campaign(seeds: range, *, sides: int = 4) -> int:
    hidden = 0
    for seed in seeds:
        table = with_totals(random_cells(np.random.default_rng(seed), sides=sides))
        hidden += assert_safe(table, table, LEAST)
    return hidden


def test_no_small_cell_can_be_bounded_in_a_hundred_tables() -> None:
    assert campaign(range(100), sides=3) > 100


def test_the_adversary_finds_what_is_only_left_out() -> None:
    table = with_totals(np.array([[500, 40, 700], [500, 3, 600], [90, 400, 300]]))
    found = bounds(table, small(table, table, LEAST), (1, 1))
    assert found == pytest.approx((3, 3))
    assert bounds(table, hide(table, table, LEAST), (1, 1)) == (0, np.inf)


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_no_small_cell_can_be_bounded_in_thousands_of_tables() -> None:
    assert campaign(range(1_000, 5_000)) > 4_000
