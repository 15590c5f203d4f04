"""What somebody who knows everything published can find out about the cells that are not: by linear programming.

A table has one axis for each way in which cells are told apart (minute, region, version), and each axis has
one more place at its end: the total. Published cells and totals are numbers to the attacker, hidden cells are
unknowns that are not negative, and each published total over hidden cells is an equation. The least and the
greatest value that a hidden entry can have then are its bounds (Fischetti and Salazar 2000, "Models and
algorithms for optimizing cell suppression in tabular data with linear constraints").
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, eye_array, hstack, vstack

__all__ = ["Attack"]

_ROUNDING: Final = 1e-6  # of the solver, for each unit of the right-hand side


class Attack:
    """An attack on one table.

    Parameters
    ----------
    values
        Requests of every cell and total, shape (n1 + 1, n2 + 1, ...); the last place of an axis is the total.
    hidden
        Which of them are not published, same shape. Cells without requests are taken as known to be empty.
    """

    def __init__(self, values: NDArray[np.float64], hidden: NDArray[np.bool_]) -> None:
        inner = tuple(slice(0, size - 1) for size in values.shape)
        secret = np.argwhere(hidden[inner] & (values[inner] > 0))
        self._shape = values.shape
        self._cells = secret
        self._values = values
        rows, told = self._equations(hidden)
        # linprog takes sparse matrices; the stubs of scipy do not say so.
        self._matrix: Any = rows
        self._told = told

    def _equations(
        self, hidden: NDArray[np.bool_]
    ) -> tuple[csr_array[np.float64], NDArray[np.float64]]:
        """Each published total with hidden cells below it, as sum of these cells = what they make up of it."""
        parts: list[csr_array[np.float64]] = []
        told: list[NDArray[np.float64]] = []
        count = len(self._cells)
        truth = self._values[tuple(self._cells.T)]
        for over in product((False, True), repeat=len(self._shape)):
            if not any(over) or not count:
                continue
            place = np.where(over, np.array(self._shape) - 1, self._cells)
            flat = np.ravel_multi_index(tuple(place.T), self._shape)
            totals, row = np.unique(flat, return_inverse=True)
            matrix = coo_array(
                (np.ones(count), (row, np.arange(count))), shape=(len(totals), count)
            ).tocsr()
            published = ~hidden.ravel()[totals]
            parts.append(matrix[published])
            # Total less published cells: the truth of the hidden ones.
            told.append(np.asarray(matrix @ truth)[published])
        if not parts:
            return csr_array((0, count)), np.zeros(0)
        return vstack(parts).tocsr(), np.concatenate(told)

    def exposed(self, targets: NDArray[np.int64], reach: float) -> NDArray[np.bool_]:
        """Say which targets the attacker may be able to bound more tightly than from 0 to ``reach`` requests.

        Parameters
        ----------
        targets
            Places of hidden cells or totals in the table, shape (n, axes).
        """
        if not len(self._told):
            return np.zeros(len(targets), bool)
        sums = self._below(targets)
        slack = _ROUNDING * max(1.0, float(self._told.max()))
        down = self._unreached(sums, lambda each: each @ self._solve(each.sum(axis=0)) <= slack)
        up = self._unreached(
            sums, lambda each: each @ self._solve_towards(each, reach) >= reach - slack
        )
        return down | up

    @staticmethod
    def _unreached(
        sums: NDArray[np.float64], reached: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
    ) -> NDArray[np.bool_]:
        """Ask for all targets at once, then for the rest, until an answer brings nobody further.

        That one takes far fewer solutions than to ask for each. A target that could be reached alone and in no
        company counts as unreached: too much may be hidden for it, never too little.
        """
        rest = np.arange(len(sums))
        while len(rest):
            done = reached(sums[rest])
            if not done.any():
                break
            rest = rest[~done]
        found = np.zeros(len(sums), bool)
        found[rest] = True
        return found

    def _below(self, targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Which hidden cells add up to each target, shape (targets, hidden cells)."""
        ends = np.array(self._shape) - 1
        same = (targets[:, None, :] == self._cells[None]) | (targets == ends)[:, None, :]
        below: NDArray[np.float64] = same.all(axis=2).astype(float)
        return below

    def _solve(self, cost: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return hidden cells with the least ``cost``, one table that would look the same."""
        found = linprog(cost, A_eq=self._matrix, b_eq=self._told, bounds=(0, None), method="highs")
        return self._or_truth(found.x)

    def _solve_towards(self, sums: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
        """Return hidden cells that bring as many targets as can be up to ``reach`` at once."""
        cells, targets = len(self._cells), sums.shape[0]
        above: Any = hstack([csr_array(-sums), eye_array(targets)])
        equal: Any = hstack([self._matrix, csr_array((len(self._told), targets))])
        found = linprog(
            np.concatenate([np.zeros(cells), -np.ones(targets)]),
            A_ub=above,
            b_ub=np.zeros(targets),
            A_eq=equal,
            b_eq=self._told,
            bounds=[*[(0.0, None)] * cells, *[(0.0, reach)] * targets],
            method="highs",
        )
        return self._or_truth(None if found.x is None else found.x[:cells])

    def _or_truth(self, found: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return the solver's answer, or, where it gave up, the truth: that counts as exposed."""
        return self._values[tuple(self._cells.T)] if found is None else found
