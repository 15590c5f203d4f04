"""Files of spans: whole or not at all, once, and to the last span in the store."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from clickhouse_connect.driver.client import Client

from mobius_infra.cli import main
from mobius_instrumentation.zones import Zone, Zones, parse_zones
from mobius_pipeline.errors import DependencyError, UsageError
from mobius_pipeline.imports.span_topic import Position, SpanTopic
from mobius_pipeline.imports.spans import import_spans
from mobius_pipeline.kafka_client import end_offsets, ensure_topics
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.worker import run_worker
from tests.conftest import ZoneFactory, start_broker

BOUTIQUE = Path(__file__).parents[1] / "data" / "online-boutique" / "2022-08-22T03-53.otlp.jsonl.gz"
NOWHERE = parse_zones(
    {
        "zones": {
            "eu": {"regions": ["eu-west-1", "eu-central-1"], "kafka": ["127.0.0.1:1"], "clickhouse": "http://127.0.0.1:1"},
            "us": {"regions": ["us-east-1"], "kafka": ["127.0.0.1:1"], "clickhouse": "http://127.0.0.1:1"},
        }
    }
)  # fmt: skip
START = 1_795_446_000_000_000_000


def span(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "traceId": f"{number // 3 + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": "GET /a",
        "kind": 2,
        "startTimeUnixNano": str(START + number * 1_000_000),
        "endTimeUnixNano": str(START + number * 1_000_000 + 5_000_000),
        "attributes": [{"key": "http.request.method", "value": {"stringValue": "GET"}}],
        **fields,
    }


def request(*spans: dict[str, Any], region: str | None = None) -> bytes:
    attributes = [{"key": "service.name", "value": {"stringValue": "shop"}}]
    if region is not None:
        attributes.append({"key": "cloud.region", "value": {"stringValue": region}})
    resource = {"resource": {"attributes": attributes}, "scopeSpans": [{"spans": list(spans)}]}
    return json.dumps({"resourceSpans": [resource]}).encode() + b"\n"


GOOD = request(span(0), span(1))

# name, content, line, problem
BAD: list[tuple[str, bytes, int | None, str]] = [
    ("truncated gzip", gzip.compress(b"".join(request(span(i)) for i in range(4000)))[:-900], 1, "cut off after line"),
    ("truncated zstd", zstandard.compress(GOOD * 3)[:-5], None, "cut off"),
    ("a line that is not JSON", GOOD + b"{not json}\n", 2, "is not JSON"),
    ("a file of another kind", b"\x89PNG\r\n\x1a\n" + bytes(64), None, "another kind"),
    ("a table", b"metric_name,timestamp,metric_value\n", 1, "no OTLP file"),
    ("an empty file", b"", None, "is empty"),
    ("an empty gzip", gzip.compress(b""), None, "is empty"),
    ("no spans", b'{"resourceSpans":[]}\n', 1, "holds no spans"),
    ("a negative duration", GOOD + GOOD + request(span(2, endTimeUnixNano=str(START))), 3, "negative duration"),
    ("the year 1999", GOOD + request(span(2, startTimeUnixNano="946684799999999999")), 2, "before the year 2000"),
    ("no start", GOOD + request(span(2, startTimeUnixNano=None)), 2, "before the year 2000"),
    ("the year 2262", GOOD + request(span(2, startTimeUnixNano="9223372036854775806", endTimeUnixNano="9223372036854775807")), 2, "year 2262"),
    ("a short trace id", GOOD + request(span(2, traceId="ab")), 2, "trace id is 16 bytes"),
    ("a trace id of zeros", GOOD + request(span(2, traceId="0" * 32)), 2, "trace id is 16 bytes"),
    ("no span id", GOOD + request(span(2, spanId="")), 2, "span id is 8 bytes"),
    ("a long parent id", GOOD + request(span(2, parentSpanId="0" * 32)), 2, "parent span id is 8 bytes"),
    ("a base64 id", GOOD + request(span(2, spanId="7uGbfsPBsXQ=")), 2, "spanId is not hexadecimal"),
    ("a region of another zone", GOOD + request(span(2), region="us-east-1"), 2, "import these spans with --region us-east-1"),
    ("a region of no zone", GOOD + request(span(2), region="mars-north-1"), 2, "which no zone"),
    ("logs", b'{"resourceLogs":[]}\n', 1, "OTLP logs"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "line", "problem"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
def test_bad_input_names_file_and_line(
    tmp_path: Path, content: bytes, line: int | None, problem: str
) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(GOOD)
    bad.write_bytes(content)
    # Neither broker nor store is there: a good file would get as far as to miss them.
    with pytest.raises(UsageError) as caught:
        import_spans(NOWHERE, [good, bad], region="eu-west-1")
    assert caught.value.exit_code == 2
    assert problem in str(caught.value)
    assert caught.value.file == str(bad)
    if "gzip" not in problem and line is not None and "cut off" not in problem:
        assert caught.value.line == line


def test_an_unknown_region_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="eu-west-1, eu-central-1, us-east-1"):
        import_spans(NOWHERE, [BOUTIQUE], region="eu-west-2")


# ---------------------------------------------------------------------------- with live engines


def zones_of(zone: Zone) -> Zones:
    return Zones({zone.name: zone}, None, "zones.toml")


@contextmanager
def working(zone: Zone) -> Iterator[None]:
    stop = threading.Event()
    worker = threading.Thread(target=run_worker, args=(zone, stop))
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join(30)


@contextmanager
def store_of(zone: Zone) -> Iterator[Client]:
    client = connect(zone, Purpose.ANALYSIS)
    try:
        yield client
    finally:
        client.close()


def messages(zone: Zone) -> int:
    return sum(end_offsets(zone, zone.spans_topic, (0, 1)).values())


def stored_ids(zone: Zone) -> Counter[str]:
    with store_of(zone) as client:
        return Counter(
            row[0] for row in client.query("SELECT lower(hex(span_id)) FROM spans").result_rows
        )


def many(count: int) -> tuple[bytes, Counter[str]]:
    lines = [request(*(span(i) for i in range(a, min(a + 90, count)))) for a in range(0, count, 90)]
    return b"".join(lines), Counter(f"{i + 1:016x}" for i in range(count))


@pytest.mark.kafka
@pytest.mark.store
def test_bad_input_leaves_topic_and_store_as_they_were(
    zone_factory: ZoneFactory, tmp_path: Path
) -> None:
    zone = zone_factory()
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(GOOD)
    bad.write_bytes(GOOD + request(span(7), region="us-east-1"))
    with pytest.raises(UsageError):
        import_spans(zones_of(zone), [good, bad], region="eu-west-1")
    assert messages(zone) == 0
    with store_of(zone) as client:
        assert client.query("SELECT count() FROM span_imports").result_rows == [(0,)]


@pytest.mark.kafka
@pytest.mark.store
def test_a_publish_that_was_cut_off_is_completed_and_not_doubled(
    zone_factory: ZoneFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = zone_factory()
    path = tmp_path / "spans.jsonl"
    content, wanted = many(10_000)
    path.write_bytes(content)
    publish = SpanTopic.publish

    def cut_off(
        self: SpanTopic,
        digest: str,
        items: Iterable[tuple[int, int, bytes]],
        told: Callable[[int, int, Position], None],
    ) -> None:
        # Some of them only, and not the first ones: what a process that dies leaves behind.
        publish(self, digest, (item for item in items if item[0] % 3 == 1), told)
        raise KeyboardInterrupt

    monkeypatch.setattr(SpanTopic, "publish", cut_off)
    with pytest.raises(KeyboardInterrupt):
        import_spans(zones_of(zone), [path], region="eu-west-1")
    partly = messages(zone)
    assert 0 < partly < 20
    monkeypatch.setattr(SpanTopic, "publish", publish)
    with pytest.raises(UsageError, match="complete it with --region eu-west-1"):
        import_spans(zones_of(zone), [path], region="eu-central-1")
    with working(zone):
        result = import_spans(
            zones_of(zone), [path], region="eu-west-1", wait=True, wait_seconds=60
        )
    assert messages(zone) == 20
    assert 0 < result.published < result.spans == 10_000
    assert stored_ids(zone) == wanted


@pytest.mark.kafka
@pytest.mark.store
def test_a_cut_off_publish_into_a_topic_that_is_no_more_is_completed_from_the_store(
    zone_factory: ZoneFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, address = start_broker()
    try:
        zone = zone_factory(topics=False)
        first = replace(zone, kafka=(address,))
        ensure_topics(first)
        ensure_topics(zone)
        path = tmp_path / "spans.jsonl"
        content, wanted = many(5_000)
        path.write_bytes(content)
        publish = SpanTopic.publish

        def cut_off(self: SpanTopic, digest: str, items: Any, told: Any) -> None:
            publish(self, digest, (item for item in items if item[0] < 4), told)
            raise KeyboardInterrupt

        monkeypatch.setattr(SpanTopic, "publish", cut_off)
        with working(first):
            with pytest.raises(KeyboardInterrupt):
                import_spans(zones_of(first), [path], region="eu-west-1")
            deadline = time.monotonic() + 30
            while sum(stored_ids(zone).values()) < 4 * 512 and time.monotonic() < deadline:
                time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()
    monkeypatch.setattr(SpanTopic, "publish", publish)
    with working(zone):
        result = import_spans(
            zones_of(zone), [path], region="eu-west-1", wait=True, wait_seconds=60
        )
    assert result.published == 5_000 - 4 * 512
    assert stored_ids(zone) == wanted


@pytest.mark.kafka
@pytest.mark.store
def test_without_a_worker_waiting_ends_with_what_to_do(
    zone_factory: ZoneFactory, tmp_path: Path
) -> None:
    zone = zone_factory()
    (tmp_path / "spans.jsonl").write_bytes(GOOD)
    with pytest.raises(DependencyError, match=f"mobius-rum ingest --zone {zone.name}"):
        import_spans(
            zones_of(zone),
            [tmp_path / "spans.jsonl"],
            region="eu-west-1",
            wait=True,
            wait_seconds=0.5,
        )
    # It was published all the same, so the same command again only waits.
    with working(zone):
        again = import_spans(
            zones_of(zone),
            [tmp_path / "spans.jsonl"],
            region="eu-west-1",
            wait=True,
            wait_seconds=60,
        )
    assert (again.published, len(again.already_imported)) == (0, 1)
    assert stored_ids(zone) == Counter({f"{1:016x}": 1, f"{2:016x}": 1})


@pytest.mark.kafka
@pytest.mark.store
def test_regions_are_filled_where_missing_and_never_overridden(
    zone_factory: ZoneFactory, tmp_path: Path
) -> None:
    zone = zone_factory()
    (tmp_path / "spans.jsonl").write_bytes(
        request(span(0)) + request(span(1), region="eu-central-1") + request(span(2), region="")
    )
    with working(zone):
        import_spans(
            zones_of(zone),
            [tmp_path / "spans.jsonl"],
            region="eu-west-1",
            wait=True,
            wait_seconds=60,
        )
    with store_of(zone) as client:
        rows = client.query("SELECT lower(hex(span_id)), region FROM spans ORDER BY 1").result_rows
    assert [region for _, region in rows] == ["eu-west-1", "eu-central-1", "eu-west-1"]


# ---------------------------------------------------------------------------- the command


@contextmanager
def worker_process(zone: Zone, config: str) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "mobius_infra.cli",
        "ingest",
        "--zone",
        zone.name,
        "--config",
        config,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def run_command(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["mobius-rum", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.mark.kafka
@pytest.mark.store
@pytest.mark.system
def test_online_boutique_arrives_whole_with_exact_quantiles(
    zone_factory: ZoneFactory,
    zones_file_factory: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    eu, us = zone_factory("eu"), zone_factory("us", ("us-east-1",))
    config = str(zones_file_factory(eu, us))
    command = [
        "import",
        "spans",
        str(BOUTIQUE),
        "--region",
        "eu-west-1",
        "--wait",
        "--json",
        "--config",
        config,
    ]
    with worker_process(eu, config):
        assert run_command(*command) == 0
        first = json.loads(capsys.readouterr().out)
        assert run_command(*command) == 0
        second = json.loads(capsys.readouterr().out)
    assert {k: v for k, v in first.items() if k != "seconds"} == {
        "files": 1, "spans": 110_649, "published": 110_649, "rejected": 0, "zone": eu.name, "region": "eu-west-1",
        "distinct_span_ids": 109_943, "repeated_span_ids": 706, "already_imported": [],
    }  # fmt: skip
    assert (second["published"], second["already_imported"]) == (0, [str(BOUTIQUE)])
    durations, ids = exact_boutique()
    assert stored_ids(us) == Counter()
    assert stored_ids(eu) == ids
    with store_of(eu) as client:
        counts = (
            "SELECT count(), uniqExact(span_id), uniqExact(trace_id), uniqExact(region) FROM spans"
        )
        assert client.query(counts).result_rows == [(110_649, 109_943, 2_984, 1)]
        cells = client.query(
            "SELECT service, method, route, sum(requests), sumMap(buckets) FROM latency_minute "
            "WHERE source = 'real' AND vantage = 'server' GROUP BY service, method, route"
        ).result_rows
    rolled = {(s, m, r): (int(n), dict(buckets)) for s, m, r, n, buckets in cells}
    assert {key: n for key, (n, _) in rolled.items()} == {
        key: len(v) for key, v in durations.items()
    }
    checked = 0
    for key, values in durations.items():
        if len(values) >= 100:
            for share in (0.5, 0.95, 0.99):
                exact = type_7(sorted(values), share)
                assert abs(rolled_quantile(rolled[key][1], share) / exact - 1) <= 0.011, (
                    key,
                    share,
                )
                checked += 1
    assert checked >= 30


def exact_boutique() -> tuple[dict[tuple[str, str, str], list[float]], Counter[str]]:
    """Durations in seconds of server spans by service and endpoint, and every span id, from the file alone."""
    durations: dict[tuple[str, str, str], list[float]] = {}
    ids: Counter[str] = Counter()
    with gzip.open(BOUTIQUE) as file:
        for line in file:
            for resource in json.loads(line)["resourceSpans"]:
                names = {
                    a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]
                }
                for item in (s for scope in resource["scopeSpans"] for s in scope["spans"]):
                    ids[item["spanId"]] += 1
                    if item["kind"] == 2:
                        rpc = {a["key"]: a["value"]["stringValue"] for a in item["attributes"]}
                        key = (
                            names["service.name"],
                            "grpc",
                            f"{rpc['rpc.service']}/{rpc['rpc.method']}",
                        )
                        nanoseconds = int(item["endTimeUnixNano"]) - int(item["startTimeUnixNano"])
                        durations.setdefault(key, []).append(nanoseconds / 1e9)
    return durations, ids


def type_7(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def rolled_quantile(buckets: dict[int, float], share: float) -> float:
    """Type 7 over bucket mid points: bucket i holds 2^(i/32) < s <= 2^((i+1)/32)."""
    base = 2 ** (1 / 32)
    ordered: list[float] = []
    for index in sorted(buckets):
        ordered += [2 * base ** (index + 1) / (1 + base)] * round(buckets[index])
    return type_7(ordered, share)


def test_the_command_exits_with_2_and_names_file_and_line(
    tmp_path: Path, zones_file_factory: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(GOOD + b"oops\n")
    config = str(zones_file_factory(*NOWHERE))
    assert (
        run_command("import", "spans", str(bad), "--region", "eu-west-1", "--config", config) == 2
    )
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{bad}, line 2: is not JSON" in shown.err.replace("\n", " ")


def test_a_broker_that_is_away_is_named_with_how_to_start_it(
    tmp_path: Path, zones_file_factory: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.jsonl").write_bytes(GOOD)
    command = ["import", "spans", str(tmp_path / "good.jsonl"), "--region", "eu-west-1"]
    assert run_command(*command, "--config", str(zones_file_factory(*NOWHERE))) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "broker of zone eu at 127.0.0.1:1" in shown.err
    assert "mobius-rum up" in shown.err
