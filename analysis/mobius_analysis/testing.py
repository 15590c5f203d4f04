"""Generated rollups with a known truth, for the tests of this part and of those that build on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from mobius_analysis.clusters import Clusters
from mobius_analysis.histogram import bucket_of
from mobius_analysis.rollup import SERIES, Window, clusters_of
from mobius_analysis.suite_tracks import Track, bin_length

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = [
    "Requests",
    "clusters_from",
    "drifting_load",
    "insert_rollup",
    "level_track",
    "loaded",
    "lognormal",
    "rollup_rows",
]

_SOURCES = {"real": 0, "synthetic": 1, "suspected": 2}
_VANTAGES = {"server": 0, "client": 1}


@dataclass(frozen=True, eq=False)
class Requests:
    """Requests of one endpoint and source: minute since the epoch and latency in seconds of each, same length."""

    minutes: NDArray[np.int64]
    seconds: NDArray[np.float64]
    route: str = "/"
    region: str = "eu-west-1"
    service: str = "storefront"
    method: str = "GET"
    source: Literal["real", "synthetic", "suspected"] = "real"
    vantage: Literal["server", "client"] = "server"
    version: str = "1.0.0"
    environment: str = "production"
    status_class: str = "2xx"
    test_run: str = ""
    weight: float = 1.0


def drifting_load(
    rng: np.random.Generator, T: int, phi: float, deviation: float
) -> NDArray[np.float64]:
    """Log load factor of each of ``T`` minutes: AR(1) with ``phi`` and the given stationary deviation."""
    shocks = rng.standard_normal(T) * deviation
    level = np.empty(T)
    level[0] = shocks[0]
    for t in range(1, T):
        level[t] = phi * level[t - 1] + np.sqrt(1 - phi**2) * shocks[t]
    return level


def lognormal(
    rng: np.random.Generator,
    start: datetime,
    load: NDArray[np.float64],
    *,
    rate: float,
    median: float,
    sigma: float = 0.6,
    present: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw requests: Poisson with ``rate`` a minute, lognormal latency around ``median`` seconds times load.

    ``load`` holds a log factor a minute from ``start`` on; minutes outside ``present`` have no traffic.
    """
    counts = rng.poisson(rate, len(load))
    if present is not None:
        counts = counts * present
    index = np.repeat(np.arange(len(load)), counts)
    seconds = median * np.exp(load[index] + sigma * rng.standard_normal(len(index)))
    return int(start.timestamp() // 60) + index, seconds


def rollup_rows(groups: Sequence[Requests]) -> pl.DataFrame:
    """Aggregate into rows of ``latency_minute``, with the map as the lists ``buckets`` and ``weights``."""
    return pl.concat([_rows(group) for group in groups])


def _rows(group: Requests) -> pl.DataFrame:
    failed = group.status_class in {"5xx", "error", "none"}
    counted = (
        pl.DataFrame({"minute": group.minutes, "bucket": bucket_of(group.seconds)})
        .group_by("minute", "bucket")
        .agg(pl.len().alias("n"))
        .sort("minute", "bucket")
        .group_by("minute", maintain_order=True)
        .agg(
            requests=pl.col("n").sum().cast(pl.Int64),
            buckets=pl.col("bucket"),
            weights=pl.col("n").cast(pl.Float64) * group.weight,
        )
    )
    names = (
        "region",
        "service",
        "version",
        "environment",
        "method",
        "route",
        "status_class",
        "source",
        "vantage",
    )
    return counted.with_columns(
        *(pl.lit(getattr(group, name)).alias(name) for name in (*names, "test_run")),
        errors=pl.col("requests") * int(failed),
        weight=pl.col("requests") * group.weight,
        weight_squared=pl.col("requests") * group.weight**2,
        error_weight=pl.col("requests") * group.weight * int(failed),
    )


def loaded(rows: pl.DataFrame) -> pl.DataFrame:
    """Give :func:`rollup_rows` the columns and the order in which ``load_rollup`` returns them."""
    answered = ~pl.col("status_class").is_in(["5xx", "error", "none"])
    empty = pl.lit([], dtype=pl.List(pl.Int64)), pl.lit([], dtype=pl.List(pl.Float64))
    return rows.with_columns(
        answered=pl.when(answered).then("requests").otherwise(0),
        squared=pl.when(answered).then("weight_squared").otherwise(0.0),
        buckets=pl.when(answered).then("buckets").otherwise(empty[0]),
        weights=pl.when(answered).then("weights").otherwise(empty[1]),
    ).sort(*SERIES, "minute")


def clusters_from(group: Requests) -> Clusters:
    """Make the clusters of one group, which must hold a request that counts."""
    found = clusters_of(loaded(rollup_rows([group])))
    if found is None:
        raise ValueError("no answered request in the group")
    return found


def insert_rollup(client: Client, rows: pl.DataFrame, table: str = "latency_minute") -> None:
    """Insert :func:`rollup_rows` into the ``latency_minute`` of the client's database, or a table like it."""
    lengths = rows["buckets"].list.len().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    keys = rows["buckets"].explode().to_numpy().astype(np.int16)
    values = rows["weights"].explode().to_numpy()
    maps = pa.MapArray.from_arrays(pa.array(offsets), pa.array(keys), pa.array(values))
    arrow = (
        rows.drop("buckets", "weights")
        .with_columns(
            minute=(pl.col("minute") * 60).cast(pl.UInt32),
            source=pl.col("source").replace_strict(_SOURCES, return_dtype=pl.Int8),
            vantage=pl.col("vantage").replace_strict(_VANTAGES, return_dtype=pl.Int8),
            requests=pl.col("requests").cast(pl.UInt64),
            errors=pl.col("errors").cast(pl.UInt64),
        )
        .to_arrow(compat_level=pl.CompatLevel.oldest())
        .append_column("buckets", maps)
    )
    client.insert_arrow(table, arrow)


def level_track(
    window: Window,
    load: NDArray[np.float64],
    *,
    test: str | None = None,
    route: str = "/",
    region: str = "eu-west-1",
    median: float = 0.05,
    rate: float = 100.0,
    failed: float = 1.0,
) -> Track:
    """Make a track whose quantiles follow ``load`` (logarithms, one a bin of ``window``) exactly.

    ``rate`` requests a bin, of which ``failed`` fail; p95 is 2.5 times the median. NaN in ``load``: no request.
    """
    present = np.isfinite(load)
    minutes = window.minutes[0] + np.flatnonzero(present) * bin_length(window)
    level = np.log(median) + load[present]
    size = np.full(len(level), rate)
    return Track(
        subject=(region, "storefront", "GET", route),
        test=test,
        vantage="server",
        minutes=minutes.astype(np.int64),
        requests=size.astype(np.int64),
        answered=size.astype(np.int64),
        weight=size,
        failed=np.full(len(level), failed),
        seconds=size * np.exp(level),
        logs={0.5: level, 0.95: level + np.log(2.5)},
    )
