"""Who may work on which partition of a topic: leases, kept in the store and judged by its clock alone.

A lease ends some seconds after it was last renewed. Whatever its holder writes carries that end, and the engine
refuses it later (the constraints named ``lease``), so that a worker that stood still cannot write when another may
have gone on, wherever it stood and however late its request arrives. Neither clock nor word of a worker is trusted
for that. Which offsets are whose to store is another matter, of :mod:`mobius_pipeline.ledger`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from mobius_pipeline.errors import TerminalError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["GRACE_MS", "Lease", "Leases", "OustedError", "Roster"]

GRACE_MS: Final = 500
"""How long after its end a lease is left alone: a renewal that the engine took in time may not be readable yet."""

# With their types, so that the client need not ask the store before each insert.
_LEASE_COLUMNS: Final = {
    "topic_id": "UUID",
    "partition": "UInt32",
    "epoch": "UInt64",
    "state": "Enum8('held' = 1, 'released' = 2)",
    "writer": "String",
    "name": "String",
    "seconds": "Float64",
}
_RENEWAL_COLUMNS: Final = _LEASE_COLUMNS | {"taken_ms": "UInt64", "not_after": "UInt64"}
_WORKER_COLUMNS: Final = {
    "topic_id": "UUID",
    "writer": "String",
    "name": "String",
    "state": "Enum8('here' = 1, 'gone' = 2)",
    "seconds": "Float64",
}


class OustedError(TerminalError):
    """A newer worker of the same name took this one's place."""

    def __init__(self, name: str, by: str) -> None:
        self.name = name
        self.by = by
        super().__init__(
            f"another worker named {name!r} ({by}) has taken this one's place; give each worker a --name of its own"
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """The newest lease of a partition.

    Attributes
    ----------
    end_ms
        When it ends, in milliseconds since 1970 by the store's clock.
    left_ms
        Milliseconds from when the store answered to its end; negative after it.
    taken_ms
        When its holder took it, as ``end_ms``.
    """

    partition: int
    epoch: int
    writer: str
    name: str
    released: bool
    end_ms: int
    left_ms: int
    taken_ms: int

    @property
    def over(self) -> bool:
        """Whether somebody else may take the partition."""
        return self.released or self.left_ms < -GRACE_MS


@dataclass(frozen=True, slots=True)
class Roster:
    """What the store said: live workers (name by writer), the newest lease of each partition that ever had one.

    ``asked`` is the monotonic time, in seconds, before the store was asked, so that ``asked + left_ms / 1000`` is no
    later than a lease's true end.
    """

    workers: Mapping[str, str]
    leases: Mapping[int, Lease]
    asked: float


class Leases:
    """The leases of one topic as one worker sees them. Not safe for several threads."""

    def __init__(
        self,
        client: Client,
        topic_id: UUID,
        writer: str,
        *,
        name: str = "",
        seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``seconds`` is how long a lease lasts from its last renewal; ``name`` is kept over restarts, "" for none."""
        self._client = client
        self._topic_id = topic_id
        self.writer = writer
        self.name = name
        self.seconds = seconds
        self._clock = clock

    def announce(self) -> None:
        """Say that this worker is here, for as long as a lease lasts."""
        self._write_worker("here")

    def leave(self) -> None:
        """Say that this worker is gone."""
        self._write_worker("gone")

    def roster(self) -> Roster:
        """Ask the store who works, and who has which partition."""
        asked = self._clock()
        parameters = {"topic_id": self._topic_id}
        workers = self._client.query(
            "SELECT writer, last.1 AS name FROM (SELECT writer, argMax((name, state, seconds, at), at) AS last FROM ingest_workers "
            "WHERE topic_id = {topic_id:UUID} GROUP BY writer) "
            "WHERE last.2 = 'here' AND last.4 + toIntervalMillisecond(last.3 * 1000) > now64(3) "
            # Of one name the newest: the others are what it replaced.
            "ORDER BY last.4 DESC LIMIT 1 BY if(last.1 = '', writer, last.1)",
            parameters=parameters,
        ).result_rows
        leases = self._client.query(
            "SELECT partition, epoch, writer, any(name), countIf(state = 'released') > 0, "
            "toUnixTimestamp64Milli(maxIf(at, state = 'held')) + toUInt64(argMax(seconds, at) * 1000) AS end_ms, "
            "toInt64(end_ms) - toUnixTimestamp64Milli(now64(3)), min(taken_ms) AS first "
            "FROM ingest_leases WHERE topic_id = {topic_id:UUID} GROUP BY partition, epoch, writer "
            "ORDER BY partition, epoch DESC, first LIMIT 1 BY partition",
            parameters=parameters,
        ).result_rows
        return Roster(
            workers={str(writer): str(name) for writer, name in workers},
            leases={
                int(number): Lease(
                    int(number),
                    int(epoch),
                    str(writer),
                    str(name),
                    bool(released),
                    int(end),
                    int(left),
                    int(taken),
                )
                for number, epoch, writer, name, released, end, left, taken in leases
            },
            asked=asked,
        )

    def take(self, partition: int, epoch: int) -> None:
        """Try to become the holder of ``partition`` from ``epoch`` on; :meth:`roster` tells who became it."""
        row = [self._topic_id, partition, epoch, "held", self.writer, self.name, self.seconds]
        token = f"{self._topic_id}/{partition}/{epoch}/lease"
        self._insert("ingest_leases", _LEASE_COLUMNS, [row], token)

    def renew(self, held: Iterable[Lease]) -> None:
        """Move the ends of these leases of ours.

        Raises
        ------
        DatabaseError
            With code 469 (a constraint): one of them has ended, and none is renewed.
        """
        rows = [self._row(lease, "held", lease.end_ms) for lease in held]
        self._write_leases(rows)

    def release(self, held: Iterable[Lease]) -> None:
        """Give these leases of ours back, so that others need not wait for their ends."""
        self._write_leases([self._row(lease, "released", 0) for lease in held])

    def _row(self, lease: Lease, state: str, not_after_ms: int) -> list[object]:
        key = [self._topic_id, lease.partition, lease.epoch, state, self.writer, self.name]
        return [*key, self.seconds, lease.taken_ms, not_after_ms]

    def _write_leases(self, rows: list[list[object]]) -> None:
        if rows:
            self._insert("ingest_leases", _RENEWAL_COLUMNS, rows, uuid4().hex)

    def _write_worker(self, state: str) -> None:
        row = [self._topic_id, self.writer, self.name, state, self.seconds]
        self._insert("ingest_workers", _WORKER_COLUMNS, [row], uuid4().hex)

    def _insert(
        self, table: str, columns: Mapping[str, str], rows: list[list[object]], token: str
    ) -> None:
        # Without a token the store would compare what is given here, without the times that it adds itself, and drop
        # each renewal as a repetition of the one before.
        self._client.insert(
            table,
            rows,
            list(columns),
            column_type_names=list(columns.values()),
            settings={"insert_deduplication_token": token},
        )
