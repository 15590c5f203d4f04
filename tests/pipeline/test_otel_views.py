"""The views by the Collector's names answer what Grafana's ClickHouse plugin and HyperDX ask."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from clickhouse_connect.driver.client import Client
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from mobius_infra.benchmarks.storage import COLLECTOR_TABLE
from mobius_instrumentation.zones import Zone
from mobius_pipeline.migrate import migrate
from mobius_pipeline.migration_files import Target, load_migrations
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, envelope
from tests.pipeline.otlp import SECOND, key_value, make_message, make_resource, make_span

pytestmark = pytest.mark.store

TRACE: Final = bytes.fromhex("ab" * 16)
OTHER: Final = bytes.fromhex("0c" * 16)
ROOT, CALL, INNER, LONE = (bytes([number] * 8) for number in (1, 0xA2, 3, 4))
START: Final = (time.time_ns() // SECOND - 600) * SECOND + 123_456_789
WINDOW: Final = "Timestamp >= fromUnixTimestamp64Milli({since:Int64}) AND Timestamp <= fromUnixTimestamp64Milli({until:Int64})"
TIMES: Final = {"since": START // 1_000_000 - 60_000, "until": START // 1_000_000 + 60_000}
# What differs from the Collector's table, and why.
DIFFERENCES: Final = {
    "Timestamp": ("DateTime64(9)", "DateTime64(9, 'UTC')"),  # text means UTC, on any server
    "Events.Timestamp": ("Array(DateTime64(9))", "Array(DateTime64(9, 'UTC'))"),
    "SampleRate": (None, "UInt64"),  # how many spans this one stands for; HyperDX weighs with it
}


@pytest.fixture(scope="module")
def client(store_server: str) -> Iterator[Client]:
    """Two traces: shop calls catalog, which fails; and a lone span of the shop, one of four sampled."""
    name = f"rum_otel_{os.urandom(4).hex()}"
    zone = Zone("otel", ("eu-west-1",), ("127.0.0.1:1",), store_server, name)
    migrate(zone)
    opened = connect(zone, Purpose.INGEST)
    store(opened, "first")
    yield opened
    opened.command(f"DROP DATABASE {name} SYNC")
    opened.close()


def store(client: Client, token: str) -> None:
    root = make_span(
        trace_id=TRACE,
        span_id=ROOT,
        start_ns=START,
        duration_ns=50_000_000,
        attributes={"mobius.test.run": "r1", "user.tier": "gold"},
        events=[
            Span.Event(
                time_unix_nano=START + 7, name="cache.miss", attributes=[key_value("key", "k1")]
            )
        ],
        links=[Span.Link(trace_id=OTHER, span_id=LONE, attributes=[key_value("why", "retry")])],
    )
    call = make_span(
        trace_id=TRACE,
        span_id=CALL,
        parent_span_id=ROOT,
        start_ns=START + 1_000_000,
        name="Catalog/List",
        kind=Span.SPAN_KIND_CLIENT,
        attributes={
            "http.request.method": None,
            "http.route": None,
            "http.response.status_code": None,
            "rpc.system": "grpc",
            "rpc.service": "Catalog",
            "rpc.method": "List",
        },
    )
    inner = make_span(
        trace_id=TRACE,
        span_id=INNER,
        parent_span_id=CALL,
        start_ns=START + 2 * SECOND,
        name="/items",
        attributes={"http.route": "/items", "http.response.status_code": 500},
        status=Status(code=Status.STATUS_CODE_ERROR, message="no"),
    )
    lone = make_span(
        trace_id=OTHER,
        span_id=LONE,
        start_ns=START + SECOND,
        name="tick",
        kind=Span.SPAN_KIND_INTERNAL,
        trace_state="ot=th:c",
        status=Status(code=Status.STATUS_CODE_OK),
        attributes={
            "http.request.method": None,
            "http.route": None,
            "http.response.status_code": None,
        },
    )
    message = make_message(
        make_resource(
            [root, call, lone], ours=False, **{"service.instance.id": "shop-0", "host.name": "h"}
        ),
        make_resource([inner], service="catalog", ours=False),
    )
    client.raw_insert(
        TABLE,
        insert_block=envelope([(message, 0, 0)]),
        fmt="Protobuf",
        settings={**INSERT_SETTINGS, "insert_deduplication_token": token},
    )


def rows(client: Client, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(query, parameters=parameters).result_rows]


def test_the_columns_are_those_of_the_collectors_table(client: Client) -> None:
    client.command(COLLECTOR_TABLE)
    try:
        theirs = {row[0]: row[1] for row in rows(client, "DESCRIBE collector_traces")}
    finally:
        client.command("DROP TABLE collector_traces SYNC")
    ours = {row[0]: row[1] for row in rows(client, "DESCRIBE otel_traces")}
    differing = {
        name: (theirs.get(name), ours.get(name))
        for name in theirs | ours
        if theirs.get(name) != ours.get(name)
    }
    assert differing == DIFFERENCES
    assert list(ours) == [*theirs, "SampleRate"]
    assert rows(client, "SELECT name, type FROM system.columns WHERE database = currentDatabase() "
                        "AND table = 'otel_traces_trace_id_ts' ORDER BY position") == [
        ("TraceId", "String"), ("Start", "DateTime('UTC')"), ("End", "DateTime('UTC')"),
    ]  # fmt: skip


def test_each_span_says_what_it_said(client: Client) -> None:
    resource = {"service.version": "1.4.0", "deployment.environment.name": "production", "cloud.region": "eu-west-1"}  # fmt: skip
    shop = {**resource, "service.name": "shop", "service.instance.id": "shop-0", "host.name": "h"}
    found = {
        row[0]: row[1:]
        for row in rows(
            client,
            "SELECT SpanId, TraceId, ParentSpanId, SpanName, SpanKind, ServiceName, ResourceAttributes, SpanAttributes, "
            "Duration, StatusCode, StatusMessage, toUnixTimestamp64Nano(Timestamp), TraceState, ScopeName, SampleRate "
            "FROM otel_traces",
        )
    }
    trace, other = TRACE.hex(), OTHER.hex()
    assert found == {
        ROOT.hex(): (
            trace, "", "GET /orders/{order_id}", "Server", "shop", shop,
            {"http.request.method": "GET", "http.route": "/orders/{order_id}", "http.response.status_code": "200",
             "mobius.test.run": "r1", "user.tier": "gold"},
            50_000_000, "Unset", "", START, "", "tests", 1,
        ),
        CALL.hex(): (
            trace, ROOT.hex(), "Catalog/List", "Client", "shop", shop,
            {"rpc.system": "grpc", "rpc.service": "Catalog", "rpc.method": "List"},
            25_000_000, "Unset", "", START + 1_000_000, "", "tests", 1,
        ),
        INNER.hex(): (
            trace, CALL.hex(), "/items", "Server", "catalog", {**resource, "service.name": "catalog"},
            {"http.request.method": "GET", "http.route": "/items", "http.response.status_code": "500"},
            25_000_000, "Error", "no", START + 2 * SECOND, "", "tests", 1,
        ),
        LONE.hex(): (
            other, "", "tick", "Internal", "shop", shop, {},
            25_000_000, "Ok", "", START + SECOND, "ot=th:c", "tests", 4,
        ),
    }  # fmt: skip


def test_a_repeated_batch_changes_no_trace_times(client: Client) -> None:
    query = "SELECT TraceId, toUnixTimestamp(min(Start)), toUnixTimestamp(max(End)) FROM otel_traces_trace_id_ts GROUP BY TraceId ORDER BY TraceId"
    second = START // SECOND
    expected = [(OTHER.hex(), second + 1, second + 1), (TRACE.hex(), second, second + 2)]
    assert rows(client, query) == expected
    before = rows(client, "SELECT count() FROM trace_times")
    store(client, "first")
    assert rows(client, "SELECT count() FROM trace_times") == before
    assert rows(client, query) == expected


def test_spans_of_before_the_migration_get_trace_times(client: Client) -> None:
    query = "SELECT trace_id, min(first), max(last) FROM trace_times GROUP BY trace_id ORDER BY trace_id"
    expected = rows(client, query)
    client.command("TRUNCATE TABLE trace_times SYNC")
    [[database]] = rows(client, "SELECT currentDatabase()")
    for statement in load_migrations("zone")[6].render(Target(database)):
        client.command(statement)
    assert rows(client, query) == expected
    assert len(expected) == 2


def test_spans_of_before_attributes_became_numbers_are_read_alike_and_stay_known(
    store_server: str, client: Client
) -> None:
    name = f"rum_otel_{os.urandom(4).hex()}"
    opened = connect(
        Zone("old", ("eu-west-1",), ("127.0.0.1:1",), store_server, "default"), Purpose.INGEST
    )
    opened.command(f"CREATE DATABASE {name}")
    opened.database = name
    migrations = load_migrations("zone")
    changed = next(number for number, one in enumerate(migrations) if one.name == "cheaper_spans")

    def read(of: Client) -> list[Any]:
        return [
            of.query(f"SELECT * FROM {table} ORDER BY ALL").result_rows
            for table in ("otel_traces", "spans", "otel_traces_trace_id_ts")
        ]

    for migration in migrations[:changed]:
        for statement in migration.render(Target(name)):
            opened.command(statement)
    store(opened, "first")
    before = read(opened)
    for migration in migrations[changed:]:
        for statement in migration.render(Target(name)):
            opened.command(statement)
    assert read(opened) == before == read(client)
    assert len(before[0]) == 4
    # The end of a batch that was begun before, repeated after.
    store(opened, "first")
    assert read(opened) == before
    store(opened, "second")
    assert len(read(opened)[0]) == 8
    opened.command(f"DROP DATABASE {name} SYNC")
    opened.close()


def test_a_trace_is_found_by_its_text_without_reading_all(client: Client) -> None:
    plan = "\n".join(
        row[0]
        for row in rows(
            client,
            "EXPLAIN indexes = 1 SELECT * FROM otel_traces WHERE TraceId = {trace:String}",
            trace="f" * 32,
        )
    )
    skip = plan[plan.index("Name: by_trace_text") :]
    assert "Granules: 0/" in skip, plan
    plan = "\n".join(
        row[0]
        for row in rows(
            client,
            "EXPLAIN indexes = 1 SELECT min(Start) FROM otel_traces_trace_id_ts WHERE TraceId = {trace:String}",
            trace=TRACE.hex(),
        )
    )
    assert "Condition: (trace_id in ['abab" in plan
    plan = "\n".join(
        row[0]
        for row in rows(
            client,
            f"EXPLAIN indexes = 1 SELECT SpanName FROM otel_traces WHERE {WINDOW}",
            since=0,
            until=1000,
        )
    )
    assert "Parts: 0/" in plan


def test_grafana_trace_by_id(client: Client) -> None:
    tags = "arrayMap(k -> map('key', k, 'value', {0}[k]), mapKeys({0}))"
    query = f"""
        WITH {{trace:String}} AS wanted,
            (SELECT min(Start) FROM "otel_traces_trace_id_ts" WHERE TraceId = wanted) AS begun,
            (SELECT max(End) + 1 FROM "otel_traces_trace_id_ts" WHERE TraceId = wanted) AS ended
        SELECT "TraceId" AS traceID, "SpanId" AS spanID, "ParentSpanId" AS parentSpanID, "ServiceName" AS serviceName,
            "SpanName" AS operationName, multiply(toFloat64("Timestamp"), 1000) AS startTime,
            multiply("Duration", 0.000001) AS duration,
            {tags.format('"SpanAttributes"')} AS tags, {tags.format('"ResourceAttributes"')} AS serviceTags,
            if("StatusCode" IN ('Error', 'STATUS_CODE_ERROR'), 2, 0) AS statusCode,
            arrayMap((n, t, a) -> tuple(n, toString(toUnixTimestamp64Milli(t)),
                {tags.format("a")})::Tuple(name String, timestamp String, fields Array(Map(String, String))),
                "Events".Name, "Events".Timestamp, "Events".Attributes) AS logs,
            arrayMap((t, s, a) -> tuple(t, s, {tags.format("a")})::Tuple(traceID String, spanID String,
                tags Array(Map(String, String))), "Links".TraceId, "Links".SpanId, "Links".Attributes) AS references,
            "SpanKind" AS kind, "StatusMessage" AS statusMessage, "TraceState" AS traceState
        FROM "otel_traces"
        WHERE traceID = wanted AND "Timestamp" >= begun AND "Timestamp" <= ended
    """
    found = {
        row["spanID"]: row
        for row in client.query(query, parameters={"trace": TRACE.hex()}).named_results()
    }
    assert set(found) == {ROOT.hex(), CALL.hex(), INNER.hex()}
    root = found[ROOT.hex()]
    assert (root["parentSpanID"], root["kind"], root["duration"]) == ("", "Server", 50.0)
    assert root["startTime"] == pytest.approx(START / 1e6, abs=0.01)
    assert {"key": "http.route", "value": "/orders/{order_id}"} in root["tags"]
    assert {"key": "service.name", "value": "shop"} in root["serviceTags"]
    [log] = root["logs"]
    assert tuple(log.values()) == (
        "cache.miss",
        str(START // 1_000_000),
        [{"key": "key", "value": "k1"}],
    )
    [reference] = root["references"]
    assert tuple(reference.values()) == (
        OTHER.hex(),
        LONE.hex(),
        [{"key": "why", "value": "retry"}],
    )
    assert {span: row["statusCode"] for span, row in found.items()}[INNER.hex()] == 2
    unbounded = rows(
        client,
        'SELECT "SpanId" FROM otel_traces WHERE "TraceId" = {trace:String}',
        trace=TRACE.hex(),
    )  # fmt: skip
    assert {row[0] for row in unbounded} == set(found)


def test_grafana_search_lists_and_dashboards(client: Client) -> None:
    search = f"""SELECT "TraceId" AS traceID, "ServiceName" AS serviceName, "SpanName" AS operationName,
        "Timestamp" AS startTime, multiply("Duration", 0.000001) AS duration FROM "otel_traces"
        WHERE ( {WINDOW} ) AND ( ParentSpanId = '' ) AND ( Duration > 0 ) AND ( ServiceName = 'shop' )
        ORDER BY Timestamp DESC, Duration DESC LIMIT 100"""
    found = rows(client, search, **TIMES)
    assert [(row[0], row[2]) for row in found] == [
        (OTHER.hex(), "tick"),
        (TRACE.hex(), "GET /orders/{order_id}"),
    ]
    lists = f"SELECT DISTINCT {{column:Identifier}} FROM otel_traces WHERE {WINDOW} ORDER BY 1"
    assert rows(client, lists, column="ServiceName", **TIMES) == [("catalog",), ("shop",)]
    assert [row[0] for row in rows(client, lists, column="SpanName", **TIMES)] == [
        "/items", "Catalog/List", "GET /orders/{order_id}", "tick",
    ]  # fmt: skip
    edges = f"""SELECT p.ServiceName AS source, c.ServiceName AS target, count() FROM otel_traces AS c
        INNER JOIN otel_traces AS p ON c.ParentSpanId = p.SpanId AND c.TraceId = p.TraceId
        WHERE c.{WINDOW.replace("AND ", "AND c.")} AND p.ServiceName != c.ServiceName GROUP BY source, target"""
    assert rows(client, edges, **TIMES) == [("shop", "catalog", 1)]
    versions = f"""SELECT ServiceName, topK(1)(ResourceAttributes['service.version'])[1] FROM otel_traces
        WHERE {WINDOW} AND ResourceAttributes['service.version'] != '' GROUP BY ServiceName ORDER BY ServiceName"""
    assert rows(client, versions, **TIMES) == [("catalog", "1.4.0"), ("shop", "1.4.0")]


def test_hyperdx_recognises_searches_and_weighs(client: Client) -> None:
    columns = {
        row[0] for row in rows(client, "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'otel_traces'")
    }  # fmt: skip
    needed = "Timestamp SpanName Duration SpanKind TraceId SpanId ParentSpanId ServiceName SpanAttributes ResourceAttributes StatusCode StatusMessage Events.Timestamp Links.TraceId"
    assert set(needed.split()) <= columns
    search = f"""SELECT Timestamp, ServiceName AS service, StatusCode AS level, round(Duration / 1e6) AS duration, SpanName
        FROM otel_traces WHERE ({WINDOW}) AND (SpanAttributes['http.response.status_code'] = '500'
        AND lower(SpanName) LIKE lower('%ITEMS%')) ORDER BY Timestamp DESC LIMIT 200 OFFSET 0"""
    assert [row[1:] for row in rows(client, search, **TIMES)] == [
        ("catalog", "Error", 25.0, "/items")
    ]
    weight = f"SELECT ServiceName, sum(greatest(toUInt64OrZero(toString(SampleRate)), 1)) FROM otel_traces WHERE {WINDOW} GROUP BY ServiceName ORDER BY ServiceName"
    assert rows(client, weight, **TIMES) == [("catalog", 1), ("shop", 6)]
    waterfall = f"""SELECT SpanName AS Body, Timestamp, SpanId, ServiceName, Duration / 1e9 AS Duration, ParentSpanId,
        StatusCode, SpanAttributes, `Events.Timestamp` AS at, `Events.Name` AS named FROM otel_traces
        WHERE ({WINDOW}) AND (TraceId = {{trace:String}}) ORDER BY Timestamp LIMIT 50000"""
    found = rows(client, waterfall, trace=TRACE.hex(), **TIMES)
    assert [(row[2], row[5]) for row in found] == [
        (ROOT.hex(), ""),
        (CALL.hex(), ROOT.hex()),
        (INNER.hex(), CALL.hex()),
    ]


@pytest.mark.parametrize("every", [1, 3])
def test_hyperdx_service_map(client: Client, every: int) -> None:
    part = f"""SELECT TraceId AS traceId, SpanId AS spanId, ServiceName AS serviceName, ParentSpanId AS parentSpanId,
        StatusCode AS statusCode, Duration AS duration FROM otel_traces
        WHERE ({WINDOW}) AND (cityHash64(TraceId) % {every} = 0) AND SpanKind IN """
    query = f"""WITH S AS ({part} ('Server', 'Consumer', 'SPAN_KIND_SERVER', 'SPAN_KIND_CONSUMER')),
            C AS ({part} ('Client', 'Producer', 'SPAN_KIND_CLIENT', 'SPAN_KIND_PRODUCER'))
        SELECT S.serviceName AS server, C.serviceName AS client, GROUPING(C.serviceName) AS node,
            count(*) * {every} AS requests, countIf(S.statusCode = 'Error') * {every} AS errors,
            quantiles(0.5, 0.95, 0.99)(S.duration) AS q
        FROM S LEFT JOIN C ON S.traceId = C.traceId AND S.parentSpanId = C.spanId
        WHERE (C.serviceName IS NULL OR S.serviceName != C.serviceName)
        GROUP BY GROUPING SETS ((S.serviceName, C.serviceName), (S.serviceName))
        ORDER BY server, node, client"""
    [[kept]] = rows(client, "SELECT cityHash64({trace:String}) % {every:UInt8} = 0", trace=TRACE.hex(), every=every)  # fmt: skip
    found = [(row[0], row[1], row[3], row[4]) for row in rows(client, query, **TIMES)]
    expected = [
        ("catalog", "shop", every, every), ("catalog", "", every, every),
        ("shop", "", every, 0), ("shop", "", every, 0),
    ]  # fmt: skip
    assert found == (expected if kept else [])
