"""Kafka to ClickHouse, our worker beside the OpenTelemetry Collector: the same messages, broker, engine and run.

Real spans with fresh ids are produced once a size of message; then each pipeline drains them into a new, empty engine,
in turn, several times. Measured is what `docs/benchmarks.md` describes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer

from mobius_infra.benchmarks._collector import CollectorMissingError, build
from mobius_infra.benchmarks._drain import Drained, drain, kill_and_compare
from mobius_infra.benchmarks._engine import broker, engine
from mobius_infra.benchmarks._pipelines import Collector, Pipeline, Worker, gateway
from mobius_infra.benchmarks._real_spans import Recorded, load, repeat
from mobius_infra.kafka_broker import KafkaBroker, KafkaMissingError
from mobius_instrumentation.zones import Zone
from mobius_pipeline.kafka_client import ensure_topics

__all__ = ["WARM_UP_SPANS", "Backlog", "IngestOptions", "produce", "ratios", "run", "summary"]

_REGION: Final = "eu-west-1"
WARM_UP_SPANS: Final = 2_000
_ROWS: Final = (8_192, 65_536)
_PARTITIONS: Final = 2


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What to measure. ``per_message``: spans a message; ``kills`` 0: no run is killed."""

    spans: int = 1_000_000
    per_message: tuple[int, ...] = (100, 512)
    repeats: int = 3
    kills: int = 0
    collector: bool = True


@dataclass(frozen=True, slots=True)
class Backlog:
    """A topic with what was produced into it; ``warm_up`` is a small one of the same kind."""

    kafka: str
    topic: str
    ids: set[bytes]
    bytes: int
    warm_up: str


def run(**options: Any) -> dict[str, Any]:
    """Measure all that is asked for; ``options`` are the fields of :class:`IngestOptions`."""
    chosen = IngestOptions(**options)
    program, missing = None, "left out"
    if chosen.collector:
        try:
            _say("building the Collector, or finding it built")
            program = build()
        except CollectorMissingError as error:
            missing = f"not measured: {error.reason}"
    recorded = load(_REGION)
    document: dict[str, Any] = {
        "what": "from Kafka to stored, looked-up and rolled-up spans: CPU microseconds a span, spans a second, "
        "bytes a span on disk",
        "spans": chosen.spans,
        "repeats": chosen.repeats,
        "collector": "OpenTelemetry Collector, Kafka receiver to ClickHouse exporter"
        if program
        else missing,
        "per_message": {},
    }
    for size in chosen.per_message:
        with _broker() as (kafka, kind):
            document["broker"] = kind
            _say(f"producing {chosen.spans} spans, {size} a message, into {kind}")
            backlog = produce(kafka, recorded, chosen.spans, size)
            document["per_message"][str(size)] = _measure(backlog, chosen, program)
    return document


def _say(text: str) -> None:
    sys.stderr.write(f"    {text}\n")


@contextmanager
def _broker() -> Iterator[tuple[str, str]]:
    """Apache Kafka where there is Java, else the embedded broker: its address, and which it is."""
    with tempfile.TemporaryDirectory(prefix="mobius-bench-kafka-") as folder:
        try:
            kafka = KafkaBroker(Path(folder))
        except KafkaMissingError:
            with broker() as address:
                yield address, "embedded broker (Tansu)"
            return
        with kafka:
            yield kafka.address, "Apache Kafka"


