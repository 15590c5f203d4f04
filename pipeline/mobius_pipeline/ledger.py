"""Where ingestion stands, kept in the store beside the data; writing an intent is a compare-and-swap.

The row of an intent carries a deduplication token that names partition and first offset only. When two writers want to
go on from the same offset (one of them paused, believed dead, replaced), the store keeps the first row and drops the
other, and each reads back whose it is. So no offset range is ever cut in two ways, and a repeated insert of a range
always has the token, and the blocks, of the first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from mobius_pipeline.errors import TerminalError
from mobius_pipeline.migration_files import DEDUPLICATION_WINDOW

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mobius_pipeline.kafka_client import Topic

__all__ = ["ForgottenError", "Ledger", "OvertakenError", "Standing", "stored_positions"]

# With their types, so that the client need not ask the store before each insert.
_COLUMNS: Final = {
    "topic": "LowCardinality(String)",
    "topic_id": "UUID",
    "partition": "UInt32",
    "first_offset": "UInt64",
    "last_offset": "UInt64",
    "state": "Enum8('intent' = 1, 'done' = 2)",
    "writer": "LowCardinality(String)",
    "spans": "UInt64",
    "not_after": "UInt64",
}


class OvertakenError(TerminalError):
    """Another writer, ``by``, went on with this partition (or this one did, with a request believed lost)."""

    def __init__(self, topic: str, partition: int, offset: int, by: str) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.by = by
        super().__init__(
            f"partition {partition} of {topic}: writer {by or 'unknown'} has taken the offsets from {offset} on"
        )


class ForgottenError(TerminalError):
    """A range was claimed so long ago that the store may not know any more whether it has it."""

    def __init__(self, topic: str, partition: int, unfinished: tuple[int, int], since: int) -> None:
        self.topic = topic
        self.partition = partition
        self.unfinished = unfinished
        super().__init__(
            f"partition {partition} of {topic}: offsets {unfinished[0]} to {unfinished[1]} were claimed and not finished, "
            f"and {since} other ranges were stored since, so a repetition might store them twice. Store the topic anew, "
            "from its beginning, into an empty database (another `database` in zones.toml)"
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition stands: offsets below ``next_offset`` are claimed.

    ``unfinished`` is the last claimed range (first, last) when nobody wrote that it is stored: it is to be repeated.
    """

    next_offset: int
    unfinished: tuple[int, int] | None


def stored_positions(client: Client, topic_id: UUID) -> Mapping[int, int]:
    """Offset after the last stored message, by partition; partitions without one are left out."""
    rows = client.query(
        "SELECT partition, max(last_offset) + 1 FROM ingest_ledger "
        "WHERE topic_id = {topic_id:UUID} AND state = 'done' GROUP BY partition",
        parameters={"topic_id": topic_id},
    )
    return {int(partition): int(offset) for partition, offset in rows.result_rows}


class Ledger:
    """The ledger of one topic as one writer sees it."""

    def __init__(
        self, client: Client, topic: Topic, writer: str, window: int = DEDUPLICATION_WINDOW
    ) -> None:
        """``window`` is how many inserts the store's tables remember."""
        self._client = client
        self._topic = topic
        self._writer = writer
        # An insert is one block in each table, two where it goes over midnight; twice as many to be safe.
        self._remembered = window // 4

    def standings(self, partitions: Collection[int] | None = None) -> Mapping[int, Standing]:
        """Where partitions of the topic (None: all) stand; (0, None) for one that was never read.

        Raises
        ------
        ForgottenError
            An unfinished range cannot be repeated safely any more.
        """
        # Of two intents from one offset the earlier counts, as for claim(): a table that has forgotten the token of
        # the first lets a stale writer's row in. A missing end is counted, not compared: its default is a range too.
        rows = self._client.query(
            "SELECT partition, first_offset, argMinIf(last_offset, at, state = 'intent'), countIf(state = 'done') > 0 "
            "FROM ingest_ledger WHERE topic = {topic:String} AND topic_id = {topic_id:UUID} "
            "GROUP BY partition, first_offset ORDER BY first_offset DESC LIMIT 1 BY partition",
            parameters={"topic": self._topic.name, "topic_id": self._topic.id},
        )
        found = {
            number: Standing(0, None)
            for number in (self._topic.partitions if partitions is None else partitions)
        }
        for partition, first, last, done in rows.result_rows:
            if partition not in found:
                continue
            found[int(partition)] = Standing(last + 1, None if done else (first, last))
            if not done:
                self._make_sure_is_remembered(partition, (first, last))
        return found

    def _make_sure_is_remembered(self, partition: int, unfinished: tuple[int, int]) -> None:
        (since,) = self._client.query(
            "SELECT count() FROM ingest_ledger WHERE state = 'done' AND at >= (SELECT min(at) FROM ingest_ledger "
            "WHERE topic = {topic:String} AND topic_id = {topic_id:UUID} AND partition = {partition:UInt32} "
            "AND first_offset = {first:UInt64} AND state = 'intent')",
            parameters={
                "topic": self._topic.name,
                "topic_id": self._topic.id,
                "partition": partition,
                "first": unfinished[0],
            },
        ).result_rows[0]
        if since > self._remembered:
            raise ForgottenError(self._topic.name, partition, unfinished, since)

    def claim(
        self, partition: int, first: int, last: int, spans: int, not_after_ms: int = 0
    ) -> None:
        """Write the intent to store the offsets ``first`` to ``last`` (both included).

        The engine refuses it after ``not_after_ms`` (milliseconds since 1970 by its own clock; 0: never).

        Raises
        ------
        OvertakenError
            Another writer has claimed these offsets, or later ones.
        DatabaseError
            With code 469 (a constraint): it came too late.
        """
        token = f"{self._topic.id}/{partition}/{first}/intent"
        self._insert("intent", token, (partition, first, last), spans, not_after_ms)
        newest = self._client.query(
            "SELECT first_offset, last_offset, writer FROM ingest_ledger WHERE topic = {topic:String} "
            "AND topic_id = {topic_id:UUID} AND partition = {partition:UInt32} AND first_offset >= {first:UInt64} "
            "AND state = 'intent' ORDER BY first_offset DESC, at LIMIT 1",
            parameters={
                "topic": self._topic.name,
                "topic_id": self._topic.id,
                "partition": partition,
                "first": first,
            },
        ).result_rows
        if newest != [(first, last, self._writer)]:
            raise OvertakenError(self._topic.name, partition, first, newest[0][2] if newest else "")

    def finish(
        self, partition: int, first: int, last: int, spans: int, not_after_ms: int = 0
    ) -> None:
        """Write that the offsets ``first`` to ``last`` are stored; the rest as for :meth:`claim`."""
        token = f"{self._topic.id}/{partition}/{first}-{last}/done"
        self._insert("done", token, (partition, first, last), spans, not_after_ms)

    def _insert(
        self, state: str, token: str, place: tuple[int, int, int], spans: int, not_after_ms: int
    ) -> None:
        row = [self._topic.name, self._topic.id, *place, state, self._writer, spans, not_after_ms]
        self._client.insert(
            "ingest_ledger",
            [row],
            list(_COLUMNS),
            column_type_names=list(_COLUMNS.values()),
            settings={"insert_deduplication_token": token},
        )
