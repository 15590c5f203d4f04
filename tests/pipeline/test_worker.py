"""The worker as a process: each span exactly once, whatever dies; nothing foreign, nothing unreadable passes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.kafka_client import describe_topic, end_offsets, ensure_topics
from mobius_pipeline.ledger import Ledger
from mobius_pipeline.removals import Removal, store_removals
from mobius_pipeline.status import lag, span_identity, zone_status
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.wire import parse
from mobius_pipeline.worker import WorkerOptions, run_worker
from mobius_pipeline.worker.batch import BatchLimits
from tests.conftest import ZoneFactory, start_broker
from tests.pipeline.otlp import make_message, make_resource, make_span, publish

pytestmark = [pytest.mark.store, pytest.mark.kafka]

SMALL = WorkerOptions(limits=BatchLimits(spans=400, seconds=0.05))


def wait_for(what: Callable[[], bool], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


@contextmanager
def working(zone: Zone, options: WorkerOptions = SMALL) -> Iterator[threading.Thread]:
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            run_worker(zone, stop, options)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(timeout=60)
    if failures:
        raise failures[0]


def drain(zone: Zone, options: WorkerOptions = SMALL) -> None:
    with working(zone, options):
        wait_for(lambda: lag(zone) == 0)


def rows(zone: Zone, query: str) -> list[tuple[Any, ...]]:
    client = connect(zone, Purpose.ANALYSIS)
    try:
        return [tuple(row) for row in client.query(query).result_rows]
    finally:
        client.close()


def read_dead_letters(zone: Zone) -> list[tuple[dict[str, str], bytes | None]]:
    consumer = KafkaConsumer(
        bootstrap_servers=list(zone.kafka),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    partition = TopicPartition(zone.dead_letters_topic, 0)
    (end,) = end_offsets(zone, zone.dead_letters_topic, [0]).values()
    consumer.assign([partition])
    consumer.seek(partition, 0)
    found: list[tuple[dict[str, str], bytes | None]] = []
    while consumer.position(partition) < end:
        found.extend(
            ({key: value.decode() for key, value in record.headers}, record.value)
            for record in consumer.poll(500).get(partition, [])
        )
    consumer.close()
    return found


def test_poison_foreign_and_mixed_messages(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    own = [make_span(dropped_attributes_count=2) for _ in range(4)]
    foreign = make_span(dropped_attributes_count=5)
    mixed = make_message(make_resource([foreign], region="us-east-1"), make_resource([own[1]]))
    positions = publish(
        zone,
        [
            (0, make_message(make_resource([own[0]]))),
            (0, b"no protobuf"),
            (0, mixed),
            (1, None),
            (1, make_message(make_resource([make_span(), make_span()], region=None))),
            (1, make_message(make_resource([own[2], make_span(duration_ns=-1)]))),
            (0, make_message(make_resource([own[3]]))),
        ],
    )
    drain(zone)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(
        s.span_id for s in own
    )
    assert rows(zone, "SELECT sum(requests) FROM latency_minute") == [(4,)]
    assert rows(
        zone,
        "SELECT region, service, sum(spans), sum(attributes) FROM removed_attributes GROUP BY ALL",
    ) == [("eu-west-1", "shop", 4, 8)]
    status = zone_status(zone)
    assert (status.spans, status.traces, status.lag) == (4, 4, 0)
    assert (status.dead_letters, status.quarantined, status.minutes >= 1) == (2, 4, True)
    assert rows(
        zone, "SELECT reason, region, spans, partition, offset FROM quarantine ORDER BY reason"
    ) == [
        ("negative duration", "eu-west-1", 1, *positions[5]),
        ("region is missing", "", 2, *positions[4]),
        ("region is not of this zone", "us-east-1", 1, *positions[2]),
    ]
    client = connect(zone, Purpose.ANALYSIS)
    (payload,) = client.query(
        "SELECT payload FROM quarantine WHERE region = 'us-east-1'",
        query_formats={"String": "bytes"},
    ).result_rows[0]
    assert len(parse(payload).resource_spans) == 1
    topic = describe_topic(zone, zone.spans_topic)
    assert topic is not None
    letters = read_dead_letters(zone)
    assert sorted((h["partition"], h["offset"], v) for h, v in letters if v) == [
        (str(positions[1][0]), str(positions[1][1]), b"no protobuf")
    ]
    assert {(h["topic"], h["topic-id"]) for h, _ in letters} == {(zone.spans_topic, str(topic.id))}
    assert all(h["reason"] for h, _ in letters)
    assert rows(
        zone, "SELECT partition, offset FROM dead_letters ORDER BY partition, offset"
    ) == sorted([positions[1], positions[3]])


def test_distinct_people_are_counted_by_the_hour_and_only_where_they_are_named(
    zone_factory: ZoneFactory,
) -> None:
    zone = zone_factory()
    start = 1_772_000_000_000_000_000
    named = [
        make_span(start_ns=start + number, attributes={"enduser.pseudo.id": f"p{number % 3}"})
        for number in range(10)
    ]
    inner = make_span(attributes={"enduser.pseudo.id": "p9"}, kind=Span.SPAN_KIND_INTERNAL)
    bad = make_span(attributes={"enduser.pseudo.id": "p8"}, duration_ns=-1)
    nobody = make_span(start_ns=start, attributes={"http.route": "/nobody"})
    by_a_test = make_span(
        attributes={
            "enduser.pseudo.id": "p7",
            "user_agent.synthetic.type": "test",
            "mobius.test.run": "r",
        }
    )
    publish(
        zone,
        [
            (0, make_message(make_resource([*named[:5], inner, nobody, by_a_test]))),
            (1, make_message(make_resource([*named[5:], bad]))),
        ],
    )
    drain(zone)
    told = "SELECT hour, route, source, status_class, uniqMerge(subjects) FROM latency_subjects GROUP BY ALL"
    hour = datetime.fromtimestamp(start // 10**9 // 3600 * 3600, UTC)
    ((at, *rest),) = rows(zone, told)
    assert at.replace(tzinfo=UTC) == hour
    assert rest == ["/orders/{order_id}", "real", "2xx", 3]
    assert rows(zone, "SELECT sum(requests) FROM latency_minute WHERE source = 'synthetic'") == [
        (1,)
    ]


def test_removals_of_a_repeated_range_count_once(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = connect(zone, Purpose.INGEST)
    found = [Removal("eu-west-1", "shop", 2, 7), Removal("eu-west-1", "shop", 1, 1)]
    for token in ("t/0/0-9", "t/0/0-9", "t/0/10-19"):
        store_removals(client, found, token)
    store_removals(client, [], "t/0/20-29")
    client.close()
    told = rows(zone, "SELECT sum(spans), sum(attributes) FROM removed_attributes")
    assert told == [(6, 16)]


def publish_slowly(
    zone: Zone, messages: list[tuple[int, bytes | None]], seconds: float
) -> threading.Thread:
    def run() -> None:
        step = max(1, len(messages) // 20)
        for begin in range(0, len(messages), step):
            publish(zone, messages[begin : begin + step])
            time.sleep(seconds / 20)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def kill_between_insert_and_end(
    zone: Zone, worker: subprocess.Popen[str], chance: random.Random
) -> bool:
    """Kill the worker when it has stored a range and not yet written so: the worst moment for duplicates.

    Stops it again and again, lets the store finish what it was asked for, and looks. False: it never stood there.
    """
    stored_but_unfinished = (
        "SELECT count() FROM spans WHERE (kafka_partition, kafka_offset) IN ("
        "SELECT partition, first_offset FROM ingest_ledger GROUP BY ALL HAVING countIf(state = 'done') = 0)"
    )
    for _ in range(200):
        time.sleep(chance.uniform(0, 0.03))
        worker.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        if rows(zone, stored_but_unfinished) != [(0,)]:
            return True
        if lag(zone) == 0:
            return False
        worker.send_signal(signal.SIGCONT)
    return False


def test_killed_again_and_again_stores_each_span_once(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    """SIGKILL at random moments, and at the worst one."""
    zone = zone_factory()
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    ids = [os.urandom(8) for _ in range(20_000)]
    messages: list[tuple[int, bytes | None]] = []
    for begin in range(0, len(ids), 50):
        resources = [make_resource([make_span(span_id=i) for i in ids[begin : begin + 50]])]
        if begin % 1000 == 0:
            resources.append(make_resource([make_span()], region="us-east-1"))
        messages.append((begin // 50 % 2, make_message(*resources)))
        if begin % 2000 == 0:
            messages.append((1, b"poison %d" % begin))
    config = zones_file_factory(zone)
    command = [
        sys.executable,
        "-m",
        "mobius_infra.cli",
        "ingest",
        "--zone",
        zone.name,
        "--config",
        str(config),
    ]
    command += ["--batch-spans", "500", "--batch-ms", "20", "--name", "worker-0"]
    worst = 0
    share = len(messages) // 5 + 1
    for life in range(5):
        publish(zone, messages[life * share : (life + 1) * share])
        worker = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert worker.stderr is not None
        assert json.loads(worker.stderr.readline())["event"] == "reading"
        if life % 2:
            time.sleep(chance.uniform(0, 0.5))
        else:
            worst += kill_between_insert_and_end(zone, worker, chance)
        worker.kill()
        worker.wait()
    assert worst, "the worst moment was never met, so nothing was proved"
    drain(zone, replace(SMALL, name="worker-0"))
    found = Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans"))
    assert found == Counter(ids), f"seed {seed}"
    identity = span_identity(zone)
    assert (identity.rows, identity.distinct) == (20_000, 20_000)
    assert rows(
        zone,
        "SELECT sum(requests), sum(weight), sum(arraySum(mapValues(buckets))) FROM latency_minute",
    ) == [(20_000, 20_000.0, 20_000.0)]
    status = zone_status(zone)
    assert (status.quarantined, status.dead_letters) == (20, 10)
    letters = {(h["topic-id"], h["partition"], h["offset"]) for h, _ in read_dead_letters(zone)}
    assert len(letters) == 10
    for partition in (0, 1):
        claims = rows(
            zone,
            f"SELECT first_offset, last_offset FROM ingest_ledger WHERE partition = {partition} AND state = 'intent' ORDER BY first_offset",
        )
        assert claims[0][0] == 0
        assert all(after[0] == before[1] + 1 for before, after in pairwise(claims))


def test_sigterm_finishes_what_was_gathered(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    zone = zone_factory()
    command = [
        sys.executable,
        "-m",
        "mobius_infra.cli",
        "ingest",
        "--config",
        str(zones_file_factory(zone)),
    ]
    worker = subprocess.Popen([*command, "--batch-ms", "600000"], stderr=subprocess.PIPE, text=True)
    assert worker.stderr is not None
    assert json.loads(worker.stderr.readline())["event"] == "reading"
    publish(zone, [(0, make_message(make_resource([make_span() for _ in range(7)])))])
    time.sleep(1)
    assert lag(zone) == 1
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    assert (lag(zone), zone_status(zone).spans) == (0, 7)
    assert "Traceback" not in worker.stderr.read()


def test_unfinished_range_is_repeated_as_it_was(zone_factory: ZoneFactory) -> None:
    """A worker that died between intent and end leaves a range; bigger limits now must not change it."""
    zone = zone_factory()
    spans = [make_span() for _ in range(10)]
    publish(zone, [(0, make_message(make_resource([span]))) for span in spans])
    topic = describe_topic(zone, zone.spans_topic)
    assert topic is not None
    Ledger(connect(zone, Purpose.INGEST), topic, "dead").claim(0, 0, 3, 4)
    drain(zone, WorkerOptions())
    assert rows(
        zone, "SELECT first_offset, last_offset, state FROM ingest_ledger ORDER BY 1, 3"
    ) == [
        (0, 3, "intent"),
        (0, 3, "done"),
        (4, 9, "intent"),
        (4, 9, "done"),
    ]
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(
        s.span_id for s in spans
    )


def test_new_broker_is_a_new_topic(zone_factory: ZoneFactory) -> None:
    """The broker keeps nothing: started again on its port it has a topic of the same name, and offsets from 0."""
    process, address = start_broker()
    zone = replace(zone_factory(topics=False), kafka=(address,))
    ensure_topics(zone)
    try:
        with working(zone):
            first = [make_span() for _ in range(30)]
            publish(zone, [(0, make_message(make_resource([span]))) for span in first])
            wait_for(lambda: lag(zone) == 0)
            process.kill()
            process.wait()
            process, _ = start_broker(int(address.rpartition(":")[2]))
            ensure_topics(zone)
            second = [make_span() for _ in range(20)]
            publish(zone, [(0, make_message(make_resource([span]))) for span in second])
            wait_for(lambda: lag(zone) == 0)
        assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(
            span.span_id for span in [*first, *second]
        )
        assert rows(zone, "SELECT uniqExact(topic_id) FROM ingest_ledger") == [(2,)]
    finally:
        process.kill()
        process.wait()


def test_cut_log_is_an_error_and_nothing_is_skipped(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    publish(zone, [(0, make_message(make_resource([make_span()])))])
    topic = describe_topic(zone, zone.spans_topic)
    assert topic is not None
    ahead = Ledger(connect(zone, Purpose.INGEST), topic, "other")
    ahead.claim(0, 0, 499, 1)
    ahead.finish(0, 0, 499, 1)
    with pytest.raises(
        TerminalError, match="goes on at offset 500, but the broker has 0 to 1 only"
    ):
        run_worker(zone, threading.Event())
    assert zone_status(zone).spans == 0


def test_lag_counts_every_message_that_is_not_stored(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    assert lag(zone) == 0
    sizes = (1, 1, 10, 93, 7)
    for size in sizes:
        publish(zone, [(1, make_message(make_resource([make_span()]))) for _ in range(size)])
    assert lag(zone) == sum(sizes)
    drain(zone)
    assert (lag(zone), zone_status(zone).spans) == (0, sum(sizes))
