"""Fills the rollup of a store with the traffic of a zone, laid out as if it had been merged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from mobius_analysis.testing import insert_rollup
from mobius_infra.benchmarks._correlate_traffic import (
    DAY,
    MINUTES,
    PER_SERVICE,
    Traffic,
    day_of_service,
)
from mobius_instrumentation.zones import Zone
from mobius_pipeline.store import Purpose, connect

__all__ = ["Filling"]

# A service's days become one part each, sorted by the table's key: as merging leaves them, without paying for merges.
_REPEAT: Final = """
INSERT INTO latency_minute
SELECT * EXCEPT (day) REPLACE (minute + INTERVAL day DAY AS minute)
FROM (SELECT *, arrayJoin(range({days:UInt16})) AS day FROM today)
ORDER BY service, route, method, region, minute, source, vantage, status_class
"""
_ONE_PART: Final = {
    "max_insert_threads": 1,
    "max_partitions_per_insert_block": 0,
    # Each row has a key of its own already; looking for others to merge with costs more than the insert.
    "optimize_on_insert": 0,
    "min_insert_block_size_rows": 50_000_000,
    "min_insert_block_size_bytes": 20_000_000_000,
}
_BATCH_ROWS: Final = 200_000
_KEY: Final = (
    "service", "route", "method", "region", "minute", "source", "vantage", "status_class",
)  # fmt: skip
_TIMEOUT_SECONDS: Final = 600


class Filling:
    """Fills the rollup of a migrated zone, one service after the other: one day is drawn, the others repeat it."""

    def __init__(self, zone: Zone, traffic: Traffic) -> None:
        self._traffic = traffic
        self._client = connect(zone, Purpose.INGEST, timeout_seconds=_TIMEOUT_SECONDS)
        self._seconds = 0.0
        self._services = 0
        self._client.command("SYSTEM STOP MERGES latency_minute")
        self._client.command("CREATE TABLE today AS latency_minute")

    def add(self, service: int) -> None:
        """Add all days of one service."""
        began = time.monotonic()
        waiting: list[pl.DataFrame] = []
        height = 0
        for frame in day_of_service(self._traffic, service):
            waiting.append(frame.sort(_KEY))
            height += frame.height
            if height >= _BATCH_ROWS:
                insert_rollup(self._client, pl.concat(waiting), "today")
                waiting, height = [], 0
        if waiting:
            insert_rollup(self._client, pl.concat(waiting), "today")
        days = {"days": self._traffic.days}
        self._client.command(_REPEAT, parameters=days, settings=_ONE_PART)
        self._client.command("TRUNCATE TABLE today")
        self._services += 1
        self._seconds += time.monotonic() - began

    def size(self) -> dict[str, int]:
        """How much of the zone is there, and how much of that belongs to the first day."""
        rows, day, requests = self._one(
            "SELECT count(), countIf(minute < {end:DateTime('UTC')}), sumIf(requests, minute < {end:DateTime('UTC')})"
            " FROM latency_minute"
        )
        endpoints = min(self._services * PER_SERVICE, self._traffic.endpoints)
        return {
            "endpoints": endpoints,
            "rollup_rows": rows,
            "rollup_rows_of_the_day": day,
            "requests_of_the_day": requests,
        }

    def document(self) -> dict[str, Any]:
        """Return what the store holds, as a benchmark prints it."""
        size, parts = self._one(
            "SELECT sum(bytes_on_disk), count() FROM system.parts"
            " WHERE active AND database = currentDatabase() AND table = 'latency_minute'"
        )
        [buckets] = self._one("SELECT avg(length(buckets)) FROM latency_minute")
        found = self.size()
        return {
            **found,
            "buckets_a_row": round(buckets, 2),
            "mib_on_disk": round(size / 2**20, 1),
            "bytes_a_row": round(size / found["rollup_rows"], 1),
            "parts": parts,
            "filled_in_seconds": round(self._seconds, 1),
        }

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def _one(self, sql: str) -> Sequence[Any]:
        end = int(DAY.timestamp()) + MINUTES * 60
        [row] = self._client.query(sql, parameters={"end": end}).result_rows
        found: Sequence[Any] = row
        return found
