"""No password in any log, message or traceback, whatever goes wrong, with everybody's debug logs on."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO
from uuid import uuid4

import pytest

from mobius_infra.kafka_broker import Listener
from mobius_infra.store_server import ServerOptions
from mobius_instrumentation.kafka_options import check_kafka_variables, kafka_settings
from mobius_instrumentation.zones import Zone
from mobius_pipeline.clickhouse_options import check_clickhouse_variables
from mobius_pipeline.config import clickhouse_credentials
from tests.conftest import start_store, stop_process
from tests.secured import USER, SecuredKafka

pytestmark = [pytest.mark.store, pytest.mark.kafka, pytest.mark.timeout(900)]

NOWHERE = "127.0.0.1:1"
# Runs the command line with every library's debug log on standard error.
COMMAND = """
import logging, sys
import mobius_pipeline.kafka_client, mobius_pipeline.store
from mobius_infra.cli import main
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
for name in ("kafka", "urllib3", "clickhouse_connect", "mobius_instrumentation"):
    logging.getLogger(name).setLevel(logging.DEBUG)
main()
"""
# As COMMAND, with an error that nobody expects where the clients have their passwords.
BROKEN = (
    """
import kafka, clickhouse_connect
def fail(*_, **settings):
    raise RuntimeError(f"unexpected, with {settings.get('sasl_plain_password', '')!r}")
kafka.KafkaAdminClient.describe_topics = fail
"""
    + COMMAND
)
EXPORT = """
import logging, os, sys, time
from mobius_instrumentation.exporter import KafkaSpanExporter
from mobius_instrumentation.kafka_options import kafka_settings
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.zones import load_zones
from opentelemetry.sdk.trace import TracerProvider
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
(zone,) = load_zones(sys.argv[1])
exporter = KafkaSpanExporter(
    zone.kafka, zone.spans_topic, kafka_options=lambda: kafka_settings(zone, os.environ)
)
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(ExportingProcessor(exporter))
provider.get_tracer("test").start_span("work").end()
exporter.force_flush(4_000)
print(exporter.stats(), exporter._problem)
exporter.shutdown(1_000)
"""


def forms(secret: str) -> set[str]:
    """The secret, and all that base64 makes of it wherever it stands in a text."""
    found = {secret}
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + secret.encode()).decode()
        # Its first and last signs depend on what stands beside it.
        found.add(coded[4 if shift else 0 : -4])
    return found


@dataclass
class Watched:
    """Everything that was said so far, and the secrets that must not be in it."""

    environment: dict[str, str]
    secrets: list[str]
    said: list[str] = field(default_factory=list)

    def run(
        self,
        program: str,
        *arguments: str,
        until: str = "",
        variables: dict[str, str] | None = None,
    ) -> str:
        """Run a program to its end, or until it has said something; returns all that it said."""
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment, **(variables or {})},
            )
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if until and until in self._read(output):
                    break
                time.sleep(0.05)
            process.terminate()
            process.wait(60)
            output.seek(0)
            self.said.append(output.read())
        return self.said[-1]

    @staticmethod
    def _read(output: IO[str]) -> str:
        # By a file of its own: the program writes where this one's offset would be.
        return Path(f"/proc/self/fd/{output.fileno()}").read_text(errors="replace")

    def check(self) -> None:
        for text in self.said:
            for secret in self.secrets:
                for form in forms(secret):
                    at = text.find(form)
                    assert at < 0, text[max(0, at - 400) : at + 200]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A store with a password: its URL, and the password."""
    password = f"store-{uuid4().hex}"
    process, url = start_store(tmp_path / "store", environment={"MOBIUS_STORE_PASSWORD": password})
    yield url, password
    stop_process(process)


@pytest.fixture
def zone(store: tuple[str, str], secured_kafka: SecuredKafka) -> Zone:
    name = f"eu_{uuid4().hex[:8]}"
    return Zone(name, ("eu-west-1",), (secured_kafka.ports["SASL"],), store[0], f"rum_{name}")


@pytest.fixture
def watched(zone: Zone, store: tuple[str, str], secured_kafka: SecuredKafka) -> Watched:
    begin = f"MOBIUS_{zone.name.upper()}_"
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        # The mechanism that sends the password itself.
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": secured_kafka.password,
        "KAFKA_SSL_CA_FILE": str(secured_kafka.authority.cert),
        "KAFKA_SSL_CERT_FILE": str(secured_kafka.client.cert),
        "KAFKA_SSL_KEY_FILE": str(secured_kafka.client.key),
        "KAFKA_SSL_KEY_PASSWORD": secured_kafka.key_password,
        "CLICKHOUSE_PASSWORD": store[1],
    }
    return Watched(
        {begin + name: value for name, value in environment.items()},
        [secured_kafka.password, secured_kafka.key_password, store[1]],
    )


