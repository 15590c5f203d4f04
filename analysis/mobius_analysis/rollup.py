"""Loads minute histograms of a zone from its rollup: the thin shell under the analysis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import polars as pl
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from numpy.typing import NDArray

from mobius_analysis.clusters import Clusters
from mobius_pipeline.errors import DependencyError, TerminalError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = [
    "ANSWERED",
    "CELL",
    "EVERYTHING",
    "SERIES",
    "WHERE",
    "Extra",
    "Only",
    "Window",
    "clusters_of",
    "load_rollup",
    "load_services",
    "query",
]

CELL: Final = ("region", "service", "method", "route")
SERIES: Final = (*CELL, "source", "vantage")
"""What makes one series of minutes; a cell has up to four of them."""

# Latency is that of answered requests without a server error (DESIGN: verdicts): a 404 is an answer.
ANSWERED: Final = "r.status_class NOT IN ('5xx', 'error', 'none')"

Extra = Literal["version"]
"""Columns that a load may keep apart beside the series."""

WHERE: Final = """r.minute >= {since:DateTime('UTC')} AND r.minute < {until:DateTime('UTC')}
  AND ({service:String} = '' OR r.service = {service:String})
  AND ({region:String} = '' OR r.region = {region:String})
  AND ({route:String} = '' OR r.route = {route:String})
  AND ({method:String} = '' OR r.method = {method:String})
  -- A test run may not say where it ran; one that does belongs to its environment only.
  AND ({environment:String} = '' OR r.environment = {environment:String}
       OR (r.source = 'synthetic' AND r.environment = ''))"""
"""Rows ``r`` of the rollup in a window and of an :class:`Only`, whose fields are parameters."""

# Each column's own name as its alias would hide the column from WHERE, hence the table's name everywhere.
_ROLLUP: Final = """
SELECT
    toUInt32(intDiv(toUnixTimestamp(r.minute), 60)) AS minute,
    {names},
    sum(r.requests) AS requests,
    sum(r.errors) AS errors,
    sum(r.weight) AS weight,
    sum(r.weight_squared) AS weight_squared,
    sum(r.error_weight) AS error_weight,
    sumIf(r.requests, {answered}) AS answered,
    sumIf(r.weight_squared, {answered}) AS squared,
    -- A request weighs at least 1; what corrections leave of a bucket that they emptied is rounding.
    mapFilter((b, w) -> w > 0.5, sumMapIf(r.buckets, {answered})) AS histogram,
    mapKeys(histogram) AS buckets,
    mapValues(histogram) AS weights
FROM latency_minute AS r
WHERE {where}
GROUP BY minute, {keys}
HAVING requests > 0
ORDER BY {keys}, minute
"""

_SERVICES: Final = f"""
SELECT DISTINCT toString(r.service) AS service FROM latency_minute AS r WHERE {WHERE} ORDER BY service
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class Only:
    """Which rows of the rollup to take; an empty text takes all."""

    region: str = ""
    service: str = ""
    method: str = ""
    route: str = ""
    environment: str = ""


EVERYTHING: Final = Only()


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


def load_rollup(
    client: Client, window: Window, only: Only = EVERYTHING, extra: tuple[Extra, ...] = ()
) -> pl.DataFrame:
    """Load the series of one window, a row per minute and series, sorted by series and minute.

    Columns: those of ``SERIES`` and ``extra``; ``minute`` (since the epoch); ``requests`` and ``errors``
    (measured ones), ``weight`` and ``error_weight`` (what they stand for), ``weight_squared``; of answered requests without a server
    error ``answered`` (measured), ``squared`` (sum of squared weights), ``buckets`` and ``weights`` (lists).

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    columns = (*SERIES, *(name for name in get_args(Extra) if name in extra))
    sql = _ROLLUP.format(
        names=", ".join(f"toString(r.{name}) AS {name}" for name in columns),
        keys=", ".join(columns),
        answered=ANSWERED,
        where=WHERE,
    )
    parameters = {"since": window.start, "until": window.end, **asdict(only)}
    return query(client, sql, parameters).drop("histogram")


def load_services(client: Client, window: Window, only: Only = EVERYTHING) -> list[str]:
    """Load the names of the services that have rows in one window, sorted.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    parameters = {"since": window.start, "until": window.end, **asdict(only)}
    return [str(name) for name in query(client, _SERVICES, parameters)["service"]]


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
