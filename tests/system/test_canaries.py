"""Canaries: what is planted in one zone's data is found nowhere outside the zone, after everything has run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from kafka import KafkaConsumer, TopicPartition
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from mobius_analysis import commands as analysis
from mobius_instrumentation.assembly import make_exporter, options_and_zone
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.zones import Hub, Zone, load_zones
from mobius_pipeline import commands as pipeline
from mobius_pipeline.migrate import migrate
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory
from tests.dashboard_server import free_port
from tests.dashboards.page import APP, whole
from tests.pipeline.otlp import key_value, make_message, make_resource, make_span, publish

pytestmark = [pytest.mark.store, pytest.mark.kafka, pytest.mark.system]

REGION = {"eu": "eu-west-1", "us": "us-east-1"}
PLACES = (
    "name",
    "attribute",
    "resource",
    "instance",
    "event",
    "exception",
    "status",
    "link",
    "route",
    "dead",
    "foreign",
    "trace",
)
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)


@dataclass
class Planted:
    """A zone, its canaries by where they are planted, and everything that was written for it."""

    zone: Zone
    region: str
    canaries: dict[str, bytes]
    told: list[bytes] = field(default_factory=list)


def plant(zone: Zone, region: str) -> Planted:
    """Publish requests with a canary everywhere, of an endpoint that is large, and one that is small."""
    marks = {place: f"canary-{place}-{uuid4().hex}" for place in PLACES}
    trace = uuid4().bytes
    at = int(HOUR.timestamp()) * 1_000_000_000

    def span(number: int, route: str) -> Span:
        return make_span(
            trace_id=trace if number == 0 else uuid4().bytes,
            start_ns=at + number * 1_000_000_000,
            name=marks["name"],
            attributes={"http.route": route, "enduser.pseudo.id": f"{marks['attribute']}-{number}"},
            events=[
                Span.Event(name=marks["event"]),
                Span.Event(
                    name="exception",
                    attributes=[key_value("exception.message", marks["exception"])],
                ),
            ],
            links=[
                Span.Link(
                    trace_id=trace, span_id=b"\x01" * 8, attributes=[key_value("x", marks["link"])]
                )
            ],
            status=Status(code=Status.STATUS_CODE_ERROR, message=marks["status"]),
        )

    extra = {"host.name": marks["resource"], "service.instance.id": marks["instance"]}
    large = make_resource(
        [span(n, "/large") for n in range(400)], region=region, ours=True, **extra
    )
    few = make_resource(
        [span(n, f"/{marks['route']}") for n in range(9)], region=region, ours=True, **extra
    )
    foreign = make_resource([make_span(name=marks["foreign"])], region="mars-1")
    publish(
        zone,
        [
            (0, make_message(large)),
            (1, make_message(few, foreign)),
            (0, b"\xff\xff" + marks["dead"].encode()),
        ],
    )
    canaries = {place: mark.encode() for place, mark in marks.items()} | {"trace": trace}
    return Planted(zone, region, canaries)


def run(planted: Planted, file: Path, *arguments: str, code: int | None = 0) -> None:
    """Run a command on one zone; what it writes, or fails with (``code`` None), is the zone's."""
    app = typer.Typer()
    for part in (pipeline, analysis):
        part.register(app)
    done = CliRunner().invoke(app, [*arguments, "--config", str(file), "--zone", planted.zone.name])
    assert (done.exit_code == 0) == (code == 0), (arguments, done.exception)
    planted.told += [done.stdout_bytes, done.stderr_bytes, repr(done.exception).encode()]


