"""CPU time a span from Kafka to the store: our worker's bytes path against rows made in Python.

Peer: the usual consumer, which parses OTLP in Python, makes a row of every span and inserts the rows with
clickhouse-connect, into the same tables (spans and rollup alike), in the same engine, with the same spans,
in the same run. It is spared what our worker does beside: Kafka, the ledger, the zone check.

Spans of other sources than our package, which the worker holds to the zone's allow-list, are measured beside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
from kafka import KafkaProducer

from mobius_infra.benchmarks._engine import Engine, broker, cpu_seconds, engine
from mobius_infra.benchmarks._rows import COLUMNS, rows
from mobius_infra.benchmarks._spans import SPANS_PER_TRACE, make_messages
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.kafka_client import ensure_topics
from mobius_pipeline.status import lag, span_identity
from mobius_pipeline.store import Purpose, connect

__all__ = ["run"]

_SPANS: Final = 300_000
# Imports, connections and the engine's first insert are no cost of a span.
_WARM_UP_SPANS: Final = 12_000
_ROWS_AT_ONCE: Final = 50_000
_SECONDS: Final = 120.0


def run() -> dict[str, Any]:
    """Send the same spans both ways and compare the CPU time of all processes that they need."""
    messages = make_messages(_SPANS, region="eu-west-1")
    warm_up = make_messages(_WARM_UP_SPANS, region="eu-west-1", seed=2)
    others = make_messages(_SPANS, region="eu-west-1", seed=3, ours=False)
    with broker() as address, engine(kafka=address) as store:
        ensure_topics(store.zone)
        ours = _bytes_path(store, warm_up, messages)
        held = _bytes_path(store, warm_up, others)
    with engine() as store:
        peer = _python_rows(store, warm_up, messages)
    spans = ours["spans"]
    if spans != peer["spans"]:
        raise TerminalError(f"the two ways stored {spans} and {peer['spans']} spans")
    return {
        "what": "CPU microseconds a span, from an OTLP message to spans and rollup",
        "spans": spans,
        "bytes_per_span": round(sum(map(len, messages)) / spans, 1),
        "ours_us_per_span": _shares("worker", ours),
        "ours_spans_per_second": round(ours["rate"]),
        "other_sources_us_per_span": {
            "what": "spans without the mark of our package, which the worker holds to the allow-list first",
            **_shares("worker", held),
        },
        "peer": "rows made in Python, inserted with clickhouse-connect, same engine, same spans",
        "peer_us_per_span": _shares("client", peer),
        "ratio_to_peer": round(
            (ours["client"] + ours["engine"]) / (peer["client"] + peer["engine"]), 3
        ),
    }


def _shares(name: str, found: dict[str, float]) -> dict[str, float]:
    """CPU microseconds a span of the process before the engine, called ``name``, of the engine, and of both."""
    return {
        name: round(found["client"], 2),
        "engine": round(found["engine"], 2),
        "total": round(found["client"] + found["engine"], 2),
    }


def _publish(zone: Zone, messages: list[bytes]) -> None:
    producer = KafkaProducer(
        bootstrap_servers=list(zone.kafka), acks="all", linger_ms=20, batch_size=512 * 1024
    )
    for number, message in enumerate(messages):
        producer.send(zone.spans_topic, message, partition=number % 2)
    producer.flush()
    producer.close()


def _bytes_path(store: Engine, warm_up: list[bytes], messages: list[bytes]) -> dict[str, float]:
    with _worker(store) as worker:
        _publish(store.zone, warm_up)
        _await_stored(store, worker)
        before = span_identity(store.zone).distinct
        worker_before, engine_before = cpu_seconds(worker), cpu_seconds(store.process)
        began = time.monotonic()
        _publish(store.zone, messages)
        _await_stored(store, worker)
        seconds = time.monotonic() - began
        worker_used = cpu_seconds(worker) - worker_before
        engine_used = cpu_seconds(store.process) - engine_before
    spans = span_identity(store.zone).distinct - before
    return {
        "spans": spans,
        "client": worker_used / spans * 1e6,
        "engine": engine_used / spans * 1e6,
        "rate": spans / seconds,
    }


def _await_stored(store: Engine, worker: psutil.Process) -> None:
    deadline = time.monotonic() + _SECONDS
    while lag(store.zone):
        if time.monotonic() > deadline or not worker.is_running():
            raise TerminalError("the worker of the benchmark did not store everything")
        time.sleep(0.5)


def _python_rows(store: Engine, warm_up: list[bytes], messages: list[bytes]) -> dict[str, float]:
    client = connect(store.zone, Purpose.INGEST)
    client.insert("span_rows", list(rows(warm_up)), column_names=COLUMNS)
    before = span_identity(store.zone).distinct
    me = psutil.Process()
    engine_before, client_before = cpu_seconds(store.process), cpu_seconds(me)
    a_batch = _ROWS_AT_ONCE // (80 * SPANS_PER_TRACE)
    for first in range(0, len(messages), a_batch):
        batch = list(rows(messages[first : first + a_batch]))
        client.insert("span_rows", batch, column_names=COLUMNS)
    engine_used = cpu_seconds(store.process) - engine_before
    client_used = cpu_seconds(me) - client_before
    client.close()
    spans = span_identity(store.zone).distinct - before
    return {
        "spans": spans,
        "client": client_used / spans * 1e6,
        "engine": engine_used / spans * 1e6,
    }


@contextmanager
def _worker(store: Engine) -> Iterator[psutil.Process]:
    zone = store.zone
    config = Path(store.folder) / "zones.toml"
    config.write_text(
        f'[zones.{zone.name}]\nregions = ["{zone.regions[0]}"]\nkafka = ["{zone.kafka[0]}"]\n'
        f'clickhouse = "{zone.clickhouse}"\ndatabase = "{zone.database}"\n',
        encoding="utf-8",
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MOBIUS_")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "mobius_infra.cli", "ingest", "--config", str(config)],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
