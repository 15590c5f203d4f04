"""Which cells and totals of a table may be published so that no small cell can be found from the others.

1. Hide the cells and totals that have too few subjects, and whatever such a total adds up.
2. Hide all totals. Now nothing can be subtracted from anything: cells alone tell nothing of other cells.
3. Family by family, the coarsest first, publish the totals that leave the attack
   (:mod:`mobius_analysis.suppress_attack`) without success; hide those again that helped it.

So company for a small cell is always a total: those say a number of requests only, while each cell that is hidden
would cost its whole histogram.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.suppress_attack import Attack

__all__ = ["hide", "reach_of", "small"]


def small(
    values: NDArray[np.float64], counts: NDArray[np.float64], least: int
) -> NDArray[np.bool_]:
    """Entries with requests of fewer than ``least`` subjects, and all cells and totals below such a total."""
    found = (values > 0) & (counts < least)
    for place in np.argwhere(found):
        below = tuple(
            slice(None) if each == size - 1 else int(each)
            for each, size in zip(place, values.shape, strict=True)
        )
        found[below] |= values[below] > 0
    return found


def reach_of(
    values: NDArray[np.float64],
    counts: NDArray[np.float64],
    primary: NDArray[np.bool_],
    least: int,
) -> float:
    """Requests up to which every small entry must be possible: those of ``least - 1`` subjects.

    A sum of hidden cells that the attacker finds holds at least so many requests; counted at the most requests
    that a subject of a small cell makes, it is of ``least - 1`` subjects or more. Where requests stand in for
    subjects the ratio is 1.
    """
    ratio = np.divide(values, counts, out=np.ones_like(values), where=primary & (counts > 0))
    return (least - 1) * float(ratio.max(initial=1.0))


def hide(values: NDArray[np.float64], counts: NDArray[np.float64], least: int) -> NDArray[np.bool_]:
    """Choose what is not published.

    Parameters
    ----------
    values
        Requests of every cell and total, shape (n1 + 1, n2 + 1, ...); the last place of an axis is the total.
    counts
        Subjects of the same entries.
    least
        Subjects that a published entry must have, >= 2.

    Returns
    -------
    True for each entry with requests that is hidden. Of every small one the attacker finds no narrower bounds
    than 0 and :func:`reach_of`.
    """
    primary = small(values, counts, least)  # 1
    reach = reach_of(values, counts, primary, least)
    inner = tuple(slice(0, size - 1) for size in values.shape)
    hidden = values > 0  # 2
    hidden[inner] = primary[inner]
    families = [over for over in product((False, True), repeat=values.ndim) if any(over)]
    for over in sorted(families, key=sum, reverse=True):  # 3
        _publish(values, hidden, primary, over, reach)
    return hidden


def _publish(
    values: NDArray[np.float64],
    hidden: NDArray[np.bool_],
    primary: NDArray[np.bool_],
    over: tuple[bool, ...],
    reach: float,
) -> None:
    """Publish, in ``hidden``, what of the totals over the axes ``over`` can be, beside what is published already."""
    family = tuple(
        slice(size - 1, None) if total else slice(0, size - 1)
        for size, total in zip(values.shape, over, strict=True)
    )
    inner = tuple(slice(0, size - 1) for size in values.shape)
    axes = tuple(int(axis) for axis in np.flatnonzero(over))
    secret = hidden[inner] & (values[inner] > 0)
    rest = np.where(secret, values[inner], 0.0).sum(axis=axes, keepdims=True)
    number = secret.sum(axis=axes, keepdims=True)
    # What one equation alone gives away needs no solver.
    told = (number == 0) | ((number > 1) & (rest >= reach))
    told &= ~primary[family] & (values[family] > 0)
    targets = np.argwhere(primary)
    while told.any():
        hidden[family] = (values[family] > 0) & ~told
        exposed = targets[Attack(values, hidden).exposed(targets, reach)]
        if not len(exposed):
            return
        touched = _touched(told.shape, exposed, values.shape) & told & (number > 0)
        told &= ~(touched if touched.any() else told)
    hidden[family] = values[family] > 0


def _touched(
    family: tuple[int, ...], places: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Totals of a family, by its shape, that have cells in common with any of ``places``."""
    found = np.zeros(family, bool)
    for place in places:
        found[
            tuple(
                slice(None) if size == 1 or here == full - 1 else int(here)
                for size, here, full in zip(family, place, shape, strict=True)
            )
        ] = True
    return found
