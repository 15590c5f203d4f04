"""`mobius-rum up --broker kafka`: the stack on a real Kafka, whose topics outlive it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mobius_infra.kafka_broker import KafkaMissingError, require
from mobius_instrumentation.zones import load_zones
from mobius_pipeline.kafka_client import Topic, describe_topic
from tests.system.test_up import Up, eventually_gone, sample

pytestmark = [pytest.mark.system, pytest.mark.kafka, pytest.mark.store, pytest.mark.timeout(240)]


class KafkaUp(Up):
    """Takes the ports of the demo, which does not run, for broker and controller."""

    def command(self, *more: str) -> list[str]:
        command = super().command(*more)
        return [*command, f"--broker-port={self.ports['demo']}"]

    def import_sample(self) -> dict[str, Any]:
        done = self.cli(
            "import", "spans", str(sample()), "--region", "eu-west-1", "--wait", "--json"
        )
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def spans(self) -> tuple[int, int]:
        """Spans and lag of zone eu."""
        zone = json.loads(self.cli("status", "--json").stdout)["zones"]["eu"]
        return zone["spans"], zone["lag"]

    def topic(self) -> Topic | None:
        zone = load_zones(self.data / "zones.toml").zone_of("eu-west-1")
        assert zone is not None
        return describe_topic(zone, zone.spans_topic)

    def end(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.line(r"^stopped$")
        assert self.process.wait(timeout=60) == 0
        eventually_gone(self)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[KafkaUp]:
    """Not started."""
    try:
        require()
    except KafkaMissingError as error:
        pytest.skip(f"NOT TESTED ON APACHE KAFKA: {error}")
    made = KafkaUp(tmp_path, ("--no-demo", "--broker", "kafka"))
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.communicate()
    eventually_gone(made)


def test_topics_and_offsets_outlive_the_stack_and_a_killed_broker(up: KafkaUp) -> None:
    up.start()
    assert "Apache Kafka" in up.line(r"^broker ")
    up.line(r"^The dashboard: ")
    published = up.import_sample()["published"]
    assert published > 0
    assert up.spans() == (published, 0)
    topic = up.topic()
    assert topic is not None
    up.end()

    # The next stack has the same topic, and stores nothing of it again; so has a broker that was killed.
    up.start()
    up.line(r"^The dashboard: ")
    os.kill(up.state()["broker"]["pid"], signal.SIGKILL)
    up.line(r"^broker answers again")
    assert up.topic() == topic
    assert up.spans() == (published, 0)
