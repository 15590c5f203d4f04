"""The spool: on the disk alone, over an outage of a real broker, and over a kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from mobius_instrumentation.buffer import Limits
from mobius_instrumentation.exporter import KafkaSpanExporter
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.spool import Spool

if TYPE_CHECKING:
    from tests.instrumentation.conftest import Broker, ReadTopic

Make = Callable[..., tuple[KafkaSpanExporter, Tracer]]


def drain(spool: Spool) -> list[bytes]:
    read = []
    while (found := spool.peek()) is not None:
        read.append(found[0])
        spool.pop()
    return read


def test_messages_come_back_in_order_and_leave_no_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "eu", 1 << 30)
    messages = [bytes([n]) * 700_000 for n in range(20)]  # several segments
    assert all(spool.append(message, 3) for message in messages)
    assert len(list(tmp_path.glob("eu/*/*.seg"))) > 1
    assert drain(spool) == messages
    assert spool.append(b"again", 1)
    assert drain(spool) == [b"again"]
    spool.close()
    assert list((tmp_path / "eu").iterdir()) == []


def test_the_bound_holds_for_all_processes_together_and_the_newest_is_refused(
    tmp_path: Path,
) -> None:
    first, second = Spool(tmp_path, 10_000), Spool(tmp_path, 10_000)
    kept = [spool.append(b"x" * 900, 1) for _ in range(10) for spool in (first, second)]
    assert kept == [True] * 10 + [False] * 10
    assert first.full
    assert second.full
    drain(first)
    assert second.append(b"y", 1)


def test_the_living_are_left_alone_and_a_torn_record_is_ignored_and_counted(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from mobius_instrumentation.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), 1 << 20)\n"
        "for n in range(5): spool.append(b'message %d' % n, n + 1)\n"
        "spool.peek(); spool.pop(); print('ready', flush=True); sys.stdin.read(); os.kill(os.getpid(), 9)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    spool = Spool(tmp_path, 1 << 20)
    assert spool.adopt() == 0, "its owner lives"
    process.communicate()
    (segment,) = tmp_path.glob("*/*.seg")
    os.truncate(segment, segment.stat().st_size - 3)
    assert spool.adopt() == 2 + 3 + 4
    assert spool.torn == 1
    assert drain(spool) == [b"message 1", b"message 2", b"message 3"]
    assert spool.torn == 1, "it is told after the folder is gone, too"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_never_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    spool.append(b"good", 1)
    spool.append(b"evil", 1)
    (segment,) = tmp_path.glob("*/*.seg")
    segment.write_bytes(segment.read_bytes().replace(b"evil", b"even"))
    assert drain(spool) == [b"good"]
    assert spool.torn == 1


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[KafkaSpanExporter] = []

    def exporter(address: str, **options: Any) -> tuple[KafkaSpanExporter, Tracer]:
        limits = Limits(queue_spans=200, batch_spans=50, delay_seconds=0.05)
        client = {"request_timeout_ms": 1_000, "delivery_timeout_ms": 2_000}
        given: dict[str, Any] = {
            "limits": limits,
            "spool_folder": tmp_path / "eu",
            "kafka_options": client,
            **options,
        }
        exporter = KafkaSpanExporter([address], "t", **given)
        made.append(exporter)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(ExportingProcessor(exporter))
        return exporter, provider.get_tracer("test")

    yield exporter
    for exporter_ in made:
        exporter_.shutdown(0)


def emit(tracer: Tracer, number: int) -> set[str]:
    spans = [tracer.start_span("work") for _ in range(number)]
    for span in spans:
        span.end()
    return {f"{span.get_span_context().span_id:016x}" for span in spans}


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.kafka
def test_an_outage_is_bridged_far_beyond_what_memory_holds(
    own_broker: Broker, make: Make, read_topic: ReadTopic, tmp_path: Path
) -> None:
    exporter, tracer = make(own_broker.address)
    made = set[str]()
    for _ in range(20):
        made |= emit(tracer, 100)
        until(lambda: exporter.stats().pending < 100)
    stats = exporter.stats()
    assert (stats.accepted, stats.dropped) == (2_000, {})
    assert stats.spooled > 1_000
    assert not exporter.force_flush(0), "what is on the disk is not delivered"
    own_broker.start("t")
    until(lambda: exporter.stats().sent == 2_000)
    made |= emit(tracer, 10)
    assert exporter.force_flush(20_000)
    stats = exporter.stats()
    assert (stats.sent, stats.spooled, stats.pending, stats.dropped) == (2_010, 0, 0, {})
    messages = read_topic(own_broker.address, "t")
    assert Counter(s.span_id for _, spans in messages for s in spans) == Counter(made)
    exporter.shutdown()
    assert list((tmp_path / "eu").iterdir()) == []


@pytest.mark.kafka
def test_a_full_spool_has_a_reason_of_its_own_and_the_account_stays_exact(
    own_broker: Broker, make: Make
) -> None:
    exporter, tracer = make(own_broker.address, spool_bytes=6_000)
    until(lambda: bool(emit(tracer, 20)) and "spool_full" in exporter.stats().dropped)
    exporter.shutdown(200)
    stats = exporter.stats()
    assert stats.spooled > 0
    assert stats.pending == 0
    assert stats.accepted == stats.sent + stats.dropped_total + stats.pending + stats.spooled


PROCESS = """
import json, os, sys, time
from pathlib import Path
from opentelemetry.sdk.trace import TracerProvider
from mobius_instrumentation.buffer import Limits
from mobius_instrumentation.exporter import KafkaSpanExporter
from mobius_instrumentation.processor import ExportingProcessor

address, folder, number, end = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
exporter = KafkaSpanExporter(
    [address], "t", spool_folder=folder, limits=Limits(batch_spans=25, delay_seconds=0.05),
    shutdown_timeout_millis=1000,
)
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(ExportingProcessor(exporter))
spans = [provider.get_tracer("t").start_span("work") for _ in range(number)]
for span in spans:
    span.end()
if end == "kill":
    while exporter.stats().spooled < number:
        time.sleep(0.02)
if end == "deliver":
    while exporter.stats().spooled or exporter.stats().pending:
        time.sleep(0.02)
print(json.dumps([f"{span.context.span_id:016x}" for span in spans]), flush=True)
if end in ("kill", "deliver"):
    os.kill(os.getpid(), 9)
"""


def process(broker: Broker, folder: Path, number: int, end: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, broker.address, str(folder), str(number), end],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == (-9 if end in ("kill", "deliver") else 0), done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.kafka
def test_kill_9_in_an_outage_and_an_exit_in_an_outage_lose_nothing_that_was_spooled(
    own_broker: Broker, read_topic: ReadTopic, tmp_path: Path
) -> None:
    killed = process(own_broker, tmp_path, 230, "kill")
    exited = process(own_broker, tmp_path, 90, "exit")
    assert len(list(tmp_path.iterdir())) == 2
    own_broker.start("t")
    last = process(own_broker, tmp_path, 5, "deliver")
    messages = read_topic(own_broker.address, "t")
    arrived = Counter(s.span_id for _, spans in messages for s in spans)
    assert killed | exited | last <= set(arrived), "lost"
    assert arrived == Counter(killed | exited | last), "stored twice"
