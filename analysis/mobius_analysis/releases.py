"""Releases, seen in users' traffic: the minutes in which a version takes over a service in a region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from mobius_analysis.rollup import Window, query
from mobius_pipeline.options import format_time

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Release", "find_releases", "load_versions"]

_LEAST_SHARE: Final = 0.05  # a canary of one in twenty counts, one stray instance does not
_WHOLE_SHARE: Final = 0.95
_LOOK_MINUTES: Final = 60

_VERSIONS: Final = """
SELECT
    toString(r.service) AS service, toString(r.region) AS region,
    toString(r.environment) AS environment, toString(r.version) AS version,
    toUInt32(intDiv(toUnixTimestamp(r.minute), 60)) AS minute,
    sum(r.weight) AS weight
FROM latency_minute AS r
WHERE r.minute >= {since:DateTime('UTC')} AND r.minute < {until:DateTime('UTC')}
  AND r.source = 'real' AND r.vantage = 'server' AND r.version != ''
GROUP BY service, region, environment, version, minute
HAVING sum(r.requests) > 0
ORDER BY service, region, environment, minute, version
"""


@dataclass(frozen=True, slots=True)
class Release:
    """A version's arrival in users' traffic of one service, region and environment.

    ``first_seen`` is the first minute in which it had a share of at least 5 %, ``complete`` the first in
    which it had 95 %; None while the versions still overlap.
    """

    service: str
    region: str
    environment: str
    version: str
    previous: str
    first_seen: datetime
    complete: datetime | None

    @property
    def minutes(self) -> tuple[int, int]:
        """Minutes since the epoch in which it was first seen and complete (first seen again while it is not)."""
        first = int(self.first_seen.timestamp() // 60)
        return first, first if self.complete is None else int(self.complete.timestamp() // 60)

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "service": self.service,
            "region": self.region,
            "environment": self.environment,
            "version": self.version,
            "previous": self.previous,
            "first_seen": format_time(self.first_seen),
            "complete": None if self.complete is None else format_time(self.complete),
        }


def load_versions(client: Client, window: Window) -> pl.DataFrame:
    """Load users' requests per minute, service, region, environment and version (column ``weight``)."""
    return query(client, _VERSIONS, {"since": window.start, "until": window.end})


def find_releases(frame: pl.DataFrame) -> tuple[Release, ...]:
    """Find the releases in a frame of :func:`load_versions`, the earliest first.

    A version that is there from a group's first minute on is no release: nobody saw it arrive. One that
    never reaches 5 % of the hour after its arrival is none either.
    """
    if frame.is_empty():
        return ()
    groups = frame.partition_by(
        "service", "region", "environment", as_dict=True, maintain_order=True
    )
    found = [release for key, rows in groups.items() for release in _releases_of(key, rows)]
    return tuple(
        sorted(found, key=lambda r: (r.first_seen, r.service, r.region, r.environment, r.version))
    )


def _releases_of(key: tuple[str, str, str], rows: pl.DataFrame) -> Iterator[Release]:
    shares = rows.with_columns(share=pl.col("weight") / pl.col("weight").sum().over("minute"))
    service, region, environment = key
    for version in rows["version"].unique().sort():
        own = shares.filter((pl.col("version") == version) & (pl.col("share") >= _LEAST_SHARE))
        if own.is_empty():
            continue
        first = int(own["minute"][0])
        before = rows.filter(pl.col("minute").is_between(first - _LOOK_MINUTES, first - 1))
        if before.is_empty() or _share_after(rows, version, first) < _LEAST_SHARE:
            continue
        previous = (
            before.group_by("version")
            .agg(pl.col("weight").sum())
            .sort("weight", "version")["version"][-1]
        )
        yield Release(
            service,
            region,
            environment,
            version,
            previous,
            _moment(first),
            _complete(shares, version, first),
        )


def _share_after(rows: pl.DataFrame, version: str, first: int) -> float:
    after = rows.filter(pl.col("minute").is_between(first, first + _LOOK_MINUTES - 1))
    own = after.filter(pl.col("version") == version)
    return float(own["weight"].sum()) / float(after["weight"].sum())


def _complete(shares: pl.DataFrame, version: str, first: int) -> datetime | None:
    """First minute in which the version had nearly all traffic."""
    own = shares.filter((pl.col("version") == version) & (pl.col("minute") >= first)).sort("minute")
    reached = own.filter(pl.col("share") >= _WHOLE_SHARE)
    return None if reached.is_empty() else _moment(int(reached["minute"][0]))


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
