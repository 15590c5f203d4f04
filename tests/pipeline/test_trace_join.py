"""Real result files joined with the server's spans of the same run, in either order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from mobius_instrumentation.zones import Zone
from mobius_pipeline.imports.synthetic import import_synthetic
from mobius_pipeline.joining.join import RunJoin, join_run
from tests.pipeline.spans_of_runs import DATA, requests_by_source, rollup, store_file, store_zone

pytestmark = pytest.mark.store


@dataclass(frozen=True)
class Case:
    """A result file, the folder of its spans, its entry in `joined` (where there are several), and what joins."""

    path: str
    folder: str
    joined: int
    spans_first: bool
    entry: str = ""


CASES = [
    Case("k6/traced/results.json.gz", "k6/traced", 808 + 44, spans_first=True),
    Case("k6/traced/results.csv.gz", "k6/traced", 808 + 44, spans_first=False),
    Case("vegeta/results.gob.gz", "vegeta", 846 + 30, spans_first=True),
    Case("vegeta/results.json.gz", "vegeta", 846 + 30, spans_first=False),
    Case("jmeter/traced/results.jtl", "jmeter/traced", 666, spans_first=True, entry="results.jtl"),
    Case(
        "jmeter/traced/results.xml.gz",
        "jmeter/traced",
        952,
        spans_first=False,
        entry="results.xml.gz, http exchanges, traceparent inside requestHeader",
    ),
]


def truth_of(folder: str, entry: str) -> tuple[dict[str, Any], int]:
    """What expected.json says of a run: `joined`, and the requests that its server had."""
    tool, _, rest = folder.partition("/")
    runs = json.loads((DATA / tool / "expected.json").read_text())["runs"]
    (run,) = [run for run in runs if run["folder"] == (rest or ".")]
    return run["joined"][entry] if entry else run["joined"], run["server"]["requests"]


def import_file(zone: Zone, path: str) -> str:
    result = import_synthetic(zone, [DATA / path], region="eu-west-1", test="shop", run="run-1")
    return result.run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_joins_what_the_truth_says_and_moves_it_once(store_server: str, case: Case) -> None:
    truth, served = truth_of(case.folder, case.entry)
    with store_zone(store_server) as (zone, client):
        if case.spans_first:
            store_file(client, case.folder)
        run = import_file(zone, case.path)
        if not case.spans_first:
            assert join_run(client, run).joined == 0
            store_file(client, case.folder)
        before = rollup(client)
        found = join_run(client, run)
        check_counts(found, truth, case.joined)
        unnamed = truth["server_traces_never_named_by_a_client_record"]
        check_production(client, before, found, served, unnamed=unnamed)
        after = rollup(client)
        again = join_run(client, run)
        assert (again.joined, again.moved_now) == (case.joined, 0)
        assert rollup(client) == after


def check_counts(found: RunJoin, truth: dict[str, Any], joined: int) -> None:
    assert found.joined == joined
    assert found.one_to_one == truth["one_to_one"]
    assert found.ids == truth["distinct_trace_ids"]
    assert found.contradicted == 0
    if found.with_id == truth["client_records_with_trace_id"]:
        assert found.sharing_id == truth["client_records_sharing_a_trace_id"]
        assert found.without_span == truth["with_no_server_span"]
        assert found.with_one_span == truth["with_one_server_span"]
        assert found.with_several_spans == truth["with_several_server_spans"]


def check_production(
    client: Client, before: list[tuple[Any, ...]], found: RunJoin, served: int, *, unnamed: int
) -> None:
    """Users' requests are those that no client record names; nothing is lost and nothing made."""
    by_source = requests_by_source(client)
    assert by_source.get(("real", ""), 0) == unnamed
    assert by_source[("synthetic", "run-1")] == served - unnamed == found.moved_spans
    assert totals(rollup(client)) == totals(before)


def totals(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    buckets: dict[int, float] = {}
    for row in rows:
        for bucket, weight in row[-2]:
            buckets[bucket] = buckets.get(bucket, 0.0) + weight
    return sum(r[10] for r in rows), sum(r[11] for r in rows), sum(r[12] for r in rows), buckets
