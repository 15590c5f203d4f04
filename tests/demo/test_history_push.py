"""A short history through the real broker and the real importer, checked span by span."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mobius_infra.demo import history, shop
from mobius_infra.demo.history_spans import SpanRows
from mobius_instrumentation.zones import Zone
from mobius_pipeline.config import load_config
from mobius_pipeline.store import Purpose, connect

HOUR = 3_600_000_000_000
# Quarter past the hour: each region's run of that hour has ended, and twelve minutes hold it.
END = 1_790_000_000_000_000_000 // HOUR * HOUR + HOUR // 4
HOURS = 0.2
PERIOD = history.Period.before(END, HOURS)


def messages_of(zone: Zone) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=list(zone.kafka), enable_auto_commit=False)
    partitions = [
        TopicPartition(zone.spans_topic, p)
        for p in consumer.partitions_for_topic(zone.spans_topic) or ()
    ]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    payloads: list[bytes] = []
    idle = 0
    while idle < 2:
        batch = consumer.poll(timeout_ms=700)
        idle = 0 if batch else idle + 1
        payloads += [record.value for part in batch.values() for record in part]
    consumer.close()
    return payloads


def values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def decode(payloads: list[bytes]) -> list[tuple[dict[str, Any], Span]]:
    return [
        (values(group.resource.attributes), span)
        for payload in payloads
        for group in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


@pytest.mark.kafka
@pytest.mark.store
def test_a_history_is_in_each_zone_exactly_once(
    zone_factory: Callable[..., Zone], zones_file_factory: Callable[..., Path]
) -> None:
    eu = zone_factory("eu")
    us = zone_factory("us", regions=("us-east-1",))
    zones = load_config(zones_file_factory(eu, us))
    document = history.push_history(zones, HOURS, now_ns=lambda: END)

    for zone in (eu, us):
        spans = decode(messages_of(zone))
        ids = [span.span_id for _, span in spans]
        produced: Any = document["zones"]
        assert len(ids) == len(set(ids)) == produced[zone.name]["produced"] > 1_000
        assert {resource["cloud.region"] for resource, _ in spans} == set(zone.regions)
        assert {resource["mobius.demo.generated"] for resource, _ in spans} == {"true"}
        assert {r["service.version"] for r, _ in spans} == {"1.4.2", "1.5.0"}
        assert_runs(zone, spans)
    assert document["synthetic_runs"] == len(shop.REGIONS)


def assert_runs(zone: Zone, spans: list[tuple[dict[str, Any], Span]]) -> None:
    """Each result of each imported run has its own server span, and no test span is without result."""
    client = connect(zone, Purpose.ANALYSIS)
    runs = client.query("SELECT run, generated, requests, release FROM synthetic_runs").result_rows
    results = client.query("SELECT trace_id, run FROM synthetic_results").result_rows
    client.close()
    marked = {
        (span.trace_id.hex(), values(span.attributes)["mobius.test.run"])
        for resource, span in spans
        if resource["service.name"] == "storefront" and "mobius.test.run" in values(span.attributes)
    }
    assert {(trace, run) for trace, run in results} == marked
    assert sum(requests for _, _, requests, _ in runs) == len(results) == len(marked)
    assert {generated for _, generated, _, _ in runs} == {True}
    assert len(runs) == len(zone.regions)


def test_the_same_seed_and_time_give_the_same_bytes() -> None:
    first, second = (
        b"".join(rows.rows.tobytes() for rows in spans_of("us-east-1", seed=3)) for _ in range(2)
    )
    assert first == second
    other = b"".join(rows.rows.tobytes() for rows in spans_of("us-east-1", seed=4))
    assert first != other


def spans_of(region: str, seed: int) -> list[SpanRows]:
    return history.draw_region(region, PERIOD, seed).spans


@pytest.fixture(scope="module")
def traces() -> dict[bytes, dict[bytes, tuple[dict[str, Any], Span]]]:
    drawn = history.draw_region("eu-central-1", PERIOD, 1)
    by_trace: dict[bytes, dict[bytes, tuple[dict[str, Any], Span]]] = defaultdict(dict)
    for payload, spans in history.messages([drawn], PERIOD):
        decoded = decode([payload])
        assert len(decoded) == spans
        for resource, span in decoded:
            by_trace[span.trace_id][span.span_id] = (resource, span)
    return by_trace


def test_the_trace_id_decides_consistently_which_traces_are_whole(
    traces: dict[bytes, dict[bytes, tuple[dict[str, Any], Span]]],
) -> None:
    for trace_id, spans in traces.items():
        whole = int.from_bytes(trace_id[-7:], "big") >= 0xC0 << 48
        assert (len(spans) > 1) is whole
        inner = [span.trace_state for _, span in spans.values() if span.parent_span_id in spans]
        assert set(inner) <= {"ot=th:c"}
        assert len(inner) == len(spans) - 1


def test_a_span_lies_inside_its_parent(
    traces: dict[bytes, dict[bytes, tuple[dict[str, Any], Span]]],
) -> None:
    for spans in traces.values():
        for _, span in spans.values():
            if span.parent_span_id in spans:
                parent = spans[span.parent_span_id][1]
                assert parent.start_time_unix_nano <= span.start_time_unix_nano
                # Parts are rounded to whole nanoseconds one by one.
                assert span.end_time_unix_nano <= parent.end_time_unix_nano + 10
            assert span.end_time_unix_nano > span.start_time_unix_nano


def test_a_history_without_the_shops_regions_is_refused(
    zones_file_factory: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Zone("mars", ("mars-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_mars")
    config = zones_file_factory(elsewhere)
    assert history.main(["--config", str(config), "--hours", "1"]) == 2
    assert "none of the demo's regions" in capsys.readouterr().err
    assert history.main(["--config", str(config), "--hours", "0"]) == 2


def test_a_broker_that_is_away_is_named(
    zones_file_factory: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    away = Zone("us", ("us-east-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_us")
    config = zones_file_factory(away)
    assert history.main(["--config", str(config), "--hours", "0.01", "--json"]) == 3
    captured = capsys.readouterr()
    assert "127.0.0.1:1" in captured.err
    assert not captured.out


def test_the_document_is_written_for_the_supervisor(tmp_path: Path) -> None:
    from mobius_infra.demo.counters import write_atomically

    write_atomically(tmp_path / "deep" / "stats.json", json.dumps({"produced": 1}))
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["stats.json"]
