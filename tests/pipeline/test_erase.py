"""Erasure on a real store: all of a trace or a person goes, nothing of anybody else does, and what is left is named."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from typer.testing import CliRunner

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.residency.commands import register
from mobius_pipeline.residency.erase import SUBJECT
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, envelope
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import key_value, make_message, make_resource, make_span

pytestmark = pytest.mark.store

ANA, BO = "a" * 32, "a" * 31 + "b"
TRACES = {ANA: [b"\x01" * 16, b"\x02" * 16], BO: [b"\x03" * 16]}
TABLES = ("spans", "trace_times", "joined_spans", "synthetic_results", "quarantine", "dead_letters")


@pytest.fixture
def zone(zone_factory: ZoneFactory) -> Zone:
    return zone_factory(topics=False)


@pytest.fixture
def client(zone: Zone) -> Iterator[Client]:
    """Two people with traces of two spans each, of which the second does not name its person, everywhere it may be."""
    opened = connect(zone, Purpose.INGEST)
    messages = []
    for person, traces in TRACES.items():
        for trace in traces:
            first = make_span(trace_id=trace, attributes={SUBJECT: person})
            messages.append(make_message(make_resource([first, make_span(trace_id=trace)])))
            hexadecimal = trace.hex()
            opened.insert(
                "quarantine", [["region is missing", messages[-1]]], ["reason", "payload"]
            )
            opened.insert(
                "quarantine",
                [["other", json.dumps({"trace_id": hexadecimal})]],
                ["reason", "payload"],
            )
            opened.insert(
                "dead_letters", [[trace[0], f"trace {hexadecimal}"]], ["offset", "reason"]
            )
            opened.insert(
                "synthetic_results",
                [["r", hexadecimal], ["s", hexadecimal.upper()]],
                ["run", "trace_id"],
            )
            opened.insert("joined_spans", [[trace]], ["trace_id"])
            opened.insert(
                "findings",
                [[hexadecimal, json.dumps({"exemplars": [hexadecimal]})]],
                ["id", "evidence"],
            )
    alone = Span.Event(name="login", attributes=[key_value(SUBJECT, ANA)])
    messages.append(make_message(make_resource([make_span(trace_id=b"\x04" * 16, events=[alone])])))
    body = envelope((message, 1, number) for number, message in enumerate(messages))
    token = {"insert_deduplication_token": os.urandom(8).hex()}
    opened.raw_insert(
        TABLE, insert_block=body, fmt="Protobuf", settings={**INSERT_SETTINGS, **token}
    )
    yield opened
    opened.close()


def run(file: Path, *arguments: str) -> Any:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["erase", "--config", str(file), *arguments])


def config(folder: Path, zone: Zone, backups: tuple[str, ...] = ()) -> Path:
    file = folder / "zones.toml"
    file.write_text(
        f'[zones.{zone.name}]\nregions = ["eu-west-1"]\nkafka = ["127.0.0.1:1"]\nclickhouse = "{zone.clickhouse}"\n'
        f'database = "{zone.database}"\nbackups = {json.dumps(backups)}\n'
    )
    return file


def count(client: Client, table: str) -> int:
    return int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])


def everything(client: Client) -> str:
    """Every row of the zone's tables as text, bytes in hexadecimal too."""
    tables = (*TABLES, "findings", "correlations")
    rows = [str(client.query(f"SELECT * FROM {table}").result_rows) for table in tables]
    rows.append(str(client.query("SELECT hex(payload) FROM quarantine").result_rows))
    rows.append(str(client.query("SELECT hex(trace_id) FROM spans").result_rows))
    return "".join(rows)


def test_all_of_a_person_goes_and_nothing_of_another(
    zone: Zone, client: Client, tmp_path: Path
) -> None:
    others = {
        table: 2 if table in {"spans", "quarantine", "synthetic_results"} else 1 for table in TABLES
    }
    file = config(tmp_path, zone)
    dry = run(file, "--zone", zone.name, "--subject", ANA, "--dry-run", "--json")
    assert dry.exit_code == 1
    assert count(client, "spans") == 7
    done = run(file, "--zone", zone.name, "--subject", ANA, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["traces"] == 3
    assert document["tables"]["spans"]["before"] >= 5
    assert all(table["after"] == 0 for table in document["tables"].values())
    assert {table: count(client, table) for table in TABLES} == others
    text = everything(client).lower()
    for needle in (ANA, *(trace.hex() for trace in (*TRACES[ANA], b"\x04" * 16))):
        # A finding's own name is made from its cell, and from no trace; here it marks the row.
        assert needle not in text.replace(f"'{needle}', ''", ""), needle
    assert BO in text
    assert count(client, "findings") == 3


def test_one_trace_goes_and_the_persons_others_stay(
    zone: Zone, client: Client, tmp_path: Path
) -> None:
    first, second = TRACES[ANA]
    done = run(config(tmp_path, zone), "--zone", zone.name, "--trace", first.hex())
    assert done.exit_code == 0, done.output
    assert "spans: 2 rows before, 0 after" in done.stdout
    left = client.query("SELECT DISTINCT trace_id FROM spans ORDER BY trace_id").result_rows
    assert [bytes(trace) for (trace,) in left] == [second, *TRACES[BO], b"\x04" * 16]


def test_files_that_hold_it_are_named_and_so_is_what_cannot_be_read(
    zone: Zone, client: Client, tmp_path: Path
) -> None:
    backups, spool = tmp_path / "backups", tmp_path / "spool"
    (backups / "day").mkdir(parents=True)
    spool.mkdir()
    trace = TRACES[ANA][0]
    (backups / "day" / "rows.json").write_text(f'{{"id": "{trace.hex()}"}}')
    (backups / "rows.gz").write_bytes(gzip.compress(b"x" * 100 + ANA.encode()))
    (backups / "part.bin").write_bytes(b"who knows")
    (backups / "empty").touch()
    (spool / "segment").write_bytes(b"\x00" + trace + b"\x00")
    (spool / "other").write_bytes(TRACES[BO][0])
    file = config(tmp_path, zone, (str(backups), "s3://eu/rum"))
    done = run(file, "--zone", zone.name, "--subject", ANA, "--spool", str(spool), "--json")
    assert done.exit_code == 1
    files = json.loads(done.stdout)["files"]
    assert {Path(each).name for each in files["holding"]} == {"rows.json", "rows.gz", "segment"}
    assert files["unread"] == [str(backups / "part.bin"), "s3://eu/rum"]
    assert files["searched"] == 5
    assert count(client, "spans") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--trace", "a" * 32, "--subject", "b" * 9),
        ("--trace", "xyz"),
        ("--trace", "0" * 32),
        ("--subject", "short"),
    ],
)
def test_what_names_nothing_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    nowhere = Zone("eu", ("eu-west-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_eu")
    refused = run(config(tmp_path, nowhere), "--zone", "eu", *arguments)
    assert isinstance(refused.exception, UsageError)
    assert "--" in str(refused.exception)