@contextmanager
def worker(planted: Planted, file: Path) -> Iterator[None]:
    """A worker process of one zone; its log and its metrics are the zone's."""
    port = free_port()
    arguments = ["ingest", "--zone", planted.zone.name, "--config", str(file), "--batch-ms", "100"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mobius_infra.cli", *arguments, "--health-port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            planted.told.append(answer.read())
    finally:
        process.send_signal(signal.SIGTERM)
        planted.told.append(process.communicate(timeout=60)[0])


def viewers(zones: list[Zone]) -> str:
    """A policy with a viewer of each zone's rows, one of each zone's aggregates, and one of the hub."""
    groups, people = ['[groups.hub-only]\naggregates = ["hub"]'], ['hubber = ["hub-only"]']
    for zone in zones:
        for level in ("spans", "aggregates"):
            groups.append(f'[groups.{level}-{zone.name}]\n{level} = ["{zone.name}"]')
            people.append(f'{level}-{zone.name} = ["{level}-{zone.name}"]')
    return "\n".join((*groups, "[viewers]", *people, ""))


def look(planted: Planted, other: Planted, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let viewers of one zone open every page, also by addresses of the other; what they get is their zone's.

    Who sees nothing but the hub is told no more than the others.
    """
    monkeypatch.setenv("MOBIUS_CONFIG", str(file))
    addresses = [
        {"page": page, "route": "/large", "since": "24h", **where}
        for page in ("overview", "endpoint", "residency")
        for where in ({}, {"region": other.region})
    ]
    who = [f"spans-{planted.zone.name}", f"aggregates-{planted.zone.name}"]
    for name, wanted in [*((each, addresses) for each in who), ("hubber", addresses[::2])]:
        monkeypatch.setenv("MOBIUS_VIEWER", name)
        planted.told += [open_page(address) for address in wanted]
    monkeypatch.setenv("MOBIUS_VIEWER", f"spans-{planted.zone.name}")
    own, foreign = (
        {"page": "trace", "trace": each.canaries["trace"].hex()} for each in (planted, other)
    )
    assert planted.canaries["name"] in open_page(own)
    # The address repeats the trace's id; nothing else of it may come.
    assert not [c for c in other.canaries.values() if c in open_page(foreign)]


def open_page(address: dict[str, str]) -> bytes:
    """Everything that a page sends to the browser."""
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in address.items():
        app.query_params[name] = value
    return whole(app.run()).encode()


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def store_bytes(place: Zone | Hub) -> bytes:
    """Every row of every table of a store, as the bytes of its values."""
    client = connect(place, Purpose.ANALYSIS)
    names = client.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
    ).result_rows
    content = b"".join(
        client.raw_query(f"SELECT * FROM `{name}`", fmt="RowBinary") for (name,) in names
    )
    client.close()
    return content


def topic_bytes(zone: Zone) -> bytes:
    """Every record of a zone's topics: keys, headers, values."""
    consumer = KafkaConsumer(bootstrap_servers=list(zone.kafka), consumer_timeout_ms=500)
    found = []
    for topic in (zone.spans_topic, zone.dead_letters_topic):
        places = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(500).values():
                for record in records:
                    parts = [record.key, record.value, *(value for _, value in record.headers)]
                    found += [part for part in parts if part]
    consumer.close()
    return b"".join(found)


def stored(zone: Zone) -> bool:
    client = connect(zone, Purpose.VIEW)
    counts = [
        client.query(f"SELECT count() FROM {table}").result_rows[0][0]
        for table in ("spans", "dead_letters", "quarantine")
    ]
    client.close()
    return counts == [409, 1, 1]


@pytest.fixture
def hub(store_server: str) -> Iterator[Hub]:
    made = Hub(store_server, f"rum_hub_{uuid4().hex[:8]}")
    migrate(made)
    yield made
    client = connect(made, Purpose.MIGRATE, database="default")
    client.command(f"DROP DATABASE {made.database} SYNC")
    client.close()


def test_no_canary_of_a_zone_is_found_outside_it(
    zone_factory: ZoneFactory,
    hub: Hub,
    zones_file_factory: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zones = [zone_factory(name, (region,)) for name, region in REGION.items()]
    file = zones_file_factory(*zones, hub=hub)
    file.write_text(file.read_text(encoding="utf-8") + viewers(zones), encoding="utf-8")
    both = [plant(zone, region) for zone, region in zip(zones, REGION.values(), strict=True)]
    with worker(both[0], file), worker(both[1], file):
        wait_for(lambda: all(stored(zone) for zone in zones))
    for planted, other in (both, both[::-1]):
        for command in (
            ("correlate", "--json"),
            ("correlate",),
            ("residency", "export", "--json"),
            ("status",),
            ("join", "--json"),
            ("explain", "GET /large", "--json"),
            ("suite", "--json"),
            ("dead-letters", "list"),
            ("residency", "status", "--json"),
            ("residency", "audit", "--json"),
            ("residency", "apply", "--dry-run"),
        ):
            run(planted, file, *command)
        for wrong in (("parity",), ("explain", "GET /nowhere"), ("gate", "--build", "none")):
            run(planted, file, *wrong, code=None)
        look(planted, other, file, monkeypatch)
    inside = {
        each.zone.name: store_bytes(each.zone) + topic_bytes(each.zone) + b"".join(each.told)
        for each in both
    }
    outside = store_bytes(hub)
    assert b"/large" in outside  # something did cross, and of both zones
    assert all(zone.name.encode() in outside for zone in zones)
    for own, other in (both, both[::-1]):
        for place, canary in own.canaries.items():
            assert canary in inside[own.zone.name], f"{place} was planted nowhere"
            assert canary not in inside[other.zone.name], (
                f"{place} of {own.region} is in the other zone"
            )
            assert canary not in outside, f"{place} of {own.region} is in the hub"
            assert canary.hex().encode() not in outside + b"".join(other.told)


def test_each_zones_spool_is_its_own(
    zones_file_factory: Callable[..., Path], tmp_path: Path
) -> None:
    """Services of both zones share a spool's folder and a broker that is away."""
    nowhere = "127.0.0.1:9"
    away = [
        Zone(name, (region,), (nowhere,), f"http://{nowhere}", f"rum_{name}")
        for name, region in REGION.items()
    ]
    zones = load_zones(zones_file_factory(*away))
    for zone in zones:
        settings, _, own = options_and_zone(
            {"zones": zones, "region": zone.regions[0], "spool_dir": str(tmp_path / "spool")}, {}
        )
        exporter = make_exporter(settings, zones, own)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(ExportingProcessor(exporter))
        for _ in range(20):
            provider.get_tracer("t").start_span(f"canary of {zone.name}").end()
        exporter.shutdown(timeout_millis=100)
        assert exporter.stats().spooled == 20
    for zone in zones:
        files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
        for path in files:
            inside = path.is_relative_to(tmp_path / "spool" / zone.name)
            assert (f"canary of {zone.name}".encode() in path.read_bytes()) <= inside
        assert any(f"canary of {zone.name}".encode() in path.read_bytes() for path in files)
