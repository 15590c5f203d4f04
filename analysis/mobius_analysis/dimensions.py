"""The dimensions that may explain a gap, as rows of minute, value and bucket for both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from mobius_analysis.request_sample import RequestSample

__all__ = ["OTHER", "Dimension", "rollup_dimensions", "sample_dimensions"]

Origin = Literal["rollup", "spans"]

OTHER: Final = "(other)"
_MOST_VALUES: Final = 12
_SAMPLED: Final = (
    "instance",
    "environment",
    "status class",
    "request size",
    "response size",
    "cache",
)
_ROWS: Final = ("minute", "value", "bucket", "weight", "requests")


@dataclass(frozen=True, eq=False)
class Dimension:
    """One dimension of both sides.

    Attributes
    ----------
    production, synthetic
        Rows ``minute``, ``value``, ``bucket``, ``weight``, ``requests`` of requests whose value is known.
    known
        Share of the requests of production and test (by weight) whose value is known; None without any.
    values
        Values by their weight on both sides, at most 12; the rest is "(other)".
    """

    name: str
    origin: Origin
    production: pl.DataFrame
    synthetic: pl.DataFrame
    known: tuple[float | None, float | None]
    values: tuple[str, ...]


def rollup_dimensions(production: pl.DataFrame, synthetic: pl.DataFrame) -> Iterator[Dimension]:
    """Version and hour of day (UTC), from rows of ``load_rollup`` with ``version``, one side each."""
    sides = [_exploded(side) for side in (production, synthetic)]
    hour = (pl.col("minute").cast(pl.Int64) // 60 % 24).cast(pl.String).str.zfill(2) + ":00"
    for name, value in (("version", pl.col("version")), ("hour of day", hour)):
        y, x = (side.with_columns(value=value) for side in sides)
        yield _dimension(name, "rollup", y, x)


def _exploded(side: pl.DataFrame) -> pl.DataFrame:
    # Requests of a bucket are known by weight alone: the minute's are shared out.
    whole = side.filter(pl.col("buckets").list.len() > 0).with_columns(
        per_weight=pl.col("answered") / pl.col("weights").list.sum()
    )
    flat = whole.explode("buckets", "weights", empty_as_null=False)
    return flat.select(
        "minute",
        "version",
        bucket=pl.col("buckets").cast(pl.Int64),
        weight=pl.col("weights"),
        requests=(pl.col("weights") * pl.col("per_weight")).round().cast(pl.Int64),
    )


def sample_dimensions(sample: RequestSample) -> Iterator[Dimension]:
    """Instance, environment, status class, body sizes and cache, from raw spans."""
    sides = [
        sample.side(source).with_columns(requests=pl.lit(1, pl.Int64))
        for source in ("real", "synthetic")
    ]
    for name in _SAMPLED:
        y, x = (side.with_columns(value=pl.col(name)) for side in sides)
        yield _dimension(name, "spans", y, x)


def _dimension(name: str, origin: Origin, y: pl.DataFrame, x: pl.DataFrame) -> Dimension:
    known = _known(y), _known(x)
    y, x = (side.filter(pl.col("value") != "").select(_ROWS) for side in (y, x))
    shares = (
        pl.concat(
            side.group_by("value").agg(
                share=pl.col("weight").sum() / max(side["weight"].sum(), 1e-300)
            )
            for side in (y, x)
        )
        .group_by("value")
        .agg(pl.col("share").sum())
        .sort("share", "value", descending=[True, False])
    )
    values = tuple(shares["value"].to_list())
    if len(values) > _MOST_VALUES:
        values = (*values[: _MOST_VALUES - 1], OTHER)
        named = pl.when(pl.col("value").is_in(list(values))).then("value").otherwise(pl.lit(OTHER))
        y, x = y.with_columns(value=named), x.with_columns(value=named)
    return Dimension(name, origin, y, x, known, values)


def _known(side: pl.DataFrame) -> float | None:
    whole = float(side["weight"].sum())
    if whole <= 0:
        return None
    return float(side.filter(pl.col("value") != "")["weight"].sum()) / whole
