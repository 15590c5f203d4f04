"""What the services measured of their own requests: waiting, client calls, own time; production against tests.

The means are ratios of sums over the minutes; their 95 % intervals take the minutes as clusters (docs/statistics.md,
"One quantile", with the residuals of the ratio in place of Woodruff's z).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from math import hypot
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mobius_analysis.clusters import margin_of_sum
from mobius_analysis.intervals import CONFIDENCE, Bounds
from mobius_analysis.request_sample import of_endpoint
from mobius_analysis.rollup import Only, Window, query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["PARTS", "breakdown_document", "load_breakdown"]

PARTS: Final[Mapping[str, str]] = {
    "queue": "mobius.queue.duration",
    "database": "mobius.client.database.duration",
    "cache": "mobius.client.cache.duration",
    "http": "mobius.client.http.duration",
    "other": "mobius.client.other.duration",
}
"""Parts of a request's time that do not overlap as a rule, and the attribute (in seconds) that measures each."""

OVERLAPPING: Final[Mapping[str, str]] = {
    "loop_lag": "mobius.loop.lag.duration",
    "loop_held": "mobius.loop.held.duration",
    "garbage": "mobius.loop.gc.duration",
}
"""What happened meanwhile: within the parts, not beside them."""

_MEASURED: Final = "mobius.requests.in_flight"
_MOST_TIME: Final = timedelta(hours=24)
_LEAST_MINUTES: Final = 4
_SIDES: Final = {"production": "real", "synthetic": "synthetic"}
_COLUMNS: Final = (*PARTS, "own", "total", *OVERLAPPING)

# One of nothing is not written by the service: where it measured at all, a missing one is 0.
_QUERY: Final = """
SELECT m.minute AS minute, m.source AS source, m.requests AS requests, m.measured AS measured, m.weight AS weight,
    {sums}
FROM (
    SELECT toUInt32(intDiv(toUnixTimestamp(r.start), 60)) AS minute, toString(r.source) AS source,
        count() AS requests, countIf(r.known) AS measured, sumIf(r.weight, r.known) AS weight,
        sumForEachIf(arrayMap(ms -> ms * r.weight, r.times), r.known) AS sums
    FROM (
        SELECT s.start AS start, s.source AS source, s.weight AS weight,
            mapContains(s.attributes, '{measured}') AS known,
            [{parts}] AS parts, s.duration_ns / 1e6 AS total,
            arrayConcat(parts, [greatest(total - arraySum(parts), 0), total], [{overlapping}]) AS times
        FROM spans AS s
        WHERE <endpoint>
    ) AS r
    GROUP BY minute, source
) AS m
ORDER BY source, minute
"""


def _milliseconds(attribute: str) -> str:
    return f"1e3 * toFloat64OrZero(s.attributes['{attribute}'])"


_SQL: Final = of_endpoint(
    _QUERY.format(
        sums=", ".join(f"m.sums[{i}] AS {name}" for i, name in enumerate(_COLUMNS, 1)),
        measured=_MEASURED,
        parts=", ".join(map(_milliseconds, PARTS.values())),
        overlapping=", ".join(map(_milliseconds, OVERLAPPING.values())),
    )
)


def load_breakdown(client: Client, window: Window, subject: Only) -> pl.DataFrame:
    """Load sums per minute and source of at most the last 24 hours of ``window``, from raw spans at the server.

    Columns: ``minute``, ``source`` (real, synthetic), ``requests`` (answered ones), ``measured`` (those with
    measures), ``weight`` of these, and the weighted sum of ms of each part, ``own``, ``total`` and of what overlaps.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    start = max(window.start, window.end - _MOST_TIME)
    return query(client, _SQL, {"since": start, "until": window.end, **asdict(subject)})


@dataclass(frozen=True, eq=False)
class _Side:
    requests: int
    measured: int
    means: Mapping[str, Bounds]


def breakdown_document(frame: pl.DataFrame) -> dict[str, Any] | None:
    """Return the JSON form, described in docs/verdicts.md; None where no service measured itself."""
    sides = {
        name: _side(frame.filter(pl.col("source") == source)) for name, source in _SIDES.items()
    }
    if not any(side.measured for side in sides.values()):
        return None
    return {
        **{
            name: {
                "requests": side.requests,
                "measured_share": round(side.measured / side.requests, 4)
                if side.requests
                else None,
            }
            for name, side in sides.items()
        },
        "parts": [_part(name, sides) for name in (*PARTS, "own", "total")],
        "meanwhile": [_part(name, sides) for name in OVERLAPPING],
    }


def _part(name: str, sides: Mapping[str, _Side]) -> dict[str, Any]:
    production, synthetic = (sides[side].means.get(name) for side in _SIDES)
    difference = None
    if production is not None and synthetic is not None:
        difference = _difference(production, synthetic).document()
    return {
        "part": name,
        "production_ms": None if production is None else production.document(),
        "synthetic_ms": None if synthetic is None else synthetic.document(),
        "difference_ms": difference,
    }


def _side(rows: pl.DataFrame) -> _Side:
    measured = rows.filter(pl.col("measured") > 0)
    requests, count = int(rows["requests"].sum()), int(measured["measured"].sum())
    if not count:
        return _Side(requests, 0, {})
    weights = measured["weight"].to_numpy().astype(np.float64)
    return _Side(
        requests,
        count,
        {name: _mean(weights, measured[name].to_numpy().astype(np.float64)) for name in _COLUMNS},
    )


def _mean(weights: NDArray[np.float64], sums: NDArray[np.float64]) -> Bounds:
    """Mean of a request, with its interval; without one where there are fewer than 4 minutes."""
    whole = float(weights.sum())
    mean = float(sums.sum()) / whole
    if len(weights) < _LEAST_MINUTES:
        return Bounds(mean)
    margin = margin_of_sum(sums - mean * weights, CONFIDENCE) / whole
    return Bounds(mean, max(0.0, mean - margin), mean + margin)


def _difference(production: Bounds, synthetic: Bounds) -> Bounds:
    """Difference of two independent means, by MOVER (Zou and Donner 2008)."""
    value = production.value - synthetic.value
    bounds: Sequence[float | None] = (
        production.low, production.high, synthetic.low, synthetic.high,
    )  # fmt: skip
    if None in bounds:
        return Bounds(value)
    low, high, other_low, other_high = (float(bound) for bound in bounds if bound is not None)
    return Bounds(
        value,
        value - hypot(production.value - low, other_high - synthetic.value),
        value + hypot(high - production.value, synthetic.value - other_low),
    )
