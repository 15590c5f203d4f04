"""Takes the daily or weekly course out of a series, where it is long enough to show one."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Season", "season_of", "without_season"]

Season = Literal["none", "day", "week"]

_HOUR: Final = 60
_DAY: Final = 24 * _HOUR
_WEEK: Final = 7 * _DAY
_LEAST: Final = 3
"""Periods that must be seen: the median of three leaves out one that holds a change."""

Floats = NDArray[np.float64]


def season_of(minutes: NDArray[np.int64]) -> Season:
    """Which season a series is long enough to show: a week's from 3 weeks on, a day's from 3 days on."""
    length = int(minutes[-1] - minutes[0]) + _HOUR if len(minutes) else 0
    if length >= _LEAST * _WEEK:
        return "week"
    return "day" if length >= _LEAST * _DAY else "none"


def without_season(minutes: NDArray[np.int64], values: Floats) -> Floats:
    """Take the season out of a series of logarithms.

    Each value's deviation from the median of its own day (week) is taken; the median of the deviations at one
    hour of the day (week), over at least three of them, is the season there. A step moves the level of
    whole days and leaves the season as it is.

    Parameters
    ----------
    minutes
        Minutes since the epoch, ascending, shape (n,).
    values
        Logarithms, finite, shape (n,).
    """
    season = season_of(minutes)
    if season == "none":
        return values
    period = _DAY if season == "day" else _WEEK
    # Periods count from the series' own first minute, so that the first and the last are as long as they can be.
    _, of = np.unique((minutes - minutes[0]) // period, return_inverse=True)
    slot = minutes % period // _HOUR
    deviation = values - _medians(of, values)[of]
    course = np.zeros(period // _HOUR)
    for place in np.unique(slot):
        here = slot == place
        if len(np.unique(of[here])) >= _LEAST:
            course[place] = np.median(deviation[here])
    course -= course[np.unique(slot)].mean()
    return values - course[slot]


def _medians(of: NDArray[np.int64], values: Floats) -> Floats:
    return np.array([np.median(values[of == k]) for k in range(int(of.max()) + 1)])
