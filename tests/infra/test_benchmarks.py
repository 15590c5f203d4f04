"""The benchmarks compare like with like, and answer with documents."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from kafka import KafkaProducer

from mobius_infra.benchmarks._gate_demo import demo_pairs
from mobius_infra.benchmarks._rows import COLUMNS, rows
from mobius_infra.benchmarks._spans import SPANS_PER_TRACE, make_messages
from mobius_infra.benchmarks.commands import names, run_all
from mobius_pipeline.errors import UsageError
from mobius_pipeline.status import lag
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.worker import run_worker
from tests.conftest import ZoneFactory


def test_both_ways_in_store_the_same_rows(zone_factory: ZoneFactory) -> None:
    messages = make_messages(600, region="eu-west-1")
    ours, peer = zone_factory(), zone_factory()
    producer = KafkaProducer(bootstrap_servers=list(ours.kafka), acks="all")
    for message in messages:
        producer.send(ours.spans_topic, message, partition=0)
    producer.flush()
    producer.close()
    stop = threading.Event()
    worker = threading.Thread(target=run_worker, args=(ours, stop))
    worker.start()
    deadline = time.monotonic() + 60
    while lag(ours) and time.monotonic() < deadline:
        time.sleep(0.1)
    stop.set()
    worker.join()
    client = connect(peer, Purpose.INGEST)
    client.insert("span_rows", list(rows(messages)), column_names=COLUMNS)
    for table in ("spans", "latency_minute"):
        order = "trace_id, span_id" if table == "spans" else "ALL"
        query = f"SELECT * FROM {{database:Identifier}}.{table} {'' if table == 'spans' else 'FINAL '}ORDER BY {order}"
        stored = [
            client.query(query, parameters={"database": zone.database}).result_rows
            for zone in (ours, peer)
        ]
        assert len(stored[0]) >= (600 if table == "spans" else 5)
        assert stored[0] == stored[1], table
    client.close()


def test_the_same_seed_gives_the_same_traces() -> None:
    spans = {
        span
        for message in make_messages(60, region="r")
        for span in [row[3:5] for row in rows([message])]
    }
    again = {
        span
        for message in make_messages(60, region="r")
        for span in [row[3:5] for row in rows([message])]
    }
    assert spans == again
    assert len(spans) == 60
    assert len({trace for trace, _ in spans}) == 60 // SPANS_PER_TRACE


def test_the_benchmarks_are_found_and_unknown_ones_are_named() -> None:
    assert {"ingest_bytes_path", "storage"} <= set(names())
    assert not [
        name for name in names() if name.startswith("_") or name in {"commands", "__main__"}
    ]
    with pytest.raises(UsageError, match=r"known: .*storage"):
        run_all(["none"])


def test_the_demo_gives_pairs_in_which_users_and_tests_differ_as_its_stories_say() -> None:
    pairs = demo_pairs(1, hours=4)
    cells = {pair.subject for pair in pairs}
    assert len(cells) == 12
    ratios = {
        cell: np.median(
            [p.production.log(0.5) - p.test.log(0.5) for p in pairs if p.subject == cell]
        )
        for cell in cells
    }
    assert ratios["eu-central-1", "storefront", "GET", "/search"] > 0.3
    assert ratios["eu-west-1", "storefront", "POST", "/checkout"] < -0.3
    assert abs(ratios["eu-west-1", "storefront", "GET", "/products/{product_id}"]) < 0.1


def test_the_correlate_benchmark_says_how_much_and_where_the_time_goes() -> None:
    found = run_all(["correlate"], {"correlate": {"endpoints": 3, "regions": 2, "days": 2}})
    result = found["benchmarks"]["correlate"]
    assert result["store"]["rollup_rows"] == 2 * result["store"]["rollup_rows_of_the_day"] > 100
    [whole] = result["curve_by_endpoints"]
    assert whole["cells"] == 6
    assert sum(whole["verdicts"].values()) == 6
    assert sum(whole["share"].values()) == pytest.approx(1, abs=0.01)
    assert set(whole["share"]) == {"clickhouse", "transfer", "polars"}
    for curve, sizes in (("minutes", [360, 720]), ("windows", [2, 4])):
        assert [point[curve] for point in result[f"curve_by_{curve}"]] == sizes
    assert [point["cells"] for point in result["curve_by_windows"]] == [12, 24]
    assert result["job_with_findings_saved"]["cells"] == 6
    assert min(whole["peak_memory_mib"], whole["engine_peak_memory_mib"]) > 0
