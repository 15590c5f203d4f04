"""The protocol of ledger, leases and tokens against a simple reference.

Writers claim, store, die, stand still beyond their lease and go on, while the store forgets tokens. The real ledger over
the real engine. A topic is a pair of endless logs; storing a range is one insert under the range's token, with the end
of its writer's lease, as the worker does it. Each example has a topic of its own, so the tables are never emptied.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mobius_pipeline.kafka_client import Topic
from mobius_pipeline.ledger import ForgottenError, Ledger, OvertakenError, Standing
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory

pytestmark = pytest.mark.store

PARTITIONS = (0, 1)
# So few that a flood of other inserts makes the table forget every token.
LEDGER_WINDOW = 4
DATA_WINDOW = 12
STEPS = 20
# What the ledger is told: it trusts a quarter of it, which the inserts of one example never reach by themselves, not
# even when every step overflows the ledger's own window.
TOLD_WINDOW = 4 * STEPS * (LEDGER_WINDOW + 2)
WRITERS = st.integers(0, 2)
LONG_AGO_MS = 1
_COLUMNS = ["topic_id", "partition", "offset", "not_after"]


@dataclass
class Writer:
    """A worker between two failures: where it goes on, and the range that it has under way, by partition."""

    ledger: Ledger
    name: str
    upcoming: dict[int, int]
    under_way: dict[int, tuple[int, int]] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)
    until_ms: int = field(default_factory=lambda: int(time.time() * 1000) + 3_600_000)

    @property
    def stale(self) -> bool:
        """Whether its lease has ended."""
        return self.until_ms == LONG_AGO_MS


class TooLateError(Exception):
    """The engine refused what came after the end of its writer's lease."""


