"""The commands of the pipeline: documents, exit codes, messages for people."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import describe_topic
from mobius_pipeline.status import zone_status
from tests.conftest import ZoneFactory

NOWHERE = "127.0.0.1:1"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mobius_infra.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.store
@pytest.mark.kafka
def test_migrate_and_status_of_a_fresh_zone(
    broker: str,
    store_server: str,
    zone_factory: ZoneFactory,
    zones_file_factory: Callable[..., Path],
) -> None:
    made = zone_factory(topics=False)
    zone = Zone(f"{made.name}_x", ("eu-west-1",), (broker,), store_server, f"{made.database}_x")
    config = str(zones_file_factory(zone))
    before = run("status", "--json", "--config", config)
    assert (before.returncode, before.stdout) == (3, "")
    assert "mobius-rum migrate" in before.stderr
    dry = run("migrate", "--dry-run", "--json", "--config", config)
    steps = json.loads(dry.stdout)["stores"][zone.name]["steps"]
    assert [step["version"] for step in steps] == list(range(1, len(steps) + 1))
    assert not any(step["applied"] for step in steps)
    assert run("status", "--config", config).returncode == 3
    assert run("migrate", "--config", config).returncode == 0
    topic = describe_topic(zone, zone.spans_topic)
    assert topic is not None
    assert topic.partitions == (0, 1)
    again = json.loads(run("migrate", "--json", "--config", config).stdout)["stores"][zone.name]
    assert (again["steps"], again["version"]) == ([], len(steps))
    after = run("status", "--json", "--config", config)
    assert (after.returncode, after.stderr) == (0, "")
    assert json.loads(after.stdout) == {
        "zones": {
            zone.name: {
                "spans": 0,
                "traces": 0,
                "minutes": 0,
                "lag": 0,
                "dead_letters": 0,
                "quarantined": 0,
                "newest": None,
            }
        }
    }


@pytest.mark.store
@pytest.mark.kafka
def test_status_names_what_is_away(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    zone = zone_factory()
    with pytest.raises(DependencyError) as store:
        zone_status(replace(zone, clickhouse=f"http://{NOWHERE}"))
    assert f"the store of zone {zone.name} at http://{NOWHERE} does not answer" in str(store.value)
    answer = run("status", "--config", str(zones_file_factory(replace(zone, kafka=(NOWHERE,)))))
    assert answer.returncode == 3
    assert f"the Kafka broker of zone {zone.name} at {NOWHERE} does not answer" in answer.stderr
    assert "mobius-rum up" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_status_can_be_waited_on_before_the_stack_wrote_its_map(tmp_path: Path) -> None:
    file = tmp_path / "zones.toml"
    missing = run("status", "--json", "--config", str(file))
    assert (missing.returncode, missing.stdout) == (3, "")
    assert f"the stack at {file} does not answer (not written yet)" in missing.stderr
    file.write_text("zones = 1")
    wrong = run("status", "--config", str(file))
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_ingest_serves_one_zone(zones_file_factory: Callable[..., Path]) -> None:
    zones = [
        Zone(name, (name,), (NOWHERE,), f"http://{NOWHERE}", f"rum_{name}") for name in ("eu", "us")
    ]
    config = str(zones_file_factory(*zones))
    both = run("ingest", "--config", config)
    assert (both.returncode, both.stdout) == (2, "")
    assert "eu, us" in both.stderr
    unknown = run("ingest", "--zone", "in", "--config", config)
    assert unknown.returncode == 2
    assert "no zone 'in'" in unknown.stderr
