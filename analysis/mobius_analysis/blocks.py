"""Bootstrap over blocks of minutes: intervals for figures that have no formula of their own.

Minutes follow one another, so stretches of them are drawn and not single ones (Kuensch 1989; Carlstein
1986 for blocks that do not overlap). A block is a run of present minutes; gaps between bursts are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from mobius_analysis.intervals import CONFIDENCE, Bounds

__all__ = [
    "DRAWS",
    "LEAST_BLOCKS",
    "Replicated",
    "block_count",
    "blocks_of",
    "draw_blocks",
    "share_of",
]

DRAWS: Final = 300
LEAST_BLOCKS: Final = 4
_FEW_BLOCKS: Final = 8


def block_count(T: int) -> int:
    """Number of blocks for ``T`` minutes: max(8, floor(0.65 T^(2/3))), at most T."""
    return min(T, max(_FEW_BLOCKS, int(np.floor(0.65 * T ** (2 / 3)))))


def blocks_of(minutes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Block (0..n-1) of each entry of ``minutes`` (repeats allowed, any order), and n."""
    present, place = np.unique(minutes, return_inverse=True)
    count = block_count(len(present))
    return (place * count // max(1, len(present))).astype(np.int64), count


def draw_blocks(count: int, seed: int) -> NDArray[np.float64]:
    """How often each of ``count`` blocks is drawn, shape (1 + DRAWS, count); the first row is the data itself."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    return np.vstack([np.ones((1, count)), drawn])


@dataclass(frozen=True, eq=False)
class Replicated:
    """A figure and its bootstrap draws.

    Attributes
    ----------
    values : (1 + DRAWS,)
        The figure of the data, then of each draw; NaN where a draw does not have it.
    freedom
        Degrees of freedom: blocks of the side that has fewer, less one. Below 3 there is no interval.
    """

    values: NDArray[np.float64]
    freedom: int

    @property
    def value(self) -> float:
        """The figure of the data."""
        return float(self.values[0])

    def half_width(self, confidence: float = CONFIDENCE) -> float | None:
        """Half of the interval: Student's t times the deviation of the draws; None where blocks are too few."""
        draws = self.values[1:][np.isfinite(self.values[1:])]
        if self.freedom < LEAST_BLOCKS - 1 or len(draws) < DRAWS * 0.9:
            return None
        return float(stdtrit(self.freedom, (1 + confidence) / 2) * draws.std(ddof=1))

    def bounds(self, confidence: float = CONFIDENCE) -> Bounds:
        """The figure with its interval."""
        half = self.half_width(confidence)
        if half is None:
            return Bounds(self.value)
        return Bounds(self.value, self.value - half, self.value + half)


def share_of(part: Replicated, whole: Replicated) -> Replicated:
    """Share part / whole with its draws linearised, so that draws with a whole near 0 do not explode."""
    share = part.value / whole.value
    values = share + (part.values - share * whole.values) / whole.value
    return Replicated(values, min(part.freedom, whole.freedom))
