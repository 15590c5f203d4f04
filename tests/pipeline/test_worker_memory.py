"""What is gathered is bounded by bytes: partitions are paused for it, and nothing of them is lost."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mobius_pipeline.kafka_client import describe_topic
from mobius_pipeline.ledger import Ledger
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.worker import WorkerOptions
from mobius_pipeline.worker.batch import BatchLimits
from mobius_pipeline.worker.fetch import Fetch
from tests.conftest import ZoneFactory, on_both_brokers
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.test_worker import drain, rows


@pytest.mark.store
class TestOnBothBrokers:
    pytestmark = on_both_brokers

    def test_partitions_are_paused_while_too_much_is_gathered(
        self, zone_factory: ZoneFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two ranges are to be repeated; neither may be cut, so they are gathered one after the other."""
        zone = zone_factory()
        ids = [os.urandom(8) for _ in range(600)]
        values = [make_message(make_resource([make_span(span_id=i)])) for i in ids]
        publish(zone, [(n % 2, value) for n, value in enumerate(values)])
        topic = describe_topic(zone, zone.spans_topic)
        assert topic is not None
        dead = Ledger(connect(zone, Purpose.INGEST), topic, "dead")
        for partition in (0, 1):
            dead.claim(partition, 0, 199, 200)
        paused: list[frozenset[int]] = []
        pause = Fetch.pause

        def watch(self: Fetch, partitions: frozenset[int]) -> None:
            pause(self, partitions)
            paused.append(self.paused)

        monkeypatch.setattr(Fetch, "pause", watch)
        # One poll gives all there is on a quiet machine: make it give little.
        monkeypatch.setattr("mobius_pipeline.worker.fetch.MOST_POLLED", 20)
        limits = BatchLimits(spans=10_000, seconds=0.05, gathered_bytes=40 * len(values[0]))
        drain(zone, WorkerOptions(limits=limits))
        assert any(paused), "nothing was paused, so nothing was proved"
        assert not paused[-1]
        assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(ids)
        repeated = rows(
            zone,
            "SELECT partition, first_offset, last_offset FROM ingest_ledger "
            "WHERE state = 'done' AND first_offset = 0 ORDER BY partition",
        )
        assert repeated == [(0, 0, 199), (1, 0, 199)]


@pytest.mark.soak
def test_a_gigabyte_of_backlog_is_drained_within_512_mb(tmp_path: Path) -> None:
    """The kernel holds the worker to the limit; the benchmark fails when it does not finish, or loses a span."""
    from mobius_infra.benchmarks.backlog import run

    result: dict[str, Any] = run()
    assert result["bytes"] >= 1_000_000_000
    assert result["limit_mb"] == 512
