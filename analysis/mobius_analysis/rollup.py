"""Loads minute histograms of a zone from its rollup: the thin shell under the analysis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from numpy.typing import NDArray

from mobius_analysis.clusters import Clusters
from mobius_pipeline.errors import DependencyError, TerminalError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["CELL", "SERIES", "Window", "clusters_of", "load_rollup", "query"]

CELL: Final = ("region", "service", "method", "route")
SERIES: Final = (*CELL, "source", "vantage")
"""What makes one series of minutes; a cell has up to four of them."""

# Latency is that of answered requests without a server error (DESIGN: verdicts): a 404 is an answer.
ANSWERED: Final = "status_class NOT IN ('5xx', 'error', 'none')"

_ROLLUP: Final = f"""
SELECT
    toUInt32(intDiv(toUnixTimestamp(r.minute), 60)) AS minute,
    toString(r.region) AS region, toString(r.service) AS service,
    toString(r.method) AS method, toString(r.route) AS route,
    toString(r.source) AS source, toString(r.vantage) AS vantage,
    sum(r.requests) AS requests,
    sum(r.errors) AS errors,
    sum(r.weight) AS weight,
    sumIf(r.requests, {ANSWERED}) AS answered,
    sumIf(r.weight_squared, {ANSWERED}) AS squared,
    sumMapIf(r.buckets, {ANSWERED}) AS histogram,
    mapKeys(histogram) AS buckets,
    mapValues(histogram) AS weights
FROM latency_minute AS r
WHERE r.minute >= {{since:DateTime('UTC')}} AND r.minute < {{until:DateTime('UTC')}}
  -- A test run may not say where it ran; one that does belongs to its environment only.
  AND ({{environment:String}} = '' OR r.environment = {{environment:String}}
       OR (r.source = 'synthetic' AND r.environment = ''))
GROUP BY minute, region, service, method, route, source, vantage
ORDER BY region, service, method, route, source, vantage, minute
"""  # noqa: S608 - joins this module's own constants


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of whole minutes, UTC, the end excluded."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, since: datetime, until: datetime) -> Window:
        """Window of the whole minutes from ``since`` to ``until``; the running minute is left out."""
        return cls(_floor(since), _floor(until))

    def cut(self, length: timedelta | None) -> tuple[Window, ...]:
        """Cut into windows of ``length`` from the start on; the last may be shorter."""
        if length is None or self.start + length >= self.end:
            return (self,)
        count = -(-(self.end - self.start) // length)
        starts = [self.start + i * length for i in range(count)]
        return tuple(Window(start, min(start + length, self.end)) for start in starts)

    @property
    def minutes(self) -> tuple[int, int]:
        """First and last-but-excluded minute since the epoch."""
        return int(self.start.timestamp() // 60), int(self.end.timestamp() // 60)


def _floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def load_rollup(client: Client, window: Window, *, environment: str | None = None) -> pl.DataFrame:
    """Load the series of one window, a row per minute and series, sorted by series and minute.

    Columns: those of ``SERIES``; ``minute`` (since the epoch); ``requests`` and ``errors`` (measured
    ones), ``weight`` (what the requests stand for); of answered requests without a server error
    ``answered`` (measured), ``squared`` (sum of squared weights), ``buckets`` and ``weights`` (lists).

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    parameters = {"since": window.start, "until": window.end, "environment": environment or ""}
    return query(client, _ROLLUP, parameters).drop("histogram")


def query(client: Client, sql: str, parameters: dict[str, Any] | None = None) -> pl.DataFrame:
    """Run a query and return its answer as a polars frame, by Arrow.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    try:
        table = client.query_arrow(sql, parameters=parameters, use_strings=True)
    except OperationalError as error:
        raise DependencyError(
            "the store", str(getattr(client, "uri", "")), reason=str(error)[:200]
        ) from error
    except ClickHouseError as error:
        raise TerminalError(f"the store refused a query: {str(error)[:500]}") from error
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):  # from_arrow also makes Series, from other input
        raise TypeError(f"an Arrow table is a frame, not a {type(frame).__name__}")
    return frame


def clusters_of(frame: pl.DataFrame) -> Clusters | None:
    """Make clusters from rows of :func:`load_rollup`; None where they hold no answered request.

    Rows of one minute are added up, so the rows of several regions or versions merge without loss.
    """
    frame = frame.filter(pl.col("buckets").list.len() > 0)
    if frame.is_empty():
        return None
    minutes, row_minute = np.unique(
        frame["minute"].to_numpy().astype(np.int64), return_inverse=True
    )
    lengths = frame["buckets"].list.len().to_numpy()
    buckets, column = np.unique(
        frame["buckets"].explode().to_numpy().astype(np.int64), return_inverse=True
    )
    flat = np.repeat(row_minute, lengths) * len(buckets) + column
    size = len(minutes) * len(buckets)
    weights = frame["weights"].explode().to_numpy().astype(np.float64)
    counts: NDArray[np.float64] = np.bincount(flat, weights=weights, minlength=size).astype(
        np.float64
    )
    return Clusters(
        minutes,
        buckets,
        counts.reshape(len(minutes), len(buckets)),
        requests=int(frame["answered"].sum()),
        squared=float(frame["squared"].sum()),
    )
