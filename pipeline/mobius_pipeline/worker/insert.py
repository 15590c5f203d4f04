"""Step 6: store a claimed range under its token; doing it again changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobius_pipeline.dead_letters import DeadLetter, DeadLetters
from mobius_pipeline.quarantine import store_foreign
from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, envelope
from mobius_pipeline.worker.steps import Batch

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Insert"]


class Insert:
    """Writes dead letters, quarantine and spans; returns when all of them are held by broker and store."""

    def __init__(self, client: Client, dead_letters: DeadLetters) -> None:
        self._client = client
        self._dead_letters = dead_letters

    def submit(self, item: Batch) -> tuple[Batch]:
        """Store one batch."""
        self._dead_letters.write(
            item.topic,
            item.partition,
            [
                DeadLetter(routed.message.offset, routed.problem, routed.message.value)
                for routed in item.items
                if routed.problem
            ],
            item.token,
        )
        store_foreign(
            self._client,
            item.topic.name,
            item.partition,
            [
                (routed.message.offset, foreign)
                for routed in item.items
                for foreign in routed.foreign
            ],
            item.token,
        )
        body = envelope(
            (routed.body, item.partition, routed.message.offset)
            for routed in item.items
            if routed.spans
        )
        if body:
            self._client.raw_insert(
                TABLE,
                insert_block=body,
                fmt="Protobuf",
                settings={**INSERT_SETTINGS, "insert_deduplication_token": item.token},
            )
        return (item,)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()
