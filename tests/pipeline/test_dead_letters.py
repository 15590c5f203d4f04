"""Dead letters are listed, shown, and published again at most once each."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.dead_letter_replay import find_letters, letter_value, replay
from mobius_pipeline.errors import UsageError
from mobius_pipeline.kafka_client import describe_topic
from mobius_pipeline.status import lag, zone_status
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.test_pipeline_commands import run
from tests.pipeline.test_worker import drain, rows

pytestmark = [pytest.mark.store, pytest.mark.kafka]


def bury(zone: Zone, values: list[bytes | None]) -> list[str]:
    """Publish unreadable messages, let a worker bury them; returns their ids."""
    positions = publish(zone, [(0, value) for value in values])
    drain(zone)
    topic = describe_topic(zone, zone.spans_topic)
    assert topic is not None
    return [f"{topic.id}/{partition}/{offset}" for partition, offset in positions]


def correct(zone: Zone, names: list[str], values: list[bytes]) -> None:
    """Put what can be read in place of the bytes of these letters, as a corrected worker would find it."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=list(zone.kafka), acks="all")
    for name, value in zip(names, values, strict=True):
        producer.send(zone.dead_letters_topic, key=name.encode(), value=value).get(timeout=30)
    producer.close()


def test_each_letter_is_published_again_at_most_once(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    names = bury(zone, [b"garbage 1", b"garbage 2", None, b"garbage 3"])
    assert [letter.id for letter in find_letters(zone)] == names
    spans = [make_span() for _ in range(3)]
    correct(
        zone,
        [names[0], names[1], names[3]],
        [make_message(make_resource([span])) for span in spans],
    )
    dry = replay(zone, dry_run=True)
    assert (dry.replayed, dry.missing) == ((names[0], names[1], names[3]), (names[2],))
    assert lag(zone) == 0
    assert replay(zone, [names[1]]).replayed == (names[1],)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: replay(zone).replayed, range(2)))
    assert sorted([*both[0], *both[1]]) == sorted([names[0], names[3]])
    again = replay(zone)
    assert (again.replayed, again.missing) == ((), (names[2],))
    assert set(again.already) == {names[0], names[1], names[3]}
    drain(zone)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(
        span.span_id for span in spans
    )
    assert zone_status(zone).dead_letters == 4
    assert [letter.state for letter in find_letters(zone)] == [
        "replayed",
        "replayed",
        "dead",
        "replayed",
    ]


def test_interrupted_replay_is_never_repeated_by_itself(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    (name,) = bury(zone, [b"garbage"])
    assert replay(zone).replayed == (name,)
    client = connect(zone, Purpose.MIGRATE)
    client.command(
        "ALTER TABLE ingest_ledger DELETE WHERE topic = {t:String} AND state = 'done' SETTINGS mutations_sync = 2",
        parameters={"t": zone.dead_letters_topic},
    )
    client.close()
    before = lag(zone)
    result = replay(zone)
    assert (result.replayed, result.interrupted) == ((), (name,))
    assert lag(zone) == before == 1


def test_what_stays_unreadable_is_another_letter(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    (name,) = bury(zone, [b"garbage"])
    replay(zone)
    drain(zone)
    first, second = find_letters(zone)
    assert (first.id, first.state, second.state) == (name, "replayed", "dead")
    assert letter_value(zone, second) == (b"garbage", "")
    with pytest.raises(UsageError, match="no dead letter x"):
        replay(zone, ["x"])


def test_commands(zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]) -> None:
    zone = zone_factory()
    (name,) = bury(zone, [b"garbage"])
    config = ("--config", str(zones_file_factory(zone)))
    listed = json.loads(run("dead-letters", "list", "--json", *config).stdout)["zones"][zone.name]
    (letter,) = listed["dead_letters"]
    assert (listed["total"], letter["id"], letter["state"], letter["bytes"]) == (1, name, "dead", 7)
    assert letter["at"].endswith("Z")
    shown = json.loads(run("dead-letters", "show", name, "--json", *config).stdout)
    assert base64.b64decode(shown["value_base64"]) == b"garbage"
    (read,) = json.loads(run("residency", "audit", "--json", *config).stdout)["reads"]
    assert (read["action"], read["rows"]) == ("dead_letter", {"dead_letter": name})
    Path(config[1]).write_text(Path(config[1]).read_text() + "reason_for_rows = true\n")
    refused = run("dead-letters", "show", name, *config)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--reason" in refused.stderr
    assert run("dead-letters", "show", name, "--reason", "ticket 42", *config).returncode == 0
    done = json.loads(run("dead-letters", "replay", "--json", *config).stdout)
    assert done["zones"][zone.name]["replayed"] == [name]
    missing = run("dead-letters", "show", "nothing", *config)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "no dead letter nothing" in missing.stderr
