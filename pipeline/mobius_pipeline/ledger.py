"""Where ingestion stands, kept in the store beside the data; writing an intent is a compare-and-swap.

The row of an intent carries a deduplication token that names partition and first offset only. When two writers want to
go on from the same offset (one of them paused, believed dead, replaced), the store keeps the first row and drops the
other, and each reads back whose it is. So no offset range is ever cut in two ways, and a repeated insert of a range
always has the token, and the blocks, of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from mobius_pipeline.errors import TerminalError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mobius_pipeline.kafka_client import Topic

__all__ = ["Ledger", "OvertakenError", "Standing", "stored_positions"]

_COLUMNS: Final = [
    "topic",
    "topic_id",
    "partition",
    "first_offset",
    "last_offset",
    "state",
    "writer",
    "spans",
]


class OvertakenError(TerminalError):
    """Another writer, ``by``, went on with this partition (or this one did, with a request believed lost)."""

    def __init__(self, topic: str, partition: int, offset: int, by: str) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.by = by
        super().__init__(
            f"partition {partition} of {topic}: writer {by or 'unknown'} has taken the offsets from {offset} on; "
            "run one worker a zone"
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

    def __init__(self, client: Client, topic: Topic, writer: str) -> None:
        self._client = client
        self._topic = topic
        self._writer = writer

    def standings(self) -> Mapping[int, Standing]:
        """Where each partition of the topic stands; (0, None) for one that was never read."""
        # Of two intents from one offset the earlier counts, as for claim(): a table that has forgotten the token of
        # the first lets a stale writer's row in. A missing end is counted, not compared: its default is a range too.
        rows = self._client.query(
            "SELECT partition, first_offset, argMinIf(last_offset, at, state = 'intent'), countIf(state = 'done') > 0 "
            "FROM ingest_ledger WHERE topic = {topic:String} AND topic_id = {topic_id:UUID} "
            "GROUP BY partition, first_offset ORDER BY first_offset DESC LIMIT 1 BY partition",
            parameters={"topic": self._topic.name, "topic_id": self._topic.id},
        )
        found = {partition: Standing(0, None) for partition in self._topic.partitions}
        for partition, first, last, done in rows.result_rows:
            found[int(partition)] = Standing(last + 1, None if done else (first, last))
        return found

    def claim(self, partition: int, first: int, last: int, spans: int) -> None:
        """Write the intent to store the offsets ``first`` to ``last`` (both included).

        Raises
        ------
        OvertakenError
            Another writer has claimed these offsets, or later ones.
        """
        token = f"{self._topic.id}/{partition}/{first}/intent"
        self._insert("intent", token, (partition, first, last), spans)
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

    def finish(self, partition: int, first: int, last: int, spans: int) -> None:
        """Write that the offsets ``first`` to ``last`` are stored."""
        token = f"{self._topic.id}/{partition}/{first}-{last}/done"
        self._insert("done", token, (partition, first, last), spans)

    def _insert(self, state: str, token: str, place: tuple[int, int, int], spans: int) -> None:
        row = [self._topic.name, self._topic.id, *place, state, self._writer, spans]
        self._client.insert(
            "ingest_ledger", [row], _COLUMNS, settings={"insert_deduplication_token": token}
        )
