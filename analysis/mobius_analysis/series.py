"""What the endpoint page draws: quantiles over time, whole distributions, and traces to look at.

All intervals are those of the verdicts, so that a chart and a verdict never disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import polars as pl

from mobius_analysis.histogram import bucket_bounds
from mobius_analysis.intervals import Bounds, estimate
from mobius_analysis.rollup import Only, Window, clusters_of, query
from mobius_analysis.verdicts import QUANTILES, name_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = [
    "LEVELS",
    "Exemplar",
    "bin_minutes",
    "distribution",
    "ecdf",
    "load_exemplars",
    "quantile_series",
]

Source = Literal["real", "synthetic", "suspected"]

_BINS: Final = (1, 5, 15, 30, 60, 180, 360, 720, 1440)
_MILLISECONDS: Final = 1000.0

LEVELS: Final[tuple[float, ...]] = (
    *(round(0.02 * i, 2) for i in range(1, 46)),
    *(round(0.9 + 0.01 * i, 2) for i in range(1, 10)),
    0.995,
    0.999,
)
"""Levels of a drawn quantile curve: every 2 %, every 1 % from 90 % on, and the far tail."""

_SIDES: Final = ("source", "vantage")
# Any: polars accepts classes and instances alike, for which it has no name of its own.
_SERIES_SCHEMA: Final[dict[str, Any]] = {
    "time": pl.Datetime("us", "UTC"),
    "source": pl.String,
    "vantage": pl.String,
    "quantile": pl.String,
    "value_ms": pl.Float64,
    "low_ms": pl.Float64,
    "high_ms": pl.Float64,
    "requests": pl.Int64,
    "errors": pl.Int64,
}
_CURVE_SCHEMA: Final[dict[str, Any]] = {
    "source": pl.String,
    "vantage": pl.String,
    "level": pl.Float64,
    "value_ms": pl.Float64,
    "low_ms": pl.Float64,
    "high_ms": pl.Float64,
}
_ECDF_SCHEMA: Final[dict[str, Any]] = {
    "source": pl.String,
    "vantage": pl.String,
    "upper_ms": pl.Float64,
    "share": pl.Float64,
    "weight": pl.Float64,
}


def bin_minutes(window: Window, most: int = 100) -> int:
    """Length in minutes of the finest bins of which ``window`` has at most ``most``."""
    minutes = (window.end - window.start).total_seconds() / 60
    return next((length for length in _BINS if minutes / length <= most), _BINS[-1])


def quantile_series(
    frame: pl.DataFrame, length: int, quantiles: Sequence[float] = QUANTILES
) -> pl.DataFrame:
    """Quantiles with their 95 % intervals per bin, source and vantage, in long form.

    Parameters
    ----------
    frame
        Rows of ``load_rollup``; whatever it still holds of regions or endpoints is pooled.
    length
        Bin in minutes, aligned to the epoch; see :func:`bin_minutes`.

    Returns
    -------
    polars.DataFrame
        ``time`` (begin of the bin), ``source``, ``vantage``, ``quantile`` (p50, ...), ``value_ms``,
        ``low_ms`` and ``high_ms`` (null: not enough data), ``requests`` and ``errors`` of the bin.
    """
    binned = frame.with_columns(time=pl.col("minute") // length * length).sort(
        "time", *_SIDES, "minute"
    )
    groups = binned.partition_by("time", *_SIDES, as_dict=True, maintain_order=True)
    return pl.DataFrame(
        [row for key, rows in groups.items() for row in _bin_rows(key, rows, quantiles)],
        schema=_SERIES_SCHEMA,
        orient="row",
    )


def _bin_rows(
    key: tuple[Any, ...], rows: pl.DataFrame, quantiles: Sequence[float]
) -> Iterator[tuple[Any, ...]]:
    time, source, vantage = key
    begin = datetime.fromtimestamp(int(time) * 60, UTC)
    counts = int(rows["requests"].sum()), int(rows["errors"].sum())
    clusters = clusters_of(rows)
    for q in quantiles:
        values = (
            (None, None, None) if clusters is None else _milliseconds(estimate(clusters, q).bounds)
        )
        yield (begin, source, vantage, name_of(q), *values, *counts)


def _milliseconds(bounds: Bounds) -> tuple[float | None, float | None, float | None]:
    return tuple(
        None if x is None else x * _MILLISECONDS for x in (bounds.value, bounds.low, bounds.high)
    )  # type: ignore[return-value]  # three of them


def distribution(frame: pl.DataFrame, levels: Sequence[float] = LEVELS) -> pl.DataFrame:
    """Quantile curve with a 95 % band per source and vantage: ``level``, ``value_ms``, ``low_ms``, ``high_ms``.

    The band holds level by level, not for the whole curve at once.
    """
    return pl.DataFrame(
        [
            (*key, level, *_milliseconds(estimate(clusters, level).bounds))
            for key, rows in frame.sort(*_SIDES, "minute")
            .partition_by(*_SIDES, as_dict=True, maintain_order=True)
            .items()
            if (clusters := clusters_of(rows)) is not None
            for level in levels
        ],
        schema=_CURVE_SCHEMA,
        orient="row",
    )


def ecdf(frame: pl.DataFrame) -> pl.DataFrame:
    """Share of answered requests up to each occupied bucket's upper bound, per source and vantage.

    Columns ``upper_ms``, ``share`` (0..1) and ``weight`` (requests in the bucket).
    """
    parts = []
    for key, rows in (
        frame.sort(*_SIDES, "minute")
        .partition_by(*_SIDES, as_dict=True, maintain_order=True)
        .items()
    ):
        clusters = clusters_of(rows)
        if clusters is None:
            continue
        parts.append(
            pl.DataFrame(
                {
                    "source": [key[0]] * len(clusters.buckets),
                    "vantage": [key[1]] * len(clusters.buckets),
                    "upper_ms": bucket_bounds(clusters.buckets)[1] * _MILLISECONDS,
                    "share": clusters.cumulative / clusters.weight,
                    "weight": np.diff(clusters.cumulative, prepend=0.0),
                },
                schema=_ECDF_SCHEMA,
            )
        )
    return pl.concat(parts) if parts else pl.DataFrame(schema=_ECDF_SCHEMA)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A stored request to look at: ids in hex, latency in milliseconds."""

    trace_id: str
    span_id: str
    start: datetime
    duration_ms: float
    http_status: int
    version: str
    instance: str


