"""What a join makes of odd and hostile files and spans, in a real store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mobius_analysis.joined_load import load_network_shares
from mobius_analysis.rollup import Window, load_rollup
from mobius_pipeline.joining.join import join_run, take_back
from mobius_pipeline.joining.runs import find_run, is_refused, pending_runs, refuse, runs_between
from tests.pipeline.otlp import SECOND, make_resource, make_span
from tests.pipeline.spans_of_runs import requests_by_source, store_resources, store_zone

pytestmark = pytest.mark.store

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
NOW_NS = int(NOW.timestamp()) * SECOND
ROUTE = "/orders/{order_id}"


@pytest.fixture(scope="module")
def shared(store_server: str) -> Iterator[Client]:
    """One database for all tests here, which are told apart by their runs and services."""
    with store_zone(store_server) as (_, client):
        yield client


@pytest.fixture
def client(shared: Client) -> Client:
    for table in ("spans", "latency_minute", "synthetic_results", "synthetic_runs", "joined_spans"):
        shared.command(f"TRUNCATE TABLE {table} SYNC")
    return shared


def name(client: Client, run: str, *ids: str, **fields: Any) -> None:
    """A result for each id: GET, answered with 200 in 50 ms."""
    row = {"start": NOW, "duration_ms": 50.0, "requests": 1, "region": "eu-west-1", "service": "shop", "method": "GET",
           "route": ROUTE, "status": 200} | fields  # fmt: skip
    client.insert("synthetic_results", [[run, i, *row.values()] for i in ids], ["run", "trace_id", *row])  # fmt: skip


def serve(client: Client, trace_id: bytes, *, service: str = "shop", **fields: Any) -> bytes:
    """A server span of 40 ms that began 5 ms after the request; returns its id."""
    span_id = os.urandom(8)
    chosen: dict[str, Any] = {"start_ns": NOW_NS + 5_000_000, "duration_ns": 40_000_000, "span_id": span_id}  # fmt: skip
    span = make_span(trace_id=trace_id, **chosen | fields)
    store_resources(client, make_resource([span], service=service))
    return span.span_id


def test_ids_in_capitals_are_ids_and_other_texts_are_none(client: Client) -> None:
    one, two = os.urandom(16), os.urandom(15) + b"\0"
    serve(client, one)
    serve(client, two)
    zeros, short, long = "0" * 32, "ab" * 15, "ab" * 20
    name(
        client, "r", one.hex().upper(), two.hex(), zeros, short, long, "", "'); DROP TABLE spans --"
    )
    found = join_run(client, "r")
    assert (found.requests, found.with_id, found.joined, found.moved_now) == (7, 2, 2, 2)


def test_a_span_that_came_twice_leaves_production_twice(client: Client) -> None:
    trace = os.urandom(16)
    span = serve(client, trace)
    name(client, "r", trace.hex())
    assert join_run(client, "r").moved_now == 1
    serve(client, trace, span_id=span)
    assert requests_by_source(client) == {("real", ""): 1, ("synthetic", "r"): 1}
    found = join_run(client, "r")
    assert (found.joined, found.with_one_span, found.moved_now) == (1, 1, 1)
    assert requests_by_source(client) == {("synthetic", "r"): 2}


def test_services_behind_the_entry_go_along_and_marked_spans_stay(client: Client) -> None:
    trace = os.urandom(16)
    entry = serve(client, trace)
    serve(client, trace, service="stock", parent_span_id=entry, start_ns=NOW_NS + 10_000_000, duration_ns=9_000_000,
          trace_state="ot=th:8")  # fmt: skip
    serve(
        client,
        trace,
        service="mail",
        parent_span_id=entry,
        attributes={"mobius.test.run": "marked"},
    )
    serve(
        client,
        trace,
        service="tax",
        parent_span_id=entry,
        attributes={"user_agent.synthetic.type": "bot"},
    )
    serve(client, os.urandom(16), service="stock")
    name(client, "r", trace.hex())
    assert join_run(client, "r").moved_now == 3
    assert requests_by_source(client) == {("real", ""): 1, ("synthetic", "r"): 3, ("synthetic", "marked"): 1}  # fmt: skip
    ((weight, buckets),) = client.query(
        "SELECT sum(weight), sum(arraySum(mapValues(buckets))) FROM latency_minute WHERE service = 'stock' AND test_run = 'r'"
    ).result_rows
    assert weight == buckets == 2


def test_a_file_that_names_traces_it_did_not_cause_moves_nothing(client: Client) -> None:
    traces = [os.urandom(16) for _ in range(4)]
    for trace in traces:
        serve(client, trace)
    name(client, "r", traces[0].hex(), status=404)
    name(client, "r", traces[1].hex(), method="POST")
    name(client, "r", traces[2].hex(), start=NOW - timedelta(hours=1))
    name(client, "r", traces[3].hex(), start=NOW + timedelta(seconds=80))
    found = join_run(client, "r")
    assert (found.joined, found.moved_now, found.contradicted) == (0, 0, 4)
    assert requests_by_source(client) == {("real", ""): 4}


def test_a_wrong_file_is_undone_and_stays_so(client: Client) -> None:
    trace = os.urandom(16)
    serve(client, trace)
    name(client, "r", trace.hex())
    columns = ["run", "digest", "start", "end", "requests"]
    client.insert("synthetic_runs", [["r", "d" * 64, NOW, NOW, 1]], columns)
    assert join_run(client, "r").moved_spans == 1
    refuse(client, "r")
    assert take_back(client, "r") == 1
    assert take_back(client, "r") == 0
    assert requests_by_source(client) == {("real", ""): 1}
    assert is_refused(client, "r")
    assert pending_runs(client) == []
    (run,) = runs_between(client, NOW - timedelta(minutes=1), NOW + timedelta(minutes=1))
    assert (run.refused, run.requests) == (True, 1)
    refuse(client, "r", refused=False)
    (again,) = pending_runs(client)
    assert again == find_run(client, "r")
    assert find_run(client, "other") is None


def test_nothing_of_what_was_moved_shows_in_the_analysis(client: Client) -> None:
    trace = os.urandom(16)
    serve(client, trace, trace_state="ot=th:55")
    name(client, "r", trace.hex())
    join_run(client, "r")
    window = Window.of(NOW - timedelta(minutes=5), NOW + timedelta(minutes=5))
    rows = load_rollup(client, window)
    assert rows.filter(rows["source"] == "real").is_empty()
    (server,) = rows.filter(rows["vantage"] == "server").iter_rows(named=True)
    assert (server["source"], server["requests"]) == ("synthetic", 1)


def test_results_that_servers_saw_are_not_counted_again(client: Client) -> None:
    """Their spans leave the suspected; the run has them by its file."""
    trace = os.urandom(16)
    serve(client, trace, attributes={"user_agent.synthetic.type": "test"})
    name(client, "r", trace.hex(), vantage="server")
    assert requests_by_source(client) == {("suspected", ""): 1, ("synthetic", "r"): 1}
    assert join_run(client, "r").moved_now == 1
    assert requests_by_source(client) == {("synthetic", "r"): 1}
    assert take_back(client, "r") == 1
    assert requests_by_source(client) == {("suspected", ""): 1, ("synthetic", "r"): 1}


def test_the_networks_share_is_that_of_joined_requests(client: Client) -> None:
    trace = os.urandom(16)
    serve(client, trace, kind=Span.SPAN_KIND_SERVER)
    name(client, "r", trace.hex())
    columns = ["run", "digest", "start", "end", "requests"]
    client.insert("synthetic_runs", [["r", "d" * 64, NOW, NOW, 1]], columns)
    window = Window.of(NOW - timedelta(minutes=5), NOW + timedelta(minutes=5))
    (share,) = load_network_shares(client, window).items()
    assert share[0] == ("eu-west-1", "shop", "GET", ROUTE)
    assert share[1].value == pytest.approx(0.2)


def test_another_zones_spans_stay_there(client: Client, store_server: str) -> None:
    trace = os.urandom(16)
    serve(client, trace)
    with store_zone(store_server, "us") as (_, other):
        serve(other, trace)
        name(client, "r", trace.hex())
        assert join_run(client, "r").moved_now == 1
        assert requests_by_source(other) == {("real", ""): 1}
