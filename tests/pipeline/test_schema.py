"""What the engine makes of a message: typed spans, rollup, quarantine; and that a repetition changes nothing."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from mobius_instrumentation.zones import Zone
from mobius_pipeline.migrate import migrate
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, envelope
from tests.pipeline.otlp import SECOND, key_value, make_message, make_resource, make_span

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def zone(store_server: str) -> Iterator[Zone]:
    """One database for all tests here: making one takes a second."""
    made = Zone(
        "schema",
        ("eu-west-1",),
        ("127.0.0.1:1",),
        store_server,
        f"rum_schema_{os.urandom(4).hex()}",
    )
    migrate(made)
    yield made
    connect(made, Purpose.MIGRATE, database="default").command(
        f"DROP DATABASE {made.database} SYNC"
    )


@pytest.fixture
def client(zone: Zone) -> Client:
    opened = connect(zone, Purpose.INGEST)
    for table in ("spans", "latency_minute", "quarantine"):
        opened.command(f"TRUNCATE TABLE {table} SYNC")
    return opened


def insert(
    client: Client,
    messages: Iterable[bytes],
    token: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    body = envelope((message, 1, 100 + index) for index, message in enumerate(messages))
    chosen = {
        **INSERT_SETTINGS,
        "insert_deduplication_token": token or os.urandom(8).hex(),
        **(settings or {}),
    }
    client.raw_insert(TABLE, insert_block=body, fmt="Protobuf", settings=chosen)


def insert_spans(client: Client, *spans: Span, **resource: Any) -> None:
    insert(client, [make_message(make_resource(spans, ours=False, **resource))])


def rows(client: Client, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(query, parameters=parameters).result_rows]


def test_a_span_arrives_with_all_that_it_says(client: Client) -> None:
    trace, span_id, parent = os.urandom(16), os.urandom(8), os.urandom(8)
    start = time.time_ns() - SECOND
    span = make_span(
        trace_id=trace,
        span_id=span_id,
        parent_span_id=parent,
        start_ns=start,
        duration_ns=123_456_789,
        attributes={"b": True, "i": -5, "f": 0.5, "y": b"\x00\xff", "empty": "", "s": "ü'\\\n"},
        status=Status(code=Status.STATUS_CODE_ERROR, message="no"),
        events=[
            Span.Event(
                time_unix_nano=start + 5,
                name="exception",
                attributes=[key_value("exception.type", "E")],
            )
        ],
        links=[Span.Link(trace_id=trace, span_id=parent, attributes=[key_value("k", "v")])],
    )
    insert_spans(client, span, extra="resource attribute")
    (found,) = client.query(
        "SELECT *, toUnixTimestamp64Nano(start) AS start_ns, `events.time`[1] AS event_time FROM spans"
    ).named_results()
    assert found["start_ns"] == start
    assert found["duration_ns"] == 123_456_789
    assert (found["trace_id"], found["span_id"], found["parent_span_id"]) == (
        trace,
        span_id,
        parent,
    )
    assert (found["kind"], found["status_code"], found["status_message"]) == (
        "Server",
        "Error",
        "no",
    )
    assert (found["region"], found["service"], found["version"]) == ("eu-west-1", "shop", "1.4.0")
    assert (found["method"], found["route"], found["http_status"]) == (
        "GET",
        "/orders/{order_id}",
        200,
    )
    assert found["attributes"] == {
        "b": "true",
        "i": "-5",
        "f": "0.5",
        "y": "AP8=",
        "empty": "",
        "s": "ü'\\\n",
    }
    assert found["resource_attributes"] == {"extra": "resource attribute"}
    assert found["events.name"] == ["exception"]
    assert found["events.attributes"] == [{"exception.type": "E"}]
    assert found["links.attributes"] == [{"k": "v"}]
    assert (found["kafka_partition"], found["kafka_offset"]) == (1, 100)
    assert (found["source"], found["weight"]) == ("real", 1.0)


@pytest.mark.parametrize(
    ("state", "weight"),
    [
        ("", 1.0),
        ("ot=th:0", 1.0),
        ("ot=th:8", 2.0),
        ("ot=th:c", 4.0),
        ("ot=th:fff", 4096.0),
        ("ot=th:ffffffffffffff", 2.0**56),
        ("ot=rv:abcdef01234567;th:8", 2.0),
        ("ot=th:8;rv:abcdef01234567", 2.0),
        ("vendor=x, ot=th:8", 2.0),
        ("ot=th:8,vendor=x", 2.0),
        # Not OpenTelemetry's, or damaged: the span stands for itself.
        ("vendor=th:8", 1.0),
        ("foot=th:8", 1.0),
        ("ot=xth:8", 1.0),
        ("ot=th:XY", 1.0),
        ("ot=th:123456789abcdef0", 1.0),
        ("ot=th:", 1.0),
    ],
)
def test_sampling_weight(client: Client, state: str, weight: float) -> None:
    insert_spans(client, make_span(trace_state=state))
    assert rows(client, "SELECT weight FROM spans") == [(weight,)]
    assert rows(client, "SELECT requests, weight, weight_squared FROM latency_minute") == [
        (1, weight, weight * weight)
    ]
    squared = {} if weight == 1 else {next(iter(bucket(client))): weight * weight}
    assert rows(client, "SELECT buckets_squared FROM latency_minute") == [(squared,)]


def bucket(client: Client) -> dict[int, float]:
    return dict(rows(client, "SELECT buckets FROM latency_minute")[0][0])


@pytest.mark.parametrize("nanoseconds", [0, 1, 999, 1_000_000, 25_000_000, SECOND, 3_600 * SECOND])
def test_bucket_holds_its_latency(client: Client, nanoseconds: int) -> None:
    insert_spans(client, make_span(duration_ns=nanoseconds))
    (index,) = bucket(client)
    seconds = max(nanoseconds, 1) / SECOND
    assert 2 ** (index / 32) < seconds * (1 + 1e-12)
    assert seconds <= 2 ** ((index + 1) / 32) * (1 + 1e-12)
    assert index == math.ceil(round(math.log2(seconds) * 32, 9)) - 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"attributes": {"http.response.status_code": 404}}, ("4xx", 1, 0)),
        ({"attributes": {"http.response.status_code": 500}}, ("5xx", 1, 1)),
        (
            {"attributes": {"http.response.status_code": None, "http.status_code": "503"}},
            ("5xx", 1, 1),
        ),
        (
            {
                "attributes": {"http.response.status_code": None},
                "status": Status(code=Status.STATUS_CODE_ERROR),
            },
            ("error", 1, 1),
        ),
        ({"attributes": {"http.response.status_code": None}}, ("ok", 1, 0)),
        ({"attributes": {"http.response.status_code": "many"}}, ("ok", 1, 0)),
        (
            {
                "attributes": {"http.response.status_code": 200},
                "status": Status(code=Status.STATUS_CODE_ERROR),
            },
            ("2xx", 1, 1),
        ),
    ],
)
def test_status_class_and_errors(
    client: Client, fields: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    insert_spans(client, make_span(**fields))
    assert rows(client, "SELECT status_class, requests, errors FROM latency_minute") == [expected]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ("real", "")),
        ({"user_agent.synthetic.type": "test"}, ("suspected", "")),
        ({"user_agent.synthetic.type": "test", "mobius.test.run": "r1"}, ("synthetic", "r1")),
    ],
)
def test_source(client: Client, attributes: dict[str, str], expected: tuple[str, str]) -> None:
    insert_spans(client, make_span(attributes=attributes))
    assert rows(client, "SELECT source, test_run FROM latency_minute") == [expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"attributes": {"http.request.method": None, "http.method": "POST"}},
            ("POST", "/orders/{order_id}"),
        ),
        (
            {
                "name": "oteldemo.Cart/Get",
                "attributes": {
                    "http.request.method": None,
                    "http.route": None,
                    "rpc.system": "grpc",
                    "rpc.service": "oteldemo.Cart",
                    "rpc.method": "Get",
                },
            },
            ("grpc", "oteldemo.Cart/Get"),
        ),
        (
            {
                "name": "orders process",
                "kind": Span.SPAN_KIND_CONSUMER,
                "attributes": {
                    "http.request.method": None,
                    "http.route": None,
                    "messaging.system": "kafka",
                },
            },
            ("kafka", "orders process"),
        ),
    ],
)
def test_endpoint(client: Client, fields: dict[str, Any], expected: tuple[str, str]) -> None:
    insert_spans(client, make_span(**fields))
    assert rows(client, "SELECT method, route FROM latency_minute") == [expected]


@pytest.mark.parametrize("kind", ["CLIENT", "INTERNAL", "PRODUCER", "UNSPECIFIED"])
def test_only_server_and_consumer_spans_are_requests(client: Client, kind: str) -> None:
    insert_spans(client, make_span(kind=Span.SpanKind.Value(f"SPAN_KIND_{kind}")))
    assert rows(client, "SELECT count() FROM spans") == [(1,)]
    assert rows(client, "SELECT count() FROM latency_minute") == [(0,)]


YEAR_2262 = 9_223_372_036_854_775_807


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"duration_ns": -1}, "negative duration"),
        ({"start_ns": YEAR_2262, "duration_ns": 0}, "ends more than two days ahead"),
        ({"start_ns": 2**64 - 2, "duration_ns": 1}, "ends more than two days ahead"),
        ({"start_ns": 0, "duration_ns": SECOND}, "starts before the year 2000"),
        ({"trace_id": b"\x01" * 15}, "trace id is not 16 bytes"),
        ({"trace_id": b"\x01" * 17}, "trace id is not 16 bytes"),
        ({"trace_id": b"\x00" * 16}, "trace id is not 16 bytes"),
        ({"trace_id": b""}, "trace id is not 16 bytes"),
        ({"span_id": b"\x01" * 7}, "span id is not 8 bytes"),
        ({"span_id": b"\x00" * 8}, "span id is not 8 bytes"),
        ({"parent_span_id": b"\x01" * 3}, "parent span id is not 8 bytes"),
    ],
)
def test_impossible_span_is_quarantined_and_its_neighbours_are_not(
    client: Client, fields: dict[str, Any], reason: str
) -> None:
    good = make_span()
    insert_spans(client, make_span(**fields), good)
    assert rows(
        client, "SELECT reason, region, service, spans, partition, offset FROM quarantine"
    ) == [(reason, "eu-west-1", "shop", 1, 1, 100)]
    assert rows(client, "SELECT span_id FROM spans") == [(good.span_id,)]
    assert rows(client, "SELECT sum(requests) FROM latency_minute") == [(1,)]


def test_what_instrumentation_may_send_but_should_not(client: Client) -> None:
    odd = make_span(kind=9, status=Status(code=7))  # type: ignore[arg-type]  # numbers that no version defines
    odd.attributes.append(key_value("twice", "first"))
    odd.attributes.append(key_value("twice", "second"))
    odd.attributes.add().key = "without a value"
    odd.attributes.add().key = "a list"
    odd.attributes[-1].value.array_value.values.add().string_value = "x"
    odd.events.add(time_unix_nano=2**64 - 1, name="")
    odd.links.add(trace_id=b"short", span_id=b"")
    insert(
        client,
        [make_message(make_resource([odd])), b"", make_message(), make_message(make_resource([]))],
    )
    ((kind, status, attributes),) = rows(client, "SELECT kind, status_code, attributes FROM spans")
    assert (kind, status) == ("Unspecified", "Unset")
    assert attributes["without a value"] == attributes["a list"] == ""
    assert attributes["twice"] in {"first", "second"}


def test_more_values_than_a_dictionary_holds_are_all_kept(client: Client) -> None:
    """A dictionary of a part holds 8,192 values; the rest is kept beside it."""
    spans = [make_span(attributes={"number": f"value {number}"}) for number in range(20_000)]
    insert_spans(client, *spans)
    client.command("OPTIMIZE TABLE spans FINAL")
    stored = rows(client, "SELECT span_id, attributes['number'] FROM spans")
    assert dict(stored) == {span.span_id: f"value {number}" for number, span in enumerate(spans)}


def test_spans_of_many_days_go_in_together(client: Client) -> None:
    day = 86_400 * SECOND
    spans = [make_span(start_ns=time.time_ns() - number * day - SECOND) for number in range(150)]
    insert_spans(client, *spans)
    assert rows(client, "SELECT uniqExact(span_id), uniqExact(toDate(start)) FROM spans") == [
        (150, 150)
    ]


SMALL_BLOCKS = {
    "max_block_size": 10,
    "max_insert_block_size": 10,
    "min_insert_block_size_rows": 10,
    "min_insert_block_size_bytes": 1,
}


@pytest.mark.parametrize("settings", [{}, SMALL_BLOCKS], ids=["one block", "many blocks"])
def test_repetition_of_a_batch_changes_nothing(client: Client, settings: dict[str, int]) -> None:
    batch = [
        make_message(
            make_resource(
                [make_span(), make_span(duration_ns=-5), make_span(trace_state="ot=th:c")]
            )
        )
        for _ in range(60)
    ]
    everything = (
        "SELECT (SELECT (count(), uniqExact(span_id)) FROM spans), "
        "(SELECT (sum(requests), sum(weight), sum(errors), sumMap(buckets), sumMap(buckets_squared)) FROM latency_minute), "
        "(SELECT (count(), uniqExact(payload)) FROM quarantine)"
    )
    insert(client, batch, "one", settings)
    before = rows(client, everything)
    (spans, rollup, quarantine) = before[0]
    assert spans == (120, 120)
    assert rollup[:2] == (120, 300.0)
    assert quarantine == (60, 60)
    insert(client, batch, "one", settings)
    assert rows(client, everything) == before
    insert(client, batch, "two", settings)
    assert rows(client, everything)[0][0] == (240, 120)


def test_repetition_completes_an_insert_that_was_cut_off(client: Client) -> None:
    """A kill between two targets leaves spans without rollup: repeating the batch writes what is missing only."""
    database = client.database
    batch = [
        make_message(make_resource([make_span(), make_span(duration_ns=-5)])) for _ in range(20)
    ]
    for view, table in (
        ("span_rows_to_latency_minute", "latency_minute"),
        ("span_rows_to_quarantine", "quarantine"),
    ):
        client.command(f"DETACH TABLE {database}.{view}")
        insert(client, batch, f"cut {table}")
        before = rows(client, f"SELECT count() FROM {table}")
        client.command(f"ATTACH TABLE {database}.{view}")
        insert(client, batch, f"cut {table}")
        assert rows(client, f"SELECT count() FROM {table}") > before
    assert rows(client, "SELECT count(), uniqExact(span_id) FROM spans") == [(40, 20)]
    assert rows(client, "SELECT sum(requests) FROM latency_minute") == [(40,)]
    assert rows(client, "SELECT count() FROM quarantine") == [(40,)]
