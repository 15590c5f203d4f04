"""Production's minutes matched to those of the test: by hour of day, or by load.

A test that runs at night meets a quiet production; compared with the whole day it looks optimistic. Matched,
production is post-stratified: each stratum (an hour of day in UTC, or a tenth of production's minutes by
requests a minute of the service) gets the weight that it has in the test, and strata that only one side has
are left out of both. The factor of a minute enters its z (docs/statistics.md), hence every interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mobius_analysis.rollup import CELL

__all__ = ["MATCHES", "Match", "Matching", "loads_of", "match_cell"]

Match = Literal["none", "hour", "load"]
MATCHES: Final[tuple[Match, ...]] = get_args(Match)

_SERVICE: Final = ("region", "service")
_PARTS: Final = 10
_SAME: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Stratum:
    """Shares (0..1) that both sides' answered requests have in one stratum, and production's minutes in it."""

    name: str
    production: float
    synthetic: float
    minutes: int


@dataclass(frozen=True, eq=False)
class Matching:
    """How one endpoint's production was matched.

    Attributes
    ----------
    minutes, matched
        Production's minutes with requests, and those of them in strata that the test has too.
    test_requests, uncovered
        The test's requests, and those of them in strata that production does not have.
    factors
        What a request counts for, by minute since the epoch; minutes that are not in it count for nothing.
    covered
        Minutes of the test in strata that production has too.
    """

    by: Match
    minutes: int
    matched: int
    test_requests: int
    uncovered: int
    strata: tuple[Stratum, ...] = ()
    factors: Mapping[int, float] = field(default_factory=dict)
    covered: frozenset[int] = frozenset()

    @property
    def text(self) -> str:
        """Say in words how much was matched."""
        said = f"production matched by {self.by}: {self.matched:,} of {self.minutes:,} min"
        if self.uncovered and self.test_requests:
            share = self.uncovered / self.test_requests
            said += f", and {share:.0%} of the test's requests have no like in production"
        return said

    def apply(self, real: pl.DataFrame, test: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Weight production's rows of ``load_rollup``, and leave out minutes without a like, on both sides."""
        kept = test.filter(pl.col("minute").is_in(list(self.covered)))
        return _weighted(real, self.factors), kept

    def document(self) -> dict[str, Any]:
        """Return the JSON form, described in docs/verdicts.md."""
        return {
            "by": self.by,
            "production_minutes": self.minutes,
            "matched_minutes": self.matched,
            "synthetic_requests": self.test_requests,
            "uncovered_requests": self.uncovered,
            "strata": [
                {
                    "stratum": one.name,
                    "production_share": round(one.production, 4),
                    "synthetic_share": round(one.synthetic, 4),
                    "production_minutes": one.minutes,
                }
                for one in self.strata
            ],
        }


def loads_of(frame: pl.DataFrame) -> pl.DataFrame:
    """Requests a minute of every service: ``region``, ``service``, ``minute``, ``load``, over all sources.

    Tests count where the server saw them; those that only the client saw count as it saw them.
    """
    seen = frame.filter((pl.col("source") == "synthetic") & (pl.col("vantage") == "server"))
    twice = frame.filter(pl.col("vantage") == "client").join(
        seen.select(CELL).unique(), on=CELL, how="anti"
    )
    return (
        pl.concat([frame.filter(pl.col("vantage") == "server"), twice])
        .group_by(*_SERVICE, "minute")
        .agg(load=pl.col("weight").sum())
    )


