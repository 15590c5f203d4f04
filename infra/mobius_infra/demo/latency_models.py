"""How long the shop's remote parties take, and what makes a request cheap or dear.

The live services wait for these parties; the history generator adds the shop's own work, as measured
on the live services, to the very same draws. The models hold causes only (lines of a basket, a cache
that missed, rows, a customer's history since a release); whether a test describes production well
follows from them and is nowhere written down.

Every duration is in milliseconds. A draw is a log-normal body with a Pareto tail, times the load of
the region in that minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

__all__ = [
    "FAILURE_SHARE",
    "PARTIES",
    "SEARCH_CACHE",
    "CacheSize",
    "Floats",
    "Ints",
    "Party",
    "draw_ms",
    "load_factor",
    "load_factor_now",
    "own_work_ms",
    "personalises",
    "search_party",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FAILURE_SHARE: Final = 0.002
"""Share of calls that a remote party does not answer usably."""

_CEILING_MS: Final = 3_000.0
_TAIL_SHARE: Final = 0.006
_TAIL_INDEX: Final = 2.2
_LOAD_SIGMA: Final = 0.02
_LOAD_PHI: Final = 0.6
_LOAD_MEMORY: Final = 16  # phi**16 < 0.0003: older minutes do not matter
_SECONDS_A_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody else's service: the median of an answer is ``median_ms`` + ``unit_ms`` x units."""

    name: str
    median_ms: float
    sigma: float
    unit_ms: float = 0.0

    @property
    def address(self) -> str:
        """Host name that spans show; reserved for examples, so it can be nobody's."""
        return f"{self.name}.example"


PARTIES: Final = {
    party.name: party
    for party in (
        Party("image-cdn", 34.0, 0.26),
        Party("stock", 19.0, 0.26),
        Party("ranking", 37.0, 0.26),
        Party("search-replica", 62.0, 0.32),
        Party("search-local", 0.5, 0.30),
        Party("payments", 50.0, 0.33),
        Party("warehouse", 5.0, 0.22, unit_ms=3.2),  # unit: a line of the basket
        Party("order-archive", 31.0, 0.42, unit_ms=1.5),  # unit: a line of the order
        Party("recommender", 37.0, 0.26),
        Party("feature-store", 38.0, 0.30, unit_ms=0.5),  # unit: an order of the customer
    )
}

_REGION_FACTOR: Final = {"eu-west-1": 1.0, "eu-central-1": 1.04, "us-east-1": 0.96}


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Bounds of a region's cache of search results."""

    entries: int
    seconds: float


SEARCH_CACHE: Final = {"eu-central-1": CacheSize(entries=32, seconds=20.0)}
"""The small cache of the region whose nodes have little memory; others take :data:`LARGE_CACHE`."""

LARGE_CACHE: Final = CacheSize(entries=4_096, seconds=3_600.0)


def search_party(region: str) -> Party:
    """Where a missed search goes: eu-central-1 has no search index of its own."""
    return PARTIES["search-replica" if region == "eu-central-1" else "search-local"]


def personalises(version: str) -> bool:
    """Whether a release asks the feature store about customers with orders (since 1.5.0)."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return numbers >= (1, 5)


def draw_ms(
    party: Party,
    region: str,
    rng: np.random.Generator,
    *,
    units: npt.ArrayLike = 0,
    load: Floats | float = 1.0,
) -> Floats:
    """Draw one answer time a request.

    Parameters
    ----------
    units
        What the party has to work through, a number a request (lines, rows); its shape is the result's.
    load
        Load factor of each request's minute, see :func:`load_factor`.

    Returns
    -------
    Milliseconds, shape of ``units``.
    """
    work = np.asarray(units, dtype=np.float64)
    body = np.exp(party.sigma * rng.standard_normal(work.shape))
    slow = rng.random(work.shape) < _TAIL_SHARE
    tail = np.where(slow, 1.0 + rng.pareto(_TAIL_INDEX, work.shape), 1.0)
    median = (party.median_ms + party.unit_ms * work) * _REGION_FACTOR.get(region, 1.0)
    drawn: Floats = np.minimum(median * body * tail * load, _CEILING_MS)
    return drawn


def own_work_ms(median_ms: float, rng: np.random.Generator, count: int) -> Floats:
    """Time of the shop's own code, for the history only; live services really do the work."""
    drawn: Floats = median_ms * np.exp(0.22 * rng.standard_normal(count))
    return drawn


def load_factor(region: str, minutes: npt.ArrayLike, seed: int = 0) -> Floats:
    """Load of a region in the given minutes since the epoch: 1 on average, AR(1) in its logarithm.

    A function of the minute alone: history and live services, in whatever process, see one course.
    The series is the moving-average form of AR(1) (phi 0.6, deviation 0.02) over hashed shocks.
    """
    minute = np.atleast_1d(np.asarray(minutes, dtype=np.int64))
    lags = np.arange(_LOAD_MEMORY, dtype=np.int64)
    shocks = _shocks(minute[:, None] - lags[None, :], crc32(region.encode()) + seed)
    level = shocks @ (_LOAD_PHI**lags) * np.sqrt(1 - _LOAD_PHI**2)
    factor: Floats = np.exp(_LOAD_SIGMA * level)
    return factor


@lru_cache(maxsize=64)
def _load_of_minute(region: str, minute: int) -> float:
    return float(load_factor(region, [minute])[0])


def load_factor_now(region: str, epoch_seconds: float) -> float:
    """Load of a region at one moment, for live services."""
    return _load_of_minute(region, int(epoch_seconds // _SECONDS_A_MINUTE))


def _shocks(minutes: Ints, seed: int) -> Floats:
    """Standard normal numbers that depend on the minute and the seed alone (SplitMix64, Box-Muller)."""
    salt = np.uint64(seed * 0x2545F4914F6CDD1D % 2**64)  # in Python's integers: wrapping is meant
    keys = minutes.astype(np.uint64) * np.uint64(2) + salt
    uniform = [(_mixed(keys + np.uint64(k)) >> np.uint64(11)) * 2.0**-53 for k in (0, 1)]
    radius = np.sqrt(-2.0 * np.log1p(-uniform[0]))
    shocks: Floats = radius * np.cos(2.0 * np.pi * uniform[1])
    return shocks


def _mixed(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele, Lea and Flood 2014); wraps around by design."""
    mixed = keys * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