def machine(client: Any) -> type[RuleBasedStateMachine]:  # noqa: C901  # one class, its rules counted as branches
    class Writers(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.topic = Topic("rum.spans.model", uuid4(), PARTITIONS)
            self.writers: dict[int, Writer] = {}
            # The reference: the ranges of each partition in order, which of them somebody finished, and which were
            # open when the store forgot.
            self.ranges: dict[int, list[tuple[int, int]]] = {number: [] for number in PARTITIONS}
            self.finished: set[tuple[int, int]] = set()
            self.forgotten: set[tuple[int, int]] = set()

        def end(self, partition: int) -> int:
            return self.ranges[partition][-1][1] + 1 if self.ranges[partition] else 0

        def open_ranges(self) -> dict[int, tuple[int, int]]:
            last = {number: ranges[-1] for number, ranges in self.ranges.items() if ranges}
            return {n: r for n, r in last.items() if (n, r[0]) not in self.finished}

        def begin(self) -> Writer | None:
            name = uuid4().hex[:8]
            ledger = Ledger(client, self.topic, name, window=TOLD_WINDOW)
            unfinished = self.open_ranges()
            if any((n, r[0]) in self.forgotten for n, r in unfinished.items()):
                with pytest.raises(ForgottenError):
                    ledger.standings()
                return None
            expected = {n: Standing(self.end(n), unfinished.get(n)) for n in PARTITIONS}
            assert ledger.standings() == expected
            writer = Writer(ledger, name, {n: self.end(n) for n in PARTITIONS})
            writer.under_way = unfinished
            return writer

        @rule(number=WRITERS, others_are_late=st.booleans())
        def start_or_restart(self, number: int, others_are_late: bool) -> None:
            """Take the partitions over; from writers whose leases have ended, or (of one name) have not."""
            if others_are_late:
                self.end_leases()
            if (writer := self.begin()) is not None:
                self.writers[number] = writer

        @precondition(lambda self: self.writers)
        @rule(number=WRITERS, partition=st.sampled_from(PARTITIONS), size=st.integers(1, 5))
        def claim(self, number: int, partition: int, size: int) -> None:
            writer = self.writers.get(number)
            if writer is None or partition in writer.under_way:
                return
            first = writer.upcoming[partition]
            last = first + size - 1
            try:
                with fenced(writer):
                    writer.ledger.claim(partition, first, last, size, writer.until_ms)
            except TooLateError:
                del self.writers[number]
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
            if writer is None or partition not in writer.under_way:
                return
            try:
                with fenced(writer):
                    self.insert(partition, *writer.under_way[partition], writer.until_ms)
            except TooLateError:
                del self.writers[number]
            else:
                writer.stored.add(partition)

        @precondition(lambda self: any(w.stored for w in self.writers.values()))
        @rule(number=WRITERS, partition=st.sampled_from(PARTITIONS))
        def finish(self, number: int, partition: int) -> None:
            writer = self.writers.get(number)
            if writer is None or partition not in writer.stored:
                return
            first, last = writer.under_way.pop(partition)
            writer.stored.remove(partition)
            try:
                with fenced(writer):
                    writer.ledger.finish(partition, first, last, last - first + 1, writer.until_ms)
            except TooLateError:
                del self.writers[number]
            else:
                self.finished.add((partition, first))

        @rule(number=WRITERS)
        def die(self, number: int) -> None:
            self.writers.pop(number, None)

        @rule()
        def end_leases(self) -> None:
            for writer in self.writers.values():
                writer.until_ms = LONG_AGO_MS

        @rule()
        def overflow_the_ledgers_window(self) -> None:
            other = Ledger(client, Topic("rum.spans.other", uuid4(), (0,)), "other")
            for offset in range(LEDGER_WINDOW + 1):
                other.finish(0, offset, offset, 1)

        @rule()
        def overflow_the_datas_window(self) -> None:
            """So many inserts that tokens are forgotten take far longer than any lease lasts."""
            self.end_leases()
            self.forgotten |= {(number, first) for number, (first, _) in self.open_ranges().items()}
            other = Topic("rum.spans.other", uuid4(), (0,))
            client.insert(
                "model_rows", [[other.id, n, 0, 0] for n in range(2, DATA_WINDOW + 3)], _COLUMNS
            )
            client.command(
                "INSERT INTO ingest_ledger (topic, topic_id, partition, first_offset, last_offset, state) "
                f"SELECT 'rum.spans.other', '{other.id}', 0, number, number, 'done' FROM numbers({TOLD_WINDOW})"
            )

        def insert(self, partition: int, first: int, last: int, until_ms: int) -> None:
            token = f"{self.topic.id}/{partition}/{first}-{last}"
            client.insert(
                "model_rows",
                [[self.topic.id, partition, offset, until_ms] for offset in range(first, last + 1)],
                _COLUMNS,
                settings={"insert_deduplication_token": token},
            )

        def teardown(self) -> None:
            """A last worker repeats what is unfinished; then each offset is there once, and none is missing."""
            last = self.begin()
            unknown: set[tuple[int, int]] = set()
            if last is None:
                # Nobody may repeat these: they may be missing, but no more than that.
                unfinished = self.open_ranges().items()
                unknown = {(n, offset) for n, (a, b) in unfinished for offset in range(a, b + 1)}
            else:
                for partition, (first, end) in last.under_way.items():
                    self.insert(partition, first, end, last.until_ms)
                    last.ledger.finish(partition, first, end, end - first + 1, last.until_ms)
            there = found(client, self.topic.id)
            assert set(there.values()) <= {1}
            every = {
                (number, offset) for number in PARTITIONS for offset in range(self.end(number))
            }
            assert every - unknown <= set(there) <= every

    return Writers


@contextmanager
def fenced(writer: Writer) -> Iterator[None]:
    """The engine must refuse a stale writer, and nobody else."""
    try:
        yield
    except DatabaseError as error:
        if error.code != 469 or not writer.stale:
            raise
        raise TooLateError from error
    assert not writer.stale, "a stale writer has written"


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
        "CREATE TABLE model_rows (topic_id UUID, partition UInt32, offset UInt64, not_after UInt64, "
        "CONSTRAINT lease CHECK not_after = 0 OR not_after >= toUnixTimestamp64Milli(nowInBlock64(3))) "
        "ENGINE = MergeTree PARTITION BY partition ORDER BY (topic_id, offset) "
        f"SETTINGS non_replicated_deduplication_window = {DATA_WINDOW}"
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
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(900)
def test_each_offset_once_whatever_writers_do(client: Any) -> None:
    check(client, 200)


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
