"""An adversary who knows everything published, and asks a solver: independent of the code that hides."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog


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
