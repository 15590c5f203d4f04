"""The protocol of ledger and tokens against a simple reference: writers claim, store, die, stand still and go on.

The real ledger over the real engine. A topic is a pair of endless logs; storing a range is one insert under the
range's token, as the worker does it. Each example has a topic of its own, so the tables are never emptied.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mobius_pipeline.kafka_client import Topic
from mobius_pipeline.ledger import Ledger, OvertakenError, Standing
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory

pytestmark = pytest.mark.store

PARTITIONS = (0, 1)
# So few that a flood of other inserts makes the ledger's table forget every token.
LEDGER_WINDOW = 4
WRITERS = st.integers(0, 2)


@dataclass
class Writer:
    """A worker between two failures: where it goes on, and the range that it has under way, by partition."""

    ledger: Ledger
    name: str
    upcoming: dict[int, int]
    under_way: dict[int, tuple[int, int]] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)


def machine(client: Any) -> type[RuleBasedStateMachine]:  # noqa: C901  # one class, its rules counted as branches
    class Writers(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.topic = Topic("rum.spans.model", uuid4(), PARTITIONS)
            self.writers: dict[int, Writer] = {}
            # The reference: the ranges of each partition in order, and which of them somebody finished.
            self.ranges: dict[int, list[tuple[int, int]]] = {number: [] for number in PARTITIONS}
            self.finished: set[tuple[int, int]] = set()

        def end(self, partition: int) -> int:
            return self.ranges[partition][-1][1] + 1 if self.ranges[partition] else 0

        def begin(self) -> Writer:
            name = uuid4().hex[:8]
            ledger = Ledger(client, self.topic, name)
            standings = ledger.standings()
            for number, standing in standings.items():
                last = self.ranges[number][-1] if self.ranges[number] else None
                open_range = last if last and (number, last[0]) not in self.finished else None
                assert (standing.next_offset, standing.unfinished) == (self.end(number), open_range)
            writer = Writer(ledger, name, {n: s.next_offset for n, s in standings.items()})
            writer.under_way = {n: s.unfinished for n, s in standings.items() if s.unfinished}
            return writer

        @rule(number=WRITERS)
        def start_or_restart(self, number: int) -> None:
            self.writers[number] = self.begin()

        @precondition(lambda self: self.writers)
        @rule(number=WRITERS, partition=st.sampled_from(PARTITIONS), size=st.integers(1, 5))
        def claim(self, number: int, partition: int, size: int) -> None:
            writer = self.writers.get(number)
            if writer is None or partition in writer.under_way:
                return
            first = writer.upcoming[partition]
            last = first + size - 1
            try:
                writer.ledger.claim(partition, first, last, size)
            except OvertakenError:
                assert first < self.end(partition), "refused although nobody was before it"
                del self.writers[number]
            else:
                assert first == self.end(partition), "a stale writer has claimed a range of its own"
                self.ranges[partition].append((first, last))
                writer.upcoming[partition] = last + 1
                writer.under_way[partition] = (first, last)

        @precondition(lambda self: any(w.under_way for w in self.writers.values()))
        @rule(number=WRITERS, partition=st.sampled_from(PARTITIONS))
        def store(self, number: int, partition: int) -> None:
            """Also twice, as after an answer that was lost."""
            writer = self.writers.get(number)
            if writer is not None and partition in writer.under_way:
                self.insert(partition, *writer.under_way[partition])
                writer.stored.add(partition)

        @precondition(lambda self: any(w.stored for w in self.writers.values()))
        @rule(number=WRITERS, partition=st.sampled_from(PARTITIONS))
        def finish(self, number: int, partition: int) -> None:
            writer = self.writers.get(number)
            if writer is not None and partition in writer.stored:
                first, last = writer.under_way.pop(partition)
                writer.stored.remove(partition)
                writer.ledger.finish(partition, first, last, last - first + 1)
                self.finished.add((partition, first))

        @rule(number=WRITERS)
        def die(self, number: int) -> None:
            self.writers.pop(number, None)

        @rule()
        def overflow_the_window(self) -> None:
            other = Ledger(client, Topic("rum.spans.other", uuid4(), (0,)), "other")
            for offset in range(LEDGER_WINDOW + 1):
                other.finish(0, offset, offset, 1)

        def insert(self, partition: int, first: int, last: int) -> None:
            client.insert(
                "model_rows",
                [[self.topic.id, partition, offset] for offset in range(first, last + 1)],
                ["topic_id", "partition", "offset"],
                settings={
                    "insert_deduplication_token": f"{self.topic.id}/{partition}/{first}-{last}"
                },
            )

        def teardown(self) -> None:
            """A last worker repeats what is unfinished; then each offset is there once, and none is missing."""
            last = self.begin()
            for partition, (first, end) in last.under_way.items():
                self.insert(partition, first, end)
                last.ledger.finish(partition, first, end, end - first + 1)
            assert found(client, self.topic.id) == Counter(
                (number, offset) for number in PARTITIONS for offset in range(self.end(number))
            )

    return Writers


def found(client: Any, topic: UUID) -> Counter[tuple[int, int]]:
    rows = client.query(
        "SELECT partition, offset FROM model_rows WHERE topic_id = {topic:UUID}",
        parameters={"topic": topic},
    ).result_rows
    return Counter((int(partition), int(offset)) for partition, offset in rows)


@pytest.fixture
def client(zone_factory: ZoneFactory) -> Any:
    opened = connect(zone_factory(topics=False), Purpose.INGEST)
    opened.command(
        "CREATE TABLE model_rows (topic_id UUID, partition UInt32, offset UInt64) ENGINE = MergeTree "
        "ORDER BY (topic_id, partition, offset) SETTINGS non_replicated_deduplication_window = 10000"
    )
    opened.command(
        f"ALTER TABLE ingest_ledger MODIFY SETTING non_replicated_deduplication_window = {LEDGER_WINDOW}"
    )
    yield opened
    opened.close()


def check(client: Any, examples: int) -> None:
    run_state_machine_as_test(
        machine(client),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_each_offset_once_whatever_writers_do(client: Any) -> None:
    check(client, 30)


def test_first_message_alone_is_claimed_and_not_stored(client: Any) -> None:
    """Found by the model: the range 0 to 0 looked finished, because it equals a missing one, and was skipped."""
    topic = Topic("rum.spans.model", uuid4(), (0,))
    Ledger(client, topic, "dead").claim(0, 0, 0, 1)
    assert Ledger(client, topic, "next").standings() == {0: Standing(1, (0, 0))}


def test_an_intent_of_a_stale_writer_that_the_window_let_in_counts_for_nothing(client: Any) -> None:
    """It reaches further than the one that was first, which is finished and the newest of its partition."""
    topic = Topic("rum.spans.model", uuid4(), (0,))
    old, new = Ledger(client, topic, "old"), Ledger(client, topic, "new")
    new.claim(0, 0, 9, 10)
    new.finish(0, 0, 9, 10)
    for offset in range(LEDGER_WINDOW + 1):
        Ledger(client, Topic("rum.spans.other", uuid4(), (0,)), "other").finish(
            0, offset, offset, 1
        )
    with pytest.raises(OvertakenError):
        old.claim(0, 0, 14, 15)
    assert new.standings()[0].next_offset == 10
    assert new.standings()[0].unfinished is None


@pytest.mark.soak
def test_each_offset_once_ten_thousand_times(client: Any) -> None:
    check(client, 10_000)