def match_cell(
    real: pl.DataFrame, test: pl.DataFrame, by: Match, loads: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, Matching]:
    """Match production's rows of one endpoint to those of its test.

    Parameters
    ----------
    real, test
        Rows of ``load_rollup`` of one endpoint, one side each.
    by
        "hour" or "load".
    loads
        Of :func:`loads_of`; needed for "load" alone.

    Returns
    -------
    real, test, matching
        Rows of minutes that have a like on the other side; production's are weighted.
    """
    real_minutes, test_minutes = _minutes(real), _minutes(test)
    strata = _hours if by == "hour" else _tenths
    y, x, names = strata(real, real_minutes, test_minutes, loads)
    common = np.intersect1d(y[y >= 0], x[x >= 0])
    mass, wanted = _mass(real, real_minutes, y, common), _mass(test, test_minutes, x, common)
    factors = np.divide(wanted, mass, out=np.zeros_like(mass), where=mass > 0)
    if np.all(np.abs(factors - 1) < _SAME):
        factors = np.ones_like(factors)
    place = np.searchsorted(common, y)
    inside = np.isin(y, common)
    by_minute = {
        int(minute): float(factors[k])
        for minute, k, good in zip(real_minutes, place, inside, strict=True)
        if good and factors[k] > 0
    }
    covered = frozenset(int(minute) for minute in test_minutes[np.isin(x, common)])
    kept = test.filter(pl.col("minute").is_in(list(covered)))
    requests = int(test["requests"].sum())
    matching = Matching(
        by,
        minutes=len(real_minutes),
        matched=len(by_minute),
        test_requests=requests,
        uncovered=requests - int(kept["requests"].sum()),
        strata=tuple(
            Stratum(names[s], float(mass[k]), float(wanted[k]), int((y == s).sum()))
            for k, s in enumerate(common)
        ),
        factors=by_minute,
        covered=covered,
    )
    return _weighted(real, by_minute), kept, matching


def _minutes(rows: pl.DataFrame) -> NDArray[np.int64]:
    return np.unique(rows["minute"].to_numpy()).astype(np.int64)


Strata = tuple[NDArray[np.int64], NDArray[np.int64], Mapping[int, str]]
"""Stratum of each minute of production and of the test, -1 for none, and the strata's names."""


def _hours(
    _real: pl.DataFrame,
    real_minutes: NDArray[np.int64],
    test_minutes: NDArray[np.int64],
    _loads: pl.DataFrame,
) -> Strata:
    names = {hour: f"{hour:02d}:00" for hour in range(24)}
    return real_minutes // 60 % 24, test_minutes // 60 % 24, names


def _tenths(
    real: pl.DataFrame,
    real_minutes: NDArray[np.int64],
    test_minutes: NDArray[np.int64],
    loads: pl.DataFrame,
) -> Strata:
    nothing = np.full(len(test_minutes), -1, np.int64)
    if real.is_empty():
        return np.empty(0, np.int64), nothing, {}
    one = loads.filter(*(pl.col(name) == real[name][0] for name in _SERVICE))
    known = dict(zip(one["minute"].to_list(), one["load"].to_list(), strict=True))
    y, x = (
        np.asarray([known.get(int(minute), np.nan) for minute in minutes])
        for minutes in (real_minutes, test_minutes)
    )
    edges = np.unique(np.quantile(y, np.arange(_PARTS + 1) / _PARTS))
    last = max(0, len(edges) - 2)
    strata = [np.clip(np.searchsorted(edges, loads, "right") - 1, 0, last) for loads in (y, x)]
    outside = (x < edges[0]) | (x > edges[-1]) | np.isnan(x)
    names = {
        k: f"{edges[k]:.4g} to {edges[min(k + 1, len(edges) - 1)]:.4g} requests/min"
        for k in range(last + 1)
    }
    return strata[0].astype(np.int64), np.where(outside, -1, strata[1]).astype(np.int64), names


def _mass(
    rows: pl.DataFrame,
    minutes: NDArray[np.int64],
    strata: NDArray[np.int64],
    common: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Shares of the answered requests in each common stratum; they add up to 1, or are all 0."""
    weights = rows["weights"].list.sum().fill_null(0.0).to_numpy()
    place = np.searchsorted(minutes, rows["minute"].to_numpy())
    of_row = strata[place]
    mass = np.asarray([float(weights[of_row == s].sum()) for s in common], np.float64)
    whole = float(mass.sum())
    return mass / whole if whole > 0 else mass


def _weighted(rows: pl.DataFrame, factors: Mapping[int, float]) -> pl.DataFrame:
    table = pl.DataFrame(
        {"minute": list(factors), "factor": list(factors.values())},
        schema={"minute": rows.schema["minute"], "factor": pl.Float64},
    )
    joined = rows.join(table, on="minute", how="inner", maintain_order="left")
    factor = pl.col("factor")
    return joined.with_columns(
        pl.col("weight") * factor,
        pl.col("error_weight") * factor,
        pl.col("weight_squared") * factor**2,
        pl.col("squared") * factor**2,
        pl.col("weights") * factor,
    ).drop("factor")
