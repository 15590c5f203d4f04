"""Step 6: store a claimed range under its token; doing it again changes nothing.

A message that the protobuf runtime reads and the engine refuses fails the whole insert. It is found
(:mod:`mobius_pipeline.worker.isolate`), goes to the dead letters, and the rest of the range is stored under the very
same token. That stays safe on every repetition, by whichever worker:

- Reading refuses before anything of a block is written, so of a refused insert only whole blocks before the guilty
  message can be stored; the rest of the range has these blocks unchanged, and their tokens drop them.
- The dead letters are in the store before the rest is. Who repeats a range reads first which of its messages are
  dead, and leaves these out, whatever its own engine or version thinks of them. So the same token has the same data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog
from clickhouse_connect.driver.exceptions import DatabaseError

from mobius_pipeline.dead_letters import DeadLetter, DeadLetters
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.quarantine import store_foreign
from mobius_pipeline.removals import store_removals
from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, envelope
from mobius_pipeline.worker.assign import Fence, unfenced
from mobius_pipeline.worker.isolate import find_refused, is_poison, reason_of
from mobius_pipeline.worker.poison import PoisonGuard
from mobius_pipeline.worker.steps import Batch, Routed

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Insert"]

_log = structlog.get_logger("mobius.worker")


class Insert:
    """Writes dead letters, quarantine and spans; returns when all of them are held by broker and store."""

    def __init__(
        self,
        client: Client,
        dead_letters: DeadLetters,
        guard: PoisonGuard | None = None,
        fence: Fence = unfenced,
    ) -> None:
        self._client = client
        self._dead_letters = dead_letters
        self._guard = guard or PoisonGuard()
        self._fence = fence

    def submit(self, item: Batch) -> tuple[Batch]:
        """Store one batch; give it as it was stored.

        1. Leave out what an earlier attempt at the same range declared dead.
        2. Write what is known to be dead, what is foreign, and what the services removed.
        3. Store the rest; where the engine refuses messages, declare these dead and store what is left.

        Raises
        ------
        PoisonedError
            The engine refuses more than the set share of the messages.
        TerminalError
            The engine refuses the range as a whole, and none of its messages by itself.
        LeaseLostError
            The partition is not ours any more.
        """
        if item.repeated:
            item = _without(item, self._declared(item))  # 1
        self._bury(item, [routed for routed in item.items if routed.problem], "dead")  # 2
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
        removed = (one for routed in item.items for one in routed.removed)
        store_removals(self._client, removed, item.token)
        try:
            self._store(item)  # 3
        except DatabaseError as error:
            if not is_poison(error):
                raise
            item = self._isolate(item, error)
        return (item,)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def _store(self, item: Batch) -> None:
        messages = _messages(item)
        if messages and (body := envelope(messages, self._fence(item.partition))):
            self._client.raw_insert(
                TABLE,
                insert_block=body,
                fmt="Protobuf",
                settings={**INSERT_SETTINGS, "insert_deduplication_token": item.token},
            )

    def _isolate(self, item: Batch, refusal: DatabaseError) -> Batch:
        refused = find_refused(self._client, _messages(item))
        if refused:
            last = max(refused)
            self._guard.add(
                len(refused),
                len(item.items),
                f"partition {item.partition}, offset {last}: {refused[last]}",
            )
        kept = _without(item, refused)
        guilty = [routed for routed in kept.items if routed.message.offset in refused]
        # Another set of messages is another write.
        named = sha256(",".join(map(str, sorted(refused))).encode()).hexdigest()[:16]
        self._bury(item, guilty, f"refused/{named}")
        for routed in guilty:
            _log.warning(
                "dead letter",
                partition=item.partition,
                offset=routed.message.offset,
                reason=routed.problem,
            )
        try:
            self._store(kept)
        except DatabaseError as error:
            if not is_poison(error):
                raise
            raise TerminalError(
                f"partition {item.partition} of {item.topic.name}, offsets {item.first} to {item.last}: the store refuses "
                f"them together and takes each by itself, so no message is at fault ({reason_of(refusal)})"
            ) from error
        return kept

    def _bury(self, item: Batch, dead: list[Routed], part: str) -> None:
        self._dead_letters.write(
            item.topic,
            item.partition,
            [
                DeadLetter(
                    routed.message.offset,
                    routed.problem,
                    routed.message.value,
                    routed.message.encoding,
                )
                for routed in dead
            ],
            f"{item.token}/{part}",
        )

    def _declared(self, item: Batch) -> Mapping[int, str]:
        rows = self._client.query(
            "SELECT offset, reason FROM dead_letters FINAL WHERE topic = {topic:String} AND topic_id = {topic_id:UUID} "
            "AND partition = {partition:UInt32} AND offset BETWEEN {first:UInt64} AND {last:UInt64}",
            parameters={
                "topic": item.topic.name,
                "topic_id": item.topic.id,
                "partition": item.partition,
                "first": item.first,
                "last": item.last,
            },
        ).result_rows
        return {int(offset): str(reason) for offset, reason in rows}


def _messages(item: Batch) -> list[tuple[bytes, int, int]]:
    return [
        (routed.body, item.partition, routed.message.offset)
        for routed in item.items
        if routed.spans
    ]


def _without(item: Batch, dead: Mapping[int, str]) -> Batch:
    """Return the batch with the messages at these offsets emptied, and the reason as their problem."""
    return replace(
        item,
        items=tuple(
            replace(routed, body=b"", spans=0, problem=dead[routed.message.offset])
            if routed.message.offset in dead and not routed.problem
            else routed
            for routed in item.items
        ),
    )
