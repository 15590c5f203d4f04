"""What the worker tells Prometheus: every name once, with its meaning; docs/metrics.md is made from this table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from mobius_pipeline.ledger import Standing
from mobius_pipeline.worker.steps import Batch

__all__ = ["METRICS", "Kind", "Metric", "RetryCause", "WorkerMetrics", "markdown"]

Kind = Literal["counter", "gauge", "histogram", "info"]
RetryCause = Literal["broker", "store", "topic_replaced", "late_intent", "overtaken", "lease_lost"]

# Powers of four around what a batch may hold (BatchLimits), and of two around what an insert takes.
_SPANS: Final = tuple(4.0**power for power in range(10))
_BYTES: Final = tuple(1024.0 * 4.0**power for power in range(9))
_SECONDS: Final = tuple(0.01 * 2.0**power for power in range(13))


@dataclass(frozen=True, slots=True)
class _Told:
    """Kind, meaning, labels with their meanings, and for a histogram its bounds."""

    kind: Kind
    meaning: str
    labels: Mapping[str, str]
    bounds: tuple[float, ...] = ()


class Metric(Enum):
    """Names of all metrics; a counter's is shown with ``_total``, an info's with ``_info`` behind it."""

    WORKER = "mobius_worker"
    PARTITIONS = "mobius_worker_partitions"
    PAUSED = "mobius_worker_paused_partitions"
    LAG = "mobius_worker_lag_messages"
    MESSAGES = "mobius_worker_messages"
    SPANS = "mobius_worker_spans"
    BATCHES = "mobius_worker_batches"
    BATCH_SPANS = "mobius_worker_batch_spans"
    BATCH_BYTES = "mobius_worker_batch_bytes"
    INSERT_SECONDS = "mobius_worker_insert_seconds"
    RETRIES = "mobius_worker_retries"
    DEAD_LETTERS = "mobius_worker_dead_letters"
    QUARANTINED = "mobius_worker_quarantined_spans"
    NEWEST_ROW = "mobius_worker_newest_row_age_seconds"
    HEARTBEAT = "mobius_worker_heartbeat_age_seconds"

    @property
    def shown(self) -> str:
        """The name as Prometheus sees it."""
        return self.value + {"counter": "_total", "info": "_info"}.get(METRICS[self].kind, "")


METRICS: Final[Mapping[Metric, _Told]] = {
    Metric.WORKER: _Told(
        "info",
        "Always 1; its labels say whom this worker serves.",
        {"zone": "the zone", "topic": "the topic it reads", "writer": "its name in the ledger"},
    ),
    Metric.PARTITIONS: _Told("gauge", "Partitions that this worker has a lease of.", {}),
    Metric.PAUSED: _Told(
        "gauge",
        "Partitions of these that are not fetched for now, because enough is in memory.",
        {},
    ),
    Metric.LAG: _Told(
        "gauge",
        "Messages of this worker's partitions that the broker has and the store does not have yet, by the broker's last "
        "answer.",
        {"partition": "partition of the topic"},
    ),
    Metric.MESSAGES: _Told("counter", "Messages of stored batches, unreadable ones included.", {}),
    Metric.SPANS: _Told("counter", "Spans stored in the zone's tables.", {}),
    Metric.BATCHES: _Told(
        "counter",
        "Batches stored.",
        {"repeated": "true: a range that an earlier worker had claimed and not finished"},
    ),
    Metric.BATCH_SPANS: _Told("histogram", "Spans of one batch.", {}, _SPANS),
    Metric.BATCH_BYTES: _Told("histogram", "Bytes of spans of one batch.", {}, _BYTES),
    Metric.INSERT_SECONDS: _Told(
        "histogram",
        "Seconds from a claimed range to broker and store holding all of it. Failed attempts are not in it.",
        {},
        _SECONDS,
    ),
    Metric.RETRIES: _Told(
        "counter",
        "Times that the worker began again at the ledger.",
        {
            "cause": "broker, store: it did not answer; topic_replaced: the topic was made anew; "
            "late_intent: a request believed lost had been carried out; overtaken: another worker had claimed the "
            "range; lease_lost: it stood still longer than its lease"
        },
    ),
    Metric.DEAD_LETTERS: _Told(
        "counter", "Messages that could not be read and went to the dead-letter topic.", {}
    ),
    Metric.QUARANTINED: _Told(
        "counter",
        "Spans that arrived in this zone but are not data of it.",
        {"reason": "as in the table quarantine"},
    ),
    Metric.NEWEST_ROW: _Told(
        "gauge",
        "Age of the newest span in the store, by its start; NaN where there is none. "
        "Grows when the worker stands still, and also when there is no traffic: compare with the lag.",
        {},
    ),
    Metric.HEARTBEAT: _Told("gauge", "Time since the worker's loop last turned.", {}),
}


class WorkerMetrics:
    """The metrics of one worker, in a registry of their own.

    Counters begin at 0 in each process, as Prometheus expects; the store knows the sums of all time
    (``mobius-rum status``).
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """``now`` gives seconds since 1970; the age of a row is a difference of wall clocks."""
        self._now = now
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        makers: dict[Kind, Any] = {"counter": Counter, "gauge": Gauge, "info": Info}
        self._made: dict[Metric, Any] = {}
        for metric, told in METRICS.items():
            options: dict[str, Any] = {"buckets": told.bounds} if told.kind == "histogram" else {}
            labels = () if told.kind == "info" else tuple(told.labels)
            self._made[metric] = makers.get(told.kind, Histogram)(
                metric.value, told.meaning, labels, registry=self._registry, **options
            )
        self._stored: dict[int, int] = {}
        self._newest = float("nan")
        self._made[Metric.NEWEST_ROW].set_function(lambda: self._now() - self._newest)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def works(self, zone: str, topic: str, writer: str) -> None:
        """The worker takes part in a topic; it has no partition of it yet."""
        self._made[Metric.WORKER].info({"zone": zone, "topic": topic, "writer": writer})
        self._made[Metric.LAG].clear()
        self._stored = {}

    def assigned(self, standings: Mapping[int, Standing]) -> None:
        """The worker has these partitions too, and knows where they stand."""
        self._stored |= {
            partition: standing.unfinished[0] if standing.unfinished else standing.next_offset
            for partition, standing in standings.items()
        }

    def revoked(self, partitions: Iterable[int]) -> None:
        """The worker has these partitions no more."""
        for partition in partitions:
            self._stored.pop(partition, None)
            self._made[Metric.LAG].remove(str(partition))

    def ends(self, ends: Mapping[int, int], paused: int = 0) -> None:
        """The broker has messages below these offsets, by partition; so many partitions are paused."""
        self._made[Metric.PARTITIONS].set(len(ends))
        self._made[Metric.PAUSED].set(paused)
        for partition, end in ends.items():
            behind = max(0, end - self._stored.get(partition, 0))
            self._made[Metric.LAG].labels(str(partition)).set(behind)

    def inserted(self, seconds: float) -> None:
        """A batch was inserted within ``seconds``."""
        self._made[Metric.INSERT_SECONDS].observe(seconds)

    def finished(self, batch: Batch) -> None:
        """All of a batch is stored, and the ledger says so."""
        self._stored[batch.partition] = batch.last + 1
        self._made[Metric.MESSAGES].inc(len(batch.items))
        self._made[Metric.SPANS].inc(batch.spans)
        self._made[Metric.BATCHES].labels(str(batch.repeated).lower()).inc()
        self._made[Metric.BATCH_SPANS].observe(batch.spans)
        self._made[Metric.BATCH_BYTES].observe(sum(len(item.body) for item in batch.items))
        self._made[Metric.DEAD_LETTERS].inc(sum(1 for item in batch.items if item.problem))
        for item in batch.items:
            for foreign in item.foreign:
                self._made[Metric.QUARANTINED].labels(foreign.reason).inc(foreign.spans)

    def retried(self, cause: RetryCause) -> None:
        """The worker begins again at the ledger."""
        self._made[Metric.RETRIES].labels(cause).inc()

    def newest_row(self, started: float) -> None:
        """The newest span of the store started at ``started`` (seconds since 1970; NaN for none)."""
        self._newest = started

    def heartbeat(self, age: Callable[[], float]) -> None:
        """Take the heart-beat's age in seconds from ``age`` at each scrape."""
        self._made[Metric.HEARTBEAT].set_function(age)


def markdown() -> str:
    """Return the table of docs/metrics.md."""
    lines = ["| name | kind | meaning | labels |", "|---|---|---|---|"]
    for metric, told in METRICS.items():
        labels = "<br>".join(f"`{name}`: {meaning}" for name, meaning in told.labels.items())
        lines.append(f"| `{metric.shown}` | {told.kind} | {told.meaning} | {labels} |")
    return "\n".join(lines) + "\n"
