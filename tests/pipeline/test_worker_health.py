"""What a worker says of itself, and how it stops: in time, whatever hangs."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.kafka_client import Topic
from mobius_pipeline.ledger import Standing
from mobius_pipeline.quarantine import Foreign
from mobius_pipeline.status import lag
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.worker import WorkerOptions, run_worker
from mobius_pipeline.worker.health import LIVE_SECONDS, READY_SECONDS, Health, serve_health
from mobius_pipeline.worker.metrics import METRICS, Metric, WorkerMetrics, markdown
from mobius_pipeline.worker.steps import Batch, Message, Routed
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.proxy import proxied

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, Any]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            body, status = answer.read(), answer.status
    except HTTPError as error:
        body, status = error.read(), error.code
    except OSError:
        return 0, None
    return status, json.loads(body) if path in {"/livez", "/readyz"} else body.decode()


def values(text: str) -> dict[str, float]:
    """Value by name and labels of all samples, as Prometheus reads them."""
    return {
        sample.name + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def start(zone: Zone, config: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mobius_infra.cli", "ingest", "--zone", zone.name]
    return subprocess.Popen(
        [*command, "--config", str(config), *options], stderr=subprocess.PIPE, text=True
    )


def stored(zone: Zone) -> Counter[bytes]:
    client = connect(zone, Purpose.ANALYSIS)
    try:
        return Counter(row[0] for row in client.query("SELECT span_id FROM spans").result_rows)
    finally:
        client.close()


def drain(zone: Zone, name: str = "") -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run_worker, args=(zone, stop, WorkerOptions(name=name)))
    thread.start()
    try:
        wait_for(lambda: lag(zone) == 0)
    finally:
        stop.set()
        thread.join(timeout=60)


# ---------------------------------------------------------------------------- the table of metrics


def test_documented_metrics_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert markdown() in page
    known = {name for metric in Metric for name in (metric.shown, metric.value)}
    known |= {f"{m.value}_{end}" for m in Metric for end in ("bucket", "sum", "count")}
    assert set(re.findall(r"mobius_worker\w*", page)) <= known


def test_every_metric_is_shown_with_its_kind_and_meaning() -> None:
    metrics = WorkerMetrics()
    metrics.works("eu", "rum.spans.eu", "me")
    metrics.assigned({0: Standing(0, None)})
    families = {f.name: f for f in text_string_to_metric_families(metrics.text().decode())}
    for metric, told in METRICS.items():
        # The text format knows an info as the gauge that Prometheus stores.
        name = metric.shown if told.kind == "info" else metric.value
        expected = "gauge" if told.kind == "info" else told.kind
        assert families[name].type == expected
        assert families[name].documentation == told.meaning


def test_a_batch_is_counted_in_each_metric() -> None:
    topic = Topic("rum.spans.eu", UUID(int=7), (0, 1))
    foreign = Foreign("region is missing", "", "", 3, b"payload")
    items = (
        Routed(Message(1, 10, b"x"), b"x" * 100, 5, (foreign,), ""),
        Routed(Message(1, 11, b"y"), b"", 0, (), "not OTLP"),
    )
    metrics = WorkerMetrics(now=lambda: 1000.0)
    metrics.works("eu", topic.name, "me")
    metrics.assigned({0: Standing(4, None), 1: Standing(12, (10, 11))})
    metrics.ends({0: 4, 1: 20})
    before = values(metrics.text().decode())
    assert before["mobius_worker_lag_messages,partition=0"] == 0
    assert before["mobius_worker_lag_messages,partition=1"] == 10
    assert math.isnan(before["mobius_worker_newest_row_age_seconds"])
    metrics.inserted(0.5)
    metrics.finished(Batch(topic, 1, 10, 11, items, repeated=True))
    metrics.retried("store")
    metrics.newest_row(990.0)
    metrics.ends({0: 4, 1: 20})
    after = values(metrics.text().decode())
    expected = {
        "mobius_worker_lag_messages,partition=1": 8,
        "mobius_worker_messages_total": 2,
        "mobius_worker_spans_total": 5,
        "mobius_worker_batches_total,repeated=true": 1,
        "mobius_worker_batch_spans_sum": 5,
        "mobius_worker_batch_bytes_sum": 100,
        "mobius_worker_insert_seconds_sum": 0.5,
        "mobius_worker_retries_total,cause=store": 1,
        "mobius_worker_dead_letters_total": 1,
        "mobius_worker_quarantined_spans_total,reason=region is missing": 3,
        "mobius_worker_newest_row_age_seconds": 10,
        "mobius_worker_info,topic=rum.spans.eu,writer=me,zone=eu": 1,
    }
    assert {name: after.get(name) for name in expected} == expected


# ---------------------------------------------------------------------------- alive, ready


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_alive_is_the_loop_and_ready_is_what_it_needs() -> None:
    clock = Clock()
    health = Health(clock=clock)
    assert health.live()[0]
    assert health.ready()[0] is False
    health.began_reading({})
    assert health.ready() == (True, {"broker": "ok", "store": "ok"})
    # A dependency that fails makes the worker unready, not dead; and its answer alone gives no place in the topic.
    health.began_again("store")
    assert health.ready()[1]["store"] == "does not answer"
    clock.now += 1
    health.answered("store")
    assert health.ready()[1] == {
        "broker": "ok",
        "store": "ok",
        "worker": "has no place in the topic yet",
    }
    assert health.live()[0]
    health.began_reading({})
    heard = clock.now
    clock.now += READY_SECONDS + 1
    health.turned(heard, {})
    health.answered("store")
    assert health.ready() == (False, {"broker": "last answered 31 s ago", "store": "ok"})
    health.turned(clock.now, {})
    assert health.ready()[0]
    clock.now += LIVE_SECONDS + 1
    assert health.live() == (False, {"heartbeat_age_seconds": LIVE_SECONDS + 1})


def test_a_taken_port_is_told() -> None:
    zone = Zone("eu", ("eu-west-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_eu")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UsageError, match="--health-port"),
        serve_health(Health(), zone, "127.0.0.1", taken.getsockname()[1]),
    ):
        pass


@pytest.mark.store
@pytest.mark.kafka
def test_a_working_worker_tells_what_it_does(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    zone = zone_factory()
    port = free_port()
    publish(
        zone,
        [
            (0, make_message(make_resource([make_span(), make_span()]))),
            (1, b"no protobuf"),
            (1, make_message(make_resource([make_span()], region="us-east-1"))),
        ],
    )
    worker = start(zone, zones_file_factory(zone), "--health-port", str(port), "--batch-ms", "50")
    try:
        wait_for(lambda: ask(port, "/readyz")[0] == 200)
        wait_for(lambda: lag(zone) == 0)
        wait_for(lambda: "newest_row_age_seconds NaN" not in ask(port, "/metrics")[1])
        assert ask(port, "/livez")[1]["ok"]
        found = values(ask(port, "/metrics")[1])
        assert found["mobius_worker_spans_total"] == 2
        assert found["mobius_worker_messages_total"] == 3
        assert found["mobius_worker_dead_letters_total"] == 1
        reason = "region is not of this zone"
        assert found[f"mobius_worker_quarantined_spans_total,reason={reason}"] == 1
        assert found["mobius_worker_lag_messages,partition=0"] == 0
        assert found["mobius_worker_lag_messages,partition=1"] == 0
        assert found["mobius_worker_insert_seconds_count"] >= 2
        assert 0 < found["mobius_worker_newest_row_age_seconds"] < 600
        assert found["process_resident_memory_bytes"] > 1e6
        assert ask(port, "/nothing")[0] == 404
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0
    finally:
        worker.kill()
        worker.communicate()


# ---------------------------------------------------------------------------- stopping


@pytest.mark.store
@pytest.mark.kafka
def test_a_stop_abandons_a_store_that_hangs_and_loses_nothing(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    zone = zone_factory()
    ids = [os.urandom(8) for _ in range(50)]
    port = free_port()
    with proxied(zone.clickhouse.removeprefix("http://")) as proxy:
        behind = replace(zone, clickhouse=f"http://{proxy.address}")
        config = zones_file_factory(behind)
        options = ["--health-port", str(port), "--batch-ms", "600000", "--stop-seconds", "2"]
        options += ["--name", "worker-0"]
        worker = start(zone, config, *options)
        try:
            wait_for(lambda: ask(port, "/readyz")[0] == 200)
            publish(zone, [(0, make_message(make_resource([make_span(span_id=i)]))) for i in ids])
            wait_for(
                lambda: (
                    values(ask(port, "/metrics")[1])["mobius_worker_lag_messages,partition=0"] == 50
                )
            )
            proxy.hang()
            worker.send_signal(signal.SIGTERM)
            # The request to the store would end by itself after 15 s; the test would see that by its exit code 0.
            _, told = worker.communicate(timeout=60)
            assert worker.returncode == 4
            assert "not finished after 2 s" in told
            assert "nothing is lost" in told
            assert "Traceback" not in told
        finally:
            worker.kill()
            worker.wait()
    drain(zone, "worker-0")
    assert stored(zone) == Counter(ids)


@pytest.mark.store
@pytest.mark.kafka
def test_a_second_signal_stops_at_once(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    zone = zone_factory()
    with proxied(zone.clickhouse.removeprefix("http://")) as proxy:
        proxy.hang()
        behind = replace(zone, clickhouse=f"http://{proxy.address}")
        worker = start(zone, zones_file_factory(behind), "--stop-seconds", "600")
        try:
            wait_for(lambda: proxy.accepted > 0)
            worker.send_signal(signal.SIGINT)
            time.sleep(0.2)
            worker.send_signal(signal.SIGINT)
            _, told = worker.communicate(timeout=60)
            assert worker.returncode == 4
            assert "a second signal came" in told
        finally:
            worker.kill()
            worker.wait()