_EXEMPLARS: Final = """
SELECT lower(hex(s.trace_id)) AS trace_id, lower(hex(s.span_id)) AS span_id,
    toUnixTimestamp64Micro(s.start) AS start, s.duration_ns / 1e6 AS duration_ms,
    s.http_status AS http_status, toString(s.version) AS version, toString(s.instance) AS instance
FROM spans AS s
WHERE s.start >= {since:DateTime('UTC')} AND s.start < {until:DateTime('UTC')}
  AND s.kind IN ('Server', 'Consumer') AND toString(s.source) = {source:String}
  AND s.service = {service:String} AND s.method = {method:String} AND s.route = {route:String}
  AND ({region:String} = '' OR s.region = {region:String})
  AND ({environment:String} = '' OR s.environment = {environment:String})
  AND s.duration_ns > 0 AND s.http_status < 500 AND s.status_code != 'Error'
ORDER BY abs(log(s.duration_ns / 1e9 / {seconds:Float64})), s.start, s.span_id
LIMIT {most:UInt8}
"""


def load_exemplars(
    client: Client,
    window: Window,
    only: Only,
    seconds: float,
    *,
    source: Source = "real",
    most: int = 5,
) -> tuple[Exemplar, ...]:
    """Load the answered requests whose latency is nearest to ``seconds``, nearest first.

    It reads raw spans: keep ``window`` short, an hour rather than a day.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    parameters = {
        "since": window.start,
        "until": window.end,
        "source": source,
        "service": only.service,
        "method": only.method,
        "route": only.route,
        "region": only.region,
        "environment": only.environment,
        "seconds": seconds,
        "most": most,
    }
    found = []
    for row in query(client, _EXEMPLARS, parameters).iter_rows(named=True):
        start = datetime.fromtimestamp(row.pop("start") / 1e6, UTC)
        found.append(Exemplar(start=start, **row))
    return tuple(found)
