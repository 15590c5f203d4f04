"""A store whose disk is full, for a while: it waits, and then nothing is lost and nothing is there twice."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import ensure_topics
from mobius_pipeline.migrate import migrate
from mobius_pipeline.status import lag
from mobius_pipeline.store import Purpose, connect, store_errors
from tests.pipeline.test_worker import wait_for, working
from tests.pipeline.test_worker_faults import (
    TINY,
    assert_once_each,
    command,
    publish_spans,
    refused_intents,
)
from tests.small_disk import SmallDisk, store_on_small_disk

pytestmark = [pytest.mark.store, pytest.mark.kafka]


@pytest.fixture(scope="module")
def disk() -> Iterator[SmallDisk]:
    with store_on_small_disk() as disk:
        yield disk


@pytest.fixture
def zone(disk: SmallDisk, broker: str) -> Zone:
    name = f"eu_{os.urandom(4).hex()}"
    zone = Zone(name, ("eu-west-1",), (broker,), disk.url, f"rum_{name}")
    migrate(zone)
    ensure_topics(zone)
    return zone


@pytest.mark.parametrize(("what", "code"), [("bytes", 243), ("files", 1001)])
def test_a_full_disk_has_a_code_that_is_waited_for(
    zone: Zone, disk: SmallDisk, what: str, code: int
) -> None:
    client = connect(zone, Purpose.INGEST)
    disk.fill("bytes" if what == "bytes" else "files")
    try:
        with pytest.raises(DependencyError) as full, store_errors(zone):
            client.insert(
                "dead_letters",
                [["t", 0, 0, "r", 1]],
                ["topic", "partition", "offset", "reason", "bytes"],
            )
        assert getattr(full.value.__cause__, "code", None) == code
    finally:
        disk.free()
        client.close()


def test_a_disk_that_fills_again_and_again(zone: Zone, disk: SmallDisk) -> None:
    # A merge that meets a full disk can leave a part that nobody can read (docs/operations.md); this is about inserts.
    command(zone, "SYSTEM STOP MERGES")
    ids = publish_spans(zone, 20)
    with working(zone, TINY) as worker:
        wait_for(lambda: lag(zone) == 0)
        refused = 0
        for cycle in range(6):
            ids += publish_spans(zone, 200)
            # In the midst of its work, and each time a little later.
            time.sleep(0.05 * cycle)
            disk.fill("files" if cycle % 2 else "bytes")
            time.sleep(1.0)
            refused += refused_intents(zone)
            disk.free()
            assert worker.is_alive()
        wait_for(lambda: lag(zone) == 0)
    assert refused, "no insert met the full disk, so nothing was proved"
    assert_once_each(zone, ids)
