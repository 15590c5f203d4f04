"""Variances of many series of minutes at once, all of them one after the other in one array.

Numbers are those of :func:`mobius_analysis.clusters.long_run_variance` and :func:`~mobius_analysis.clusters.lag_one` for
each series alone. A cosine transform needs series of one length, so those of equal length share one; all else is one
pass over everything. Shapes: S series, C minutes of all of them, T minutes of one, Q values a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mobius_analysis.clusters import ewc_terms, lag_one_of

__all__ = ["ManySeries"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ManySeries:
    """Values ``z`` (C, Q) of S series, of which each begins and the last one ends where ``begins`` (S + 1,) says."""

    z: Floats
    begins: Ints

    @cached_property
    def lengths(self) -> Ints:
        """Minutes of each series, shape (S,)."""
        return np.diff(self.begins)

    @cached_property
    def _firsts(self) -> Ints:
        """Where the series begin that have any minutes."""
        return self.begins[:-1][self.lengths > 0]

    def sums(self, values: Floats) -> Floats:
        """Sum ``values`` (C, Q) over each series, gives (S, Q)."""
        C = len(values)
        table = csr_array((np.ones(C), np.arange(C), self.begins), shape=(len(self.lengths), C))
        return np.asarray(table @ values, np.float64)

    def lag_one(self, noise: Floats | float = 0.0) -> Floats:
        """:func:`~mobius_analysis.clusters.lag_one` of each series, shape (S, Q), as is ``noise``."""
        power, products = self._squares
        return lag_one_of(power, products, np.maximum(self.lengths, 1)[:, None], noise)

    @cached_property
    def _squares(self) -> tuple[Floats, Floats]:
        products = np.zeros_like(self.z)
        np.multiply(self.z[1:], self.z[:-1], out=products[1:])
        products[self._firsts] = 0.0  # the minute before is another series'
        return self.sums(self.z * self.z), self.sums(products)

    def long_run_variances(self, rho: Floats, least: int) -> Floats:
        """:func:`~mobius_analysis.clusters.long_run_variance` of the sums; ``rho`` and the result are (S, Q).

        NaN for series of fewer than ``least`` minutes.
        """
        e = np.repeat(rho, self.lengths, axis=0)
        e[1:] *= self.z[:-1]
        np.subtract(self.z, e, out=e)
        e[self._firsts] = np.sqrt(1 - rho[self.lengths > 0] ** 2) * self.z[self._firsts]
        innovations = ManySeries(e, self.begins)
        variances = np.full(rho.shape, np.nan)
        for places, block in innovations.alike(least):
            terms = ewc_terms(block)
            power = np.einsum("bsq,bsq->sq", terms, terms) / len(terms)
            variances[places] = len(block) * power / (1 - rho[places]) ** 2
        return variances

    def alike(self, least: int) -> Iterator[tuple[Ints, Floats]]:
        """Yield the series of each length from ``least`` on: their places (n,), and their values (T, n, Q)."""
        for T in np.unique(self.lengths[self.lengths >= max(least, 1)]):
            places = np.flatnonzero(self.lengths == T)
            if len(places) == 1:
                first = self.begins[places[0]]
                yield places, self.z[first : first + T, None]
            else:
                yield places, self.z[self.begins[places] + np.arange(T)[:, None]]