def produce(kafka: str, recorded: list[Recorded], spans: int, per_message: int) -> Backlog:
    """Produce a backlog, and a small one to warm up with, into topics of their own."""
    # The whole history lies within one day, whenever this runs: six hours into yesterday.
    day = 86_400 * 10**9
    begin = (time.time_ns() // day - 1) * day + day // 4
    names = {"warm": WARM_UP_SPANS, "bench": spans}
    ids: set[bytes] = set()
    size = 0
    for seed, (name, number) in enumerate(names.items()):
        zone = Zone(name, (_REGION,), (kafka,), "http://127.0.0.1:1", f"rum_{name}")
        ensure_topics(zone, partitions=_PARTITIONS)
        producer = KafkaProducer(
            bootstrap_servers=kafka, acks="all", linger_ms=20, batch_size=512 * 1024
        )
        ids, size = set(), 0
        messages = repeat(recorded, number, per_message=per_message, begin_ns=begin, seed=seed)
        for at, (message, of) in enumerate(messages):
            producer.send(zone.spans_topic, message, partition=at % _PARTITIONS)
            ids.update(of)
            size += len(message)
        producer.flush()
        producer.close()
    return Backlog(kafka, "rum.spans.bench", ids, size, "rum.spans.warm")


def _pipelines(program: Path | None) -> dict[str, Callable[[str], Pipeline]]:
    """Pipelines by the names that they have in the document; each takes the gateway's address."""
    ours: dict[str, Callable[[str], Pipeline]] = {
        "ours": lambda _: Worker(),
        "ours_without_rollup": lambda _: Worker(rollup=False),
    }
    if program is None:
        return ours
    found = program

    def collector(rows: int, *, rollup: bool) -> Callable[[str], Pipeline]:
        return lambda address: Collector(found, address, rows, rollup)

    peers = {
        f"collector_{rows}_rows{'' if rollup else '_without_rollup'}": collector(
            rows, rollup=rollup
        )
        for rows in _ROWS
        for rollup in (True, False)
        if rollup or rows == max(_ROWS)
    }
    return ours | peers


def _measure(backlog: Backlog, options: IngestOptions, program: Path | None) -> dict[str, Any]:
    pipelines = _pipelines(program)
    results: dict[str, list[Drained]] = {name: [] for name in pipelines}
    for number in range(options.repeats):
        for name, make in pipelines.items():
            results[name].append(_once(backlog, make, f"{name}_{number}"))
            drained = results[name][-1]
            both = drained.worker_seconds + drained.engine_seconds
            _say(f"{name}: {both / drained.spans * 1e6:.2f} us a span")
    spans = len(backlog.ids)
    document: dict[str, Any] = {
        "bytes_per_span_on_the_wire": round(backlog.bytes / spans, 1),
        **{name: summary(runs) for name, runs in results.items()},
    }
    document["ratios"] = ratios(document)
    if options.kills:
        document["killed"] = _killed(backlog, options, pipelines)
    return document


def _once(backlog: Backlog, make: Callable[[str], Pipeline], database: str) -> Drained:
    """Drain into a new engine."""
    with engine(kafka=backlog.kafka) as store, gateway(store.zone.clickhouse) as address:
        return drain(
            make(address),
            store,
            warm_up=(backlog.warm_up, WARM_UP_SPANS),
            backlog=(backlog.topic, len(backlog.ids)),
            database=database,
        )


def _killed(
    backlog: Backlog, options: IngestOptions, pipelines: dict[str, Callable[[str], Pipeline]]
) -> dict[str, Any]:
    killed = {}
    for name in ("ours", *(name for name in pipelines if name == f"collector_{max(_ROWS)}_rows")):
        _say(f"{name}, killed {options.kills} times")
        with engine(kafka=backlog.kafka) as store, gateway(store.zone.clickhouse) as address:
            killed[name] = kill_and_compare(
                pipelines[name](address),
                store,
                backlog=(backlog.topic, backlog.ids),
                database=f"{name}_killed",
                kills=options.kills,
            )
    return killed


def summary(runs: Sequence[Drained]) -> dict[str, Any]:
    """Medians over the runs of one pipeline, with least and greatest."""
    drained = list(runs)
    spans = drained[0].spans
    return {
        "worker_us_per_span": _interval([run.worker_seconds / spans * 1e6 for run in drained]),
        "engine_us_per_span": _interval([run.engine_seconds / spans * 1e6 for run in drained]),
        "total_us_per_span": _interval(
            [(run.worker_seconds + run.engine_seconds) / spans * 1e6 for run in drained]
        ),
        "spans_per_second": _interval([spans / run.wall_seconds for run in drained], digits=0),
        "worker_peak_mib": _interval([run.peak_bytes / 2**20 for run in drained], digits=0),
        "bytes_per_span": {
            what: round(drained[0].table_bytes[what] / spans, 2) for what in drained[0].table_bytes
        },
        "rollup_requests": drained[0].requests or None,
        "doubled": sum(run.doubled for run in drained),
    }


def _interval(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Median, least and greatest."""
    return {
        "value": round(statistics.median(values), digits),
        "low": round(min(values), digits),
        "high": round(max(values), digits),
    }


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """Ours to the Collector's, each setting by itself; below 1 is less."""
    found = {}
    for name, peer in results.items():
        if not name.startswith("collector_"):
            continue
        ours = results["ours_without_rollup" if name.endswith("_without_rollup") else "ours"]
        short = name.removeprefix("collector_")
        found[f"cpu_to_{short}"] = round(
            ours["total_us_per_span"]["value"] / peer["total_us_per_span"]["value"], 3
        )
        for what, tables in (("spans", ["spans"]), ("spans_and_look_up", ["spans", "look_up"])):
            mine, theirs = (
                sum(side["bytes_per_span"][table] for table in tables) for side in (ours, peer)
            )
            found[f"bytes_of_{what}_to_{short}"] = round(mine / theirs, 3)
    return found
