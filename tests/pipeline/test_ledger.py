"""Claims are a compare-and-swap: one writer goes on from an offset, and knows it."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.kafka_client import Topic
from mobius_pipeline.ledger import Ledger, OvertakenError, Standing, stored_positions
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory

pytestmark = pytest.mark.store


@pytest.fixture
def zone(zone_factory: ZoneFactory) -> Zone:
    return zone_factory(topics=False)


def ledger(zone: Zone, topic: Topic, writer: str) -> Ledger:
    return Ledger(connect(zone, Purpose.INGEST), topic, writer)


def test_standings_follow_claims_and_ends(zone: Zone) -> None:
    topic = Topic("rum.spans.eu", uuid4(), (0, 1))
    mine = ledger(zone, topic, "a")
    assert mine.standings() == {0: Standing(0, None), 1: Standing(0, None)}
    mine.claim(1, 0, 9, 50)
    assert mine.standings()[1] == Standing(10, (0, 9))
    mine.finish(1, 0, 9, 50)
    assert mine.standings() == {0: Standing(0, None), 1: Standing(10, None)}
    mine.claim(1, 10, 10, 1)
    again = ledger(zone, topic, "b").standings()
    assert again == {0: Standing(0, None), 1: Standing(11, (10, 10))}
    client = connect(zone, Purpose.ANALYSIS)
    assert stored_positions(client, topic.id) == {1: 10}
    # The same name, made anew.
    other = Topic("rum.spans.eu", uuid4(), (0, 1))
    assert ledger(zone, other, "a").standings() == {0: Standing(0, None), 1: Standing(0, None)}
    assert stored_positions(client, other.id) == {}


def test_a_writer_that_was_overtaken_reads_it(zone: Zone) -> None:
    topic = Topic("rum.spans.eu", uuid4(), (0,))
    old, new = ledger(zone, topic, "old"), ledger(zone, topic, "new")
    new.claim(0, 0, 99, 1)
    with pytest.raises(OvertakenError) as same_offset:
        old.claim(0, 0, 49, 1)
    assert (same_offset.value.by, same_offset.value.offset) == ("new", 0)
    new.finish(0, 0, 99, 1)
    new.claim(0, 100, 199, 1)
    with pytest.raises(OvertakenError):
        old.claim(0, 50, 120, 1)
    assert new.standings() == {0: Standing(200, (100, 199))}
    new.finish(0, 100, 199, 1)
    new.claim(0, 200, 300, 1)


def test_of_writers_that_race_one_wins(zone: Zone) -> None:
    topic = Topic("rum.spans.eu", uuid4(), (0,))
    for first in range(0, 50, 10):
        outcomes: list[tuple[str, str]] = []
        gate = threading.Barrier(4)

        def race(
            name: str,
            last: int,
            first: int = first,
            gate: threading.Barrier = gate,
            outcomes: list[tuple[str, str]] = outcomes,
        ) -> None:
            mine = ledger(zone, topic, name)
            gate.wait()
            try:
                mine.claim(0, first, last, 1)
                outcomes.append((name, name))
            except OvertakenError as error:
                outcomes.append((name, error.by))

        threads = [
            threading.Thread(target=race, args=(f"w{number}", first + 6 + number))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Four writers, and each of them knows the same winner.
        assert len({name for name, _ in outcomes}) == 4
        assert len({winner for _, winner in outcomes}) == 1
        (standing,) = ledger(zone, topic, "reader").standings().values()
        assert standing.unfinished is not None
        assert standing.unfinished[0] == first
