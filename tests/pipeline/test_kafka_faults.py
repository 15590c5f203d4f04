"""Whatever happens between worker and broker, nothing is lost and nothing is there twice."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from mobius_infra.kafka_broker import KafkaBroker, KafkaMissingError, Listener, free_ports
from mobius_instrumentation.zones import Zone
from mobius_pipeline.kafka_client import ensure_topics
from tests.conftest import ZoneFactory, start_broker, stop_process
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.proxy import Fault, Proxy, proxied
from tests.pipeline.test_worker import read_dead_letters, rows, wait_for, working
from tests.pipeline.test_worker_faults import TINY, assert_once_each

pytestmark = [pytest.mark.store, pytest.mark.kafka, pytest.mark.timeout(900)]

# The test's own producers and consumers, by the names that kafka-python gives them.
SPARED = b"kafka-python-"
FAULT_SECONDS = 2.0


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def behind_proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A broker whose clients are told the proxy's address."""
    (port,) = free_ports(0)
    with proxied(f"127.0.0.1:{port}", SPARED) as proxy:
        if request.param == "embedded":
            process, _ = start_broker(port, proxy.address)
            yield proxy
            stop_process(process)
            return
        listener = Listener("PROXIED", "PLAINTEXT", port, advertised=proxy.address)
        try:
            with (
                tempfile.TemporaryDirectory(prefix="mobius-kafka-") as folder,
                KafkaBroker(Path(folder), listeners=[listener]),
            ):
                yield proxy
        except KafkaMissingError as error:
            pytest.skip(f"NOT TESTED ON APACHE KAFKA: {error}")


@pytest.fixture
def zone(zone_factory: ZoneFactory, behind_proxy: Proxy) -> Zone:
    zone = replace(zone_factory(topics=False), kafka=(behind_proxy.address,))
    ensure_topics(zone)
    return zone


def publish_some(zone: Zone) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Publish 200 spans, and two messages that nobody can read; returns the ids, and the positions of the two."""
    ids = [os.urandom(8) for _ in range(200)]
    messages: list[tuple[int, bytes | None]] = [
        (
            n % 2,
            make_message(
                make_resource([make_span(span_id=each) for each in ids[n * 5 : n * 5 + 5]])
            ),
        )
        for n in range(40)
    ]
    messages[10:10] = [(0, b"no protobuf"), (1, b"none either")]
    positions = publish(zone, messages)
    return ids, positions[10:12]


def stored(zone: Zone) -> int:
    return int(rows(zone, "SELECT count() FROM spans")[0][0])


def caught_up(zone: Zone, worker: threading.Thread, count: int) -> bool:
    return not worker.is_alive() or stored(zone) >= count


def suffer(zone: Zone, proxy: Proxy, fault: Fault) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Publish while the fault lasts, so that what is fetched and declared dead meets it."""
    before = proxy.suffered
    proxy.fault = fault
    published = publish_some(zone) if fault != "refuse" else None
    deadline = time.monotonic() + FAULT_SECONDS
    wait_for(lambda: proxy.suffered > before and time.monotonic() > deadline)
    proxy.fault = None
    return published or publish_some(zone)


def test_network_that_hangs_crawls_cuts_and_refuses(zone: Zone, behind_proxy: Proxy) -> None:
    ids, dead = publish_some(zone)
    with working(zone, TINY) as worker:
        wait_for(lambda: stored(zone) == len(ids))
        for fault in get_args(Fault):
            more, more_dead = suffer(zone, behind_proxy, fault)
            ids += more
            dead += more_dead
            count = len(ids)
            wait_for(partial(caught_up, zone, worker, count))
    assert_once_each(zone, ids)
    found = rows(zone, "SELECT partition, offset FROM dead_letters FINAL")
    assert sorted(found) == sorted(dead)
    # A letter whose acknowledgement was lost may be there again, under the same key, never missing.
    letters = {(int(h["partition"]), int(h["offset"])) for h, _ in read_dead_letters(zone)}
    assert letters == set(dead)
