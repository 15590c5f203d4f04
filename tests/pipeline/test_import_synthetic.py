"""Results of test tools in the store: every request once, under production's routes, in the rollup."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from mobius_infra.cli import main
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, UsageError
from mobius_pipeline.imports import synthetic_store
from mobius_pipeline.imports.synthetic import import_synthetic
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory

DATA = Path(__file__).parents[1] / "data" / "synthetic"
NOWHERE = Zone("eu", ("eu-west-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_eu")
HEADER = {"mobius_synthetic": 1, "kind": "run", "tool": "locust", "tool_version": "2.47.0",
          "test": "smoke", "run": "smoke-1", "started": "2026-11-23T15:00:00Z"}  # fmt: skip


@contextmanager
def store_of(zone: Zone) -> Iterator[Client]:
    client = connect(zone, Purpose.INGEST)
    try:
        yield client
    finally:
        client.close()


def rows(zone: Zone, query: str) -> list[tuple[Any, ...]]:
    with store_of(zone) as client:
        return [tuple(row) for row in client.query(query).result_rows]


def production(zone: Zone, *endpoints: tuple[str, str, str]) -> None:
    """Let production have served these endpoints (service, method, route)."""
    with store_of(zone) as client:
        client.insert(
            "latency_minute",
            [[1_795_446_000, "eu-west-1", s, m, r, "2xx", "server", 1] for s, m, r in endpoints],
            [
                "minute",
                "region",
                "service",
                "method",
                "route",
                "status_class",
                "vantage",
                "requests",
            ],
        )


def truth_of(path: str) -> dict[str, Any]:
    tool, _, rest = path.partition("/")
    folder, _, name = rest.rpartition("/")
    runs = json.loads((DATA / tool / "expected.json").read_text())["runs"]
    (files,) = [run["files"] for run in runs if run["folder"] == (folder or ".")]
    found: dict[str, Any] = files[name]
    return found


FILES = [
    "k6/plain/results.json.gz",
    "k6/plain/results.csv.gz",
    "k6/traced/results.json.gz",
    "k6/traced/results.csv.gz",
    "locust/stats.json",
]


@pytest.mark.store
def test_every_sample_is_in_the_rollup_once_with_its_exact_counts(
    zone_factory: ZoneFactory,
) -> None:
    zone = zone_factory(topics=False)
    for path in FILES:
        truth = truth_of(path)
        result = import_synthetic(
            zone, [DATA / path], region="eu-west-1", test="shop", service="shop-api"
        )
        assert (result.requests, result.failed) == (truth["requests"], truth["failures"]), path
        assert not result.already_imported
        assert rows(zone, f"SELECT sum(requests), sumIf(requests, failed), any(region), any(service) FROM synthetic_results WHERE run = '{result.run}'") == [
            (truth["requests"], truth["failures"], "eu-west-1", "shop-api")
        ]  # fmt: skip
        rolled = f"SELECT sum(requests), sum(errors), sum(arraySum(mapValues(buckets))) FROM latency_minute WHERE test_run = '{result.run}' AND source = 'synthetic' AND vantage = 'client'"
        unanswered = truth.get("statuses", {}).get("0", 0)
        assert rows(zone, rolled) == [
            (truth["requests"], truth["failures"], truth["requests"] - unanswered)
        ]
        for endpoint in result.endpoints:
            (same,) = [e for e in truth["endpoints"] if e["name"] == endpoint.name]
            assert (endpoint.requests, endpoint.failed) == (same["requests"], same["failures"])
    assert rows(zone, "SELECT count(), uniqExact(digest) FROM synthetic_runs") == [
        (len(FILES), len(FILES))
    ]
    # The same again, all of it: recognised, and nothing moves.
    before = rows(zone, "SELECT count(), sum(requests) FROM latency_minute")
    for path in FILES:
        assert import_synthetic(
            zone, [DATA / path], region="eu-west-1", test="shop"
        ).already_imported
    assert rows(zone, "SELECT count(), sum(requests) FROM latency_minute") == before


@pytest.mark.store
def test_routes_and_service_are_those_of_production(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    production(
        zone,
        ("shop-api", "GET", "/catalog/{item_id}"),
        ("shop-api", "GET", "/go/{item_id}"),
        ("shop-api", "GET", "/search"),
        ("shop-api", "GET", "/slow"),
        ("shop-api", "POST", "/checkout"),
        ("shop-api", "GET", "GET"),
    )
    result = import_synthetic(
        zone, [DATA / "k6/traced/results.json.gz"], region="eu-west-1", test="shop"
    )
    assert result.service == "shop-api"
    assert [(u.method, u.name, u.requests, u.closest) for u in result.unmatched] == [
        ("GET", "search", 161, "GET /search"),
        ("GET", "/nope", 11, None),
        ("GET", "/legacy", 6, None),
    ]
    stored = rows(
        zone,
        "SELECT method, route, service, sum(requests), countIf(trace_id = '') FROM synthetic_results "
        "GROUP BY method, route, service ORDER BY route",
    )
    assert stored == [
        ("GET", "/catalog/{item_id}", "shop-api", 361, 0),
        ("POST", "/checkout", "shop-api", 206, 0),
        ("GET", "/go/{item_id}", "shop-api", 44, 0),
        ("GET", "/legacy", "shop-api", 6, 0),
        ("GET", "/nope", "shop-api", 11, 0),
        ("GET", "/slow", "shop-api", 69, 0),
        ("GET", "search", "shop-api", 161, 0),
    ]


@pytest.mark.store
def test_an_import_that_was_cut_off_is_completed_as_it_was_begun(
    zone_factory: ZoneFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = zone_factory(topics=False)
    path = DATA / "k6/plain/results.json.gz"
    monkeypatch.setattr(synthetic_store, "_BATCH", 100)
    insert = synthetic_store.insert_requests

    def cut_off(client: Client, run: Any, requests: Iterable[Any], matches: Any) -> None:
        def first(items: Iterable[Any]) -> Iterator[Any]:
            for number, item in enumerate(items):
                if number == 350:
                    raise KeyboardInterrupt
                yield item

        insert(client, run, first(requests), matches)

    monkeypatch.setattr("mobius_pipeline.imports.synthetic.insert_requests", cut_off)
    with pytest.raises(KeyboardInterrupt):
        import_synthetic(zone, [path], region="eu-west-1", test="shop")
    assert rows(zone, "SELECT count() FROM synthetic_results") == [(300,)]
    assert rows(zone, "SELECT count() FROM synthetic_runs") == [(0,)]
    # Production's templates come in between; the run still gets one route a name.
    production(zone, ("shop-api", "GET", "/catalog/{other}"))
    monkeypatch.setattr("mobius_pipeline.imports.synthetic.insert_requests", insert)
    result = import_synthetic(zone, [path], region="eu-west-1", test="shop")
    assert not result.already_imported
    assert (
        rows(zone, "SELECT count(), uniqExact(start, duration_ms, name) FROM synthetic_results")[0][
            0
        ]
        == 994
    )
    assert rows(zone, "SELECT sum(requests) FROM latency_minute WHERE source = 'synthetic'") == [
        (994,)
    ]
    assert rows(
        zone, "SELECT DISTINCT route FROM synthetic_results WHERE name LIKE '/catalog%'"
    ) == [("/catalog/{item_id}",)]


@pytest.mark.store
def test_locust_csv_set_gives_a_run_and_no_invented_requests(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    result = import_synthetic(
        zone, [DATA / "locust/locust_failures.csv"], region="eu-west-1", test="shop"
    )
    assert (result.requests, result.failed, result.percentiles) == (1738, 227, "as_reported")
    document = result.document()
    assert (document["start"], document["end"]) == (
        "2026-11-23T14:53:37.000000Z",
        "2026-11-23T14:53:55.000000Z",
    )
    checkout = next(e for e in document["endpoints"] if e["route"] == "/checkout")
    assert (checkout["p50_ms"], checkout["p95_ms"], checkout["p99_ms"]) == (22.0, 46.0, 230.0)
    assert rows(zone, "SELECT count() FROM synthetic_results") == [(0,)]
    ((summary,),) = rows(zone, "SELECT summary FROM synthetic_runs")
    assert json.loads(summary)["exceptions"] == 8
    assert sum(e["requests"] for e in json.loads(summary)["errors"]) == 227
    # Any other file of the set, or all of them, is the same run.
    for names in (["stats"], ["stats", "stats_history", "failures", "exceptions"]):
        paths = [DATA / "locust" / f"locust_{name}.csv" for name in names]
        assert import_synthetic(zone, paths, region="eu-west-1", test="shop").already_imported


@pytest.mark.store
def test_a_listener_file_names_its_own_run_and_a_second_format_is_noticed(
    zone_factory: ZoneFactory, tmp_path: Path
) -> None:
    zone = zone_factory(topics=False)
    sample = {"start": "2026-11-23T15:00:01.000250Z", "duration_ms": 12.5, "method": "GET", "name": "/a/[id]",
              "url": "http://h/a/1", "status": 200, "failed": False, "error": None, "trace_id": "0a" * 16,
              "span_id": "0b" * 8}  # fmt: skip
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps(HEADER) + "\n" + json.dumps(sample) + "\n")
    result = import_synthetic(
        zone, [path], region="eu-west-1", environment="production", generated=True
    )
    assert (result.run, result.test) == ("smoke-1", "smoke")
    assert "was cut off" in result.warnings[0]
    assert rows(zone, "SELECT run, environment, route, trace_id FROM synthetic_results") == [
        ("smoke-1", "production", "/a/{id}", "0a" * 16)
    ]
    assert rows(zone, "SELECT generated, tool FROM synthetic_runs") == [(True, "locust")]
    import_synthetic(zone, [DATA / "k6/plain/results.json.gz"], region="eu-west-1", test="shop")
    twin = import_synthetic(
        zone, [DATA / "k6/plain/results.csv.gz"], region="eu-west-1", test="shop"
    )
    assert any("in another format" in warning for warning in twin.warnings)


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        (b"", {}, "is empty"),
        (b"hello\n", {}, "no result file"),
        (b'{"type":"Metric","metric":"vus"}\n', {}, "holds no requests"),
        (b"[]", {}, "holds no requests"),
        (b'{"type":"Metric","metric":"vus"}\n', {"format": "k6-csv"}, "is k6-json, not k6-csv"),
        (b"x", {"format": "jmeter"}, "no format 'jmeter'; known: k6-json"),
        (b"x", {"region": "us-east-1"}, "known: eu-west-1"),
        (b"x", {"service": ""}, "1 to 200 printable"),
        (b"x", {"rules": Path("nowhere.toml")}, "cannot be read"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked_of_the_store(
    tmp_path: Path, content: bytes, options: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "results"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=problem):
        import_synthetic(NOWHERE, [path], **{"region": "eu-west-1", "test": "t", **options})


def test_one_run_at_a_time() -> None:
    for names in (
        ["k6/plain/results.json.gz", "k6/traced/results.json.gz"],
        ["locust/stats.json", "locust/locust_stats.csv"],
    ):
        with pytest.raises(UsageError, match="one result file"):
            import_synthetic(NOWHERE, [DATA / name for name in names], region="eu-west-1", test="t")


def test_a_truncated_file_names_the_line_after_which_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "results.json.gz"
    path.write_bytes((DATA / "k6/plain/results.json.gz").read_bytes()[:100_000])
    with pytest.raises(UsageError, match="cut off after line") as caught:
        import_synthetic(NOWHERE, [path], region="eu-west-1", test="t")
    assert (caught.value.line or 0) > 1000


def test_a_store_that_is_away_is_named() -> None:
    with pytest.raises(
        DependencyError, match=r"store of zone eu at http://127.0.0.1:1 .*mobius-rum up"
    ):
        import_synthetic(NOWHERE, [DATA / "locust/stats.json"], region="eu-west-1", test="t")


@pytest.mark.store
def test_the_command_prints_one_document(
    zone_factory: ZoneFactory,
    zones_file_factory: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    zone = zone_factory(topics=False)
    shutil.copy(DATA / "k6/plain/results.json.gz", tmp_path / "r")
    command = ["mobius-rum", "import", "synthetic", str(tmp_path / "r"), "--region", "eu-west-1", "--test", "shop",
               "--config", str(zones_file_factory(zone))]  # fmt: skip
    monkeypatch.setattr("sys.argv", [*command, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    document = json.loads(capsys.readouterr().out)
    truth = truth_of("k6/plain/results.json.gz")
    assert (document["requests"], document["failed"]) == (truth["requests"], truth["failures"])
    assert (document["start"], document["end"]) == (truth["first_start_utc"], truth["last_end_utc"])
    assert {
        "run",
        "format",
        "requests",
        "failed",
        "start",
        "end",
        "endpoints",
        "unmatched",
    } <= document.keys()
    assert document["endpoints"][0].keys() >= {
        "method",
        "route",
        "name",
        "requests",
        "failed",
        "p50_ms",
        "p95_ms",
        "p99_ms",
    }
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    assert "imported before, nothing was added" in capsys.readouterr().out