def test_commands_worker_and_exporter_never_say_a_password(
    zone: Zone, watched: Watched, zones_file_factory: Callable[..., Path]
) -> None:
    begin = f"MOBIUS_{zone.name.upper()}_"
    good = str(zones_file_factory(zone))
    broker_away = str(zones_file_factory(replace(zone, kafka=(NOWHERE,))))
    store_away = str(zones_file_factory(replace(zone, clickhouse=f"http://{NOWHERE}")))
    wrong = f"wrong-{uuid4().hex}"
    watched.secrets.append(wrong)
    run = watched.run

    assert "applied" in run(COMMAND, "migrate", "--config", good)
    assert "SaslAuthenticate(***)" in watched.said[-1], "PLAIN was not logged, so nothing is proved"
    assert '"lag": 0' in run(COMMAND, "status", "--json", "--config", good)
    run(COMMAND, "dead-letters", "list", "--zone", zone.name, "--config", good)
    assert "reading" in run(COMMAND, "ingest", "--config", good, until="reading")
    assert "sent=1" in run(EXPORT, good)

    for name in ("KAFKA_SASL_PASSWORD", "KAFKA_SSL_KEY_PASSWORD", "CLICKHOUSE_PASSWORD"):
        assert name in run(COMMAND, "status", "--config", good, variables={begin + name: wrong})
    for config in (broker_away, store_away):
        assert "does not answer" in run(COMMAND, "status", "--config", config)
        run(COMMAND, "migrate", "--config", config)
        assert "waiting" in run(COMMAND, "ingest", "--config", config, until="waiting")
    sent = "SaslAuthenticate(***)"
    variables = {f"{begin}KAFKA_SASL_PASSWORD": wrong}
    assert sent in run(COMMAND, "ingest", "--config", good, until=sent, variables=variables)
    assert "Sasl" in run(EXPORT, good, variables={f"{begin}KAFKA_SASL_PASSWORD": wrong})
    run(EXPORT, broker_away)

    assert "RuntimeError: unexpected" in run(BROKEN, "status", "--config", good)
    watched.check()


def test_a_password_in_the_wrong_place_is_refused_and_not_repeated(
    zone: Zone, watched: Watched, zones_file_factory: Callable[..., Path]
) -> None:
    begin = f"MOBIUS_{zone.name.upper()}_"
    secret = f"misplaced-{uuid4().hex}"
    watched.secrets.append(secret)
    good = str(zones_file_factory(zone))
    addresses = (
        replace(zone, clickhouse=f"http://rum:{secret}@{NOWHERE}"),
        replace(zone, clickhouse=f"https://{secret}@{NOWHERE}"),
        replace(zone, kafka=(f"rum:{secret}@{NOWHERE}",)),
        replace(zone, kafka=(f"kafka://rum:{secret}@{NOWHERE}/",)),
    )
    for each in addresses:
        said = watched.run(COMMAND, "status", "--config", str(zones_file_factory(each)))
        assert "without credentials" in said
    key = f"-----BEGIN PRIVATE KEY-----\n{secret}\n"
    for name in (
        *("KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM", "KAFKA_SSL_CHECK_HOSTNAME"),
        *("KAFKA_SSL_CA_FILE", "KAFKA_SSL_KEY_FILE", "KAFKA_PASSWORD", "CLICKHOUSE_CA_FILE"),
    ):
        value = key if name.endswith("FILE") else secret
        assert begin + name in watched.run(
            COMMAND, "status", "--config", good, variables={begin + name: value}
        )
    watched.check()


def test_what_holds_a_password_does_not_show_it(
    zone: Zone, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in watched.environment.items():
        monkeypatch.setenv(name, value)
    secret = f"shown-{uuid4().hex}"
    watched.secrets.append(secret)
    held = [
        kafka_settings(zone, os.environ),
        check_kafka_variables(zone, os.environ),
        check_clickhouse_variables(zone, os.environ),
        clickhouse_credentials(zone.name),
        ServerOptions(Path(), 1, password=secret),
        Listener("SASL", "SASL_SSL", 1, settings={"plain.sasl.jaas.config": secret}),
    ]
    password = kafka_settings(zone, os.environ)["sasl_plain_password"]
    watched.said += [repr(held), str(held), f"{password} {password!r}"]
    watched.said.append(" ".join(map(str, [password])))
    watched.check()


def test_the_search_finds_what_it_is_for() -> None:
    secret = f"planted-{uuid4().hex}"
    for text in (
        f"x {secret} y",
        base64.b64encode(f"rum:{secret}".encode()).decode(),
        base64.b64encode(f"\0rum1\0{secret}\n".encode()).decode(),
        json.dumps({"password": secret}),
        repr(f"\0rum\0{secret}".encode()),
    ):
        with pytest.raises(AssertionError):
            Watched({}, [secret], [text]).check()
