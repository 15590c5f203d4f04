"""An adversary with the published table, the totals and a solver finds no small cell, nor bounds for one."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog

from mobius_analysis.suppress_cells import hide, reach_of, small

LEAST = 11


def with_totals(cells: NDArray[Any]) -> NDArray[np.float64]:
    table = cells.astype(float)
    for axis in range(table.ndim):
        table = np.concatenate([table, table.sum(axis=axis, keepdims=True)], axis=axis)
    return table


def random_cells(rng: np.random.Generator, *, sides: int = 4) -> NDArray[np.int64]:
    """Cells from empty to large, at sizes of every kind: one member on an axis, nothing but small cells."""
    shape = tuple(rng.integers(1, sides + 1, size=rng.integers(1, 4)))
    kinds = [rng.poisson(3, shape), rng.poisson(40, shape), rng.integers(0, 3_000, shape)]
    kinds.append(np.zeros(shape, int))
    picks = rng.choice(4, p=rng.dirichlet(np.ones(4)), size=shape)
    return np.choose(picks, kinds)


def bounds(
    table: NDArray[np.float64], hidden: NDArray[np.bool_], place: tuple[int, ...]
) -> tuple[float, float]:
    """Bounds of one entry, by an attack of its own: every entry is an unknown, every line along an axis adds up."""
    places = list(np.ndindex(table.shape))
    number = {each: at for at, each in enumerate(places)}
    lines = []
    for axis, size in enumerate(table.shape):
        for rest in product(*(range(n) for at, n in enumerate(table.shape) if at != axis)):
            row = np.zeros(len(places))
            for member in range(size):
                row[number[(*rest[:axis], member, *rest[axis:])]] = (
                    -1.0 if member == size - 1 else 1.0
                )
            lines.append(row)
    limits: list[tuple[float, float | None]] = [
        (0.0, None)
        if hidden[each] and table[each] > 0
        else (float(table[each]), float(table[each]))
        for each in places
    ]
    goal = np.zeros(len(places))
    goal[number[place]] = 1.0
    found = []
    for sign in (1.0, -1.0):
        answer = linprog(
            sign * goal, A_eq=np.array(lines), b_eq=np.zeros(len(lines)), bounds=limits
        )
        found.append(np.inf if answer.fun is None else sign * answer.fun)
    return found[0], found[1]


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
