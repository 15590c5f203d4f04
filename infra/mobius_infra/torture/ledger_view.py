"""What the campaign sees of the zone's store while it is killed again and again: looks that may fail, and never raise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["LedgerView", "open_store"]

# All together shorter than the insert's time-out, or workers would give up before the engine is between two tables.
_SLOW_SECONDS: Final = 0.6
_SLOWED: Final = ("latency_minute", "trace_times", "spans")
_SPANS: Final = "SELECT countIf(kind = 'Server'), uniqExact(trace_id) FROM spans"
_OTHERS: Final = "SELECT (SELECT sum(requests) FROM latency_minute), (SELECT uniqExact(trace_id) FROM trace_times)"


@contextlib.contextmanager
def open_store(zone: Zone, purpose: Purpose = Purpose.ANALYSIS) -> Iterator[Client]:
    """Open a client for one thing."""
    client = connect(zone, purpose)
    try:
        yield client
    finally:
        client.close()


class LedgerView:
    """Looks at one zone's ledger. A look at a store that does not answer gives None."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._client: Client | None = None

    def close(self) -> None:
        """Forget the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def spans_done(self) -> int | None:
        """Spans of all ranges that the ledger says are stored."""
        rows = self._look("SELECT sum(spans) FROM ingest_ledger WHERE state = 'done'")
        return int(rows[0][0]) if rows else None

    def ends(self) -> Mapping[int, int] | None:
        """Offset after the last stored record, by partition."""
        rows = self._look(
            "SELECT partition, max(last_offset) + 1 FROM ingest_ledger WHERE state = 'done' GROUP BY partition"
        )
        return None if rows is None else {int(row[0]): int(row[1]) for row in rows}

    def claims_of(self, pid: int) -> int | None:
        """Ranges that the process has claimed."""
        rows = self._look(
            "SELECT count() FROM ingest_ledger WHERE state = 'intent' AND position(writer, {mark:String}) > 0",
            mark=f"/{pid}/",
        )
        return int(rows[0][0]) if rows else None

    def leases_of(self, pid: int) -> int | None:
        """Partitions whose newest lease is the process's."""
        rows = self._look(
            "SELECT countIf(position(writer, {mark:String}) > 0) FROM "
            "(SELECT argMax(writer, epoch) AS writer FROM ingest_leases GROUP BY partition)",
            mark=f"/{pid}/",
        )
        return int(rows[0][0]) if rows else None

    def holders(self) -> Mapping[int, str] | None:
        """Who claimed the last range of each partition."""
        rows = self._look(
            "SELECT partition, argMax(writer, first_offset) FROM ingest_ledger WHERE state = 'intent' GROUP BY partition"
        )
        return None if rows is None else {int(row[0]): str(row[1]) for row in rows}

    def is_between(self) -> bool:
        """Some insert is in one of its tables and not in another, whichever the engine writes first.

        Which that is changes when the store starts anew. Tables only grow, so of two that were asked one after the other
        the earlier answer is the greater only if it was ahead at that moment.
        """
        answers = [self._look(query) for query in (_SPANS, _OTHERS, _SPANS)]
        if not all(answers):
            return False
        spans, others, spans_later = (
            [int(number) for number in rows[0]] for rows in answers if rows
        )
        return any(a > b for a, b in zip(spans, others, strict=True)) or any(
            a > b for a, b in zip(others, spans_later, strict=True)
        )

    def slow_inserts(self) -> None:
        """Let the engine sleep before it writes an insert's rows to each of these tables."""
        with open_store(self._zone, Purpose.MIGRATE) as client:
            for table in _SLOWED:
                client.command(
                    f"ALTER TABLE {table} ADD CONSTRAINT IF NOT EXISTS torture CHECK sleep({_SLOW_SECONDS}) = 0"
                )

    def quick_inserts(self) -> None:
        """Take that sleep away."""
        with open_store(self._zone, Purpose.MIGRATE) as client:
            for table in _SLOWED:
                client.command(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS torture")

    def _look(self, query: str, **parameters: Any) -> list[Any] | None:
        try:
            if self._client is None:
                self._client = connect(self._zone, Purpose.VIEW)
            return list(self._client.query(query, parameters=parameters).result_rows)
        except (MobiusError, ClickHouseError, HTTPError, OSError):
            self.close()
            return None
