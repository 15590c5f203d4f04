"""The two pipelines that `bench ingest` compares, with the same verbs: our worker, and the OpenTelemetry Collector."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final, Protocol

from mobius_infra.benchmarks._collector import definition_folder
from mobius_infra.benchmarks._engine import Engine
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.migrate import migrate
from mobius_pipeline.migration_files import Target, load_migrations
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Collector", "Pipeline", "Worker", "gateway"]

# Its spans, its look-up table, and the view between them.
_TABLES: Final = 3
_TABLES_SECONDS: Final = 60.0
_ROLLUP_MIGRATION: Final = 3


class Pipeline(Protocol):
    """Something that moves a topic's spans into tables of its own in a given engine."""

    @property
    def database(self) -> str:
        """Where its tables are."""

    @property
    def tables(self) -> Mapping[str, str]:
        """Its tables by what they hold: ``spans``, ``look_up``, ``rollup``."""

    @property
    def span_id(self) -> str:
        """SQL expression of a span's id as 8 bytes, in its table of spans."""

    def prepare(self, store: Engine, topic: str, database: str) -> Pipeline:
        """Give the same pipeline from another topic into another database; makes what has to be there first."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start its process; it goes on where one before it stopped, or was killed."""


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOBIUS_")}
    return {**kept, **more}


def _await_tables(client: Client, database: str, process: subprocess.Popen[bytes]) -> None:
    query = "SELECT count() FROM system.tables WHERE database = {database:String}"
    deadline = time.monotonic() + _TABLES_SECONDS
    while client.query(query, parameters={"database": database}).result_rows != [(_TABLES,)]:
        if process.poll() is not None or time.monotonic() > deadline:
            raise TerminalError("the Collector of the benchmark does not make its tables")
        time.sleep(0.1)


@contextmanager
def gateway(store: str) -> Iterator[str]:
    """Start a gateway before the store server at ``store``; yields its URL."""
    command = [sys.executable, "-m", "mobius_infra.benchmarks._gateway", store]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = "" if process.stdout is None else process.stdout.readline()
        if not line.startswith("ready "):
            raise TerminalError("the gateway of the benchmark does not start")
        yield line.split()[1]
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Worker:
    """`mobius-rum ingest` as it is, with its default limits."""

    rollup: bool = True
    config: Path = Path()
    database: str = ""

    @property
    def tables(self) -> Mapping[str, str]:
        """See :class:`Pipeline`."""
        return {"spans": "spans", "look_up": "trace_times", "rollup": "latency_minute"}

    @property
    def span_id(self) -> str:
        """See :class:`Pipeline`."""
        return "span_id"

    def prepare(self, store: Engine, topic: str, database: str) -> Worker:
        """Migrate a zone whose topic is the one given (``rum.spans.NAME``)."""
        name = topic.removeprefix("rum.spans.")
        zone = Zone(name, store.zone.regions, store.zone.kafka, store.zone.clickhouse, database)
        migrate(zone)
        if not self.rollup:
            client = connect(zone, Purpose.MIGRATE)
            client.command("DROP VIEW span_rows_to_latency_minute")
            client.close()
        config = store.folder / f"{database}.toml"
        config.write_text(
            f'[zones.{name}]\nregions = ["{zone.regions[0]}"]\nkafka = ["{zone.kafka[0]}"]\n'
            f'clickhouse = "{zone.clickhouse}"\ndatabase = "{database}"\n',
            encoding="utf-8",
        )
        return Worker(self.rollup, config, database)

    def start(self) -> subprocess.Popen[bytes]:
        """See :class:`Pipeline`."""
        command = [sys.executable, "-m", "mobius_infra.cli", "ingest"]
        # Named, so that one that follows a killed one does not wait for the end of its lease.
        arguments = ["--name", "bench", "--config", str(self.config)]
        return subprocess.Popen(
            [*command, *arguments], env=_environment(), stderr=subprocess.DEVNULL
        )


@dataclass(frozen=True, slots=True)
class Collector:
    """The Collector: Kafka receiver to ClickHouse exporter, which makes its own tables.

    ``rows``: least rows of an insert. ``rollup``: whether our rollup is fed from its table.
    """

    program: Path
    gateway: str
    rows: int
    rollup: bool = True
    kafka: str = ""
    topic: str = ""
    database: str = ""

    @property
    def tables(self) -> Mapping[str, str]:
        """See :class:`Pipeline`."""
        tables = {"spans": "otel_traces", "look_up": "otel_traces_trace_id_ts"}
        return {**tables, "rollup": "latency_minute"} if self.rollup else tables

    @property
    def span_id(self) -> str:
        """See :class:`Pipeline`."""
        return "toFixedString(unhex(SpanId), 8)"

    def prepare(self, store: Engine, topic: str, database: str) -> Collector:
        """Have the exporter make its tables, which it does before it reads; then put the rollup behind them."""
        made = replace(self, kafka="127.0.0.1:1", topic=topic, database=database)
        process = made.start()
        client = connect(store.zone, Purpose.MIGRATE, database="default")
        try:
            _await_tables(client, database, process)
        finally:
            process.kill()
            process.wait()
        if self.rollup:
            table, *_ = load_migrations("zone")[_ROLLUP_MIGRATION - 1].render(Target(database))
            client.command(table)
            view = (definition_folder() / "collector_rollup.sql").read_text("utf-8")
            client.command(Template(view).substitute(database=f"`{database}`"))
        client.close()
        return replace(made, kafka=store.zone.kafka[0])

    def start(self) -> subprocess.Popen[bytes]:
        """See :class:`Pipeline`."""
        return subprocess.Popen(
            [str(self.program), f"--config={definition_folder() / 'collector.yaml'}"],
            env=_environment(
                BENCH_KAFKA=self.kafka,
                BENCH_TOPIC=self.topic,
                BENCH_GROUP=f"bench-{self.database}",
                BENCH_CLICKHOUSE=self.gateway,
                BENCH_DATABASE=self.database,
                BENCH_ROWS=str(self.rows),
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
