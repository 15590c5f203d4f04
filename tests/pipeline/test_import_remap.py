"""Runs that are imported already get other routes: rollup, requests and the run's own row agree, and nothing counts twice."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mobius_infra.cli import main
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports import remap as remap_module
from mobius_pipeline.imports import remap_store
from mobius_pipeline.imports.remap import remap
from mobius_pipeline.imports.routes import load_rules
from mobius_pipeline.imports.rule_file import add_rule
from mobius_pipeline.imports.synthetic import import_synthetic
from tests.conftest import ZoneFactory
from tests.pipeline.test_import_synthetic import production, rows

DATA = Path(__file__).parents[1] / "data/synthetic"
K6 = DATA / "k6/traced/results.json.gz"
ENDPOINTS = [("shop-api", "GET", "/catalog/{item_id}"), ("shop-api", "GET", "/go/{item_id}"),
             ("shop-api", "GET", "/search"), ("shop-api", "GET", "/slow"), ("shop-api", "POST", "/checkout")]  # fmt: skip

ROLLUP = (
    "SELECT method, route, service, sum(requests), sum(errors), sum(weight), sum(error_weight), toString(sumMap(buckets)) "
    "FROM latency_minute WHERE source = 'synthetic' GROUP BY ALL HAVING sum(requests) != 0 ORDER BY ALL"
)
RESULTS = (
    "SELECT method, route, service, name, sum(requests), sumIf(requests, failed), round(sum(duration_ms), 3), uniqExact(trace_id) "
    "FROM synthetic_results GROUP BY ALL ORDER BY ALL"
)


def state(zone: Zone) -> tuple[list[tuple[Any, ...]], ...]:
    summary = "SELECT summary, requests, failed, service FROM synthetic_runs FINAL ORDER BY run"
    runs = [(_settled(json.loads(s)), *rest) for s, *rest in rows(zone, summary)]
    return rows(zone, ROLLUP), rows(zone, RESULTS), runs


def _settled(summary: dict[str, Any]) -> dict[str, Any]:
    """What a summary counts; an import leaves the service of what it cannot match open there."""
    endpoints = [
        {key: value for key, value in endpoint.items() if key != "service"}
        for endpoint in summary["endpoints"]
    ]
    endpoints.sort(
        key=lambda endpoint: (endpoint["route"], endpoint["method"], endpoint["requests"])
    )
    return {"endpoints": endpoints, "statuses": summary["statuses"]}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "routes.toml"
    add_rule(path, "search", "GET /search")
    return path


@pytest.mark.store
def test_a_remapped_run_is_what_an_import_with_those_rules_is(
    zone_factory: ZoneFactory, rules: Path
) -> None:
    zone, other = zone_factory(topics=False), zone_factory(topics=False)
    for each in (zone, other):
        production(each, *ENDPOINTS)
    first = import_synthetic(zone, [K6], region="eu-west-1", test="shop", run="r")
    import_synthetic(other, [K6], region="eu-west-1", test="shop", run="r", rules=rules)
    assert first.unmatched[0].fix == (
        "mobius-rum import remap r --rules routes.toml --add search 'GET /search'"
    )
    (result,) = remap([zone], ["r"], rules)
    assert (result.requests_moved, [c.name for c in result.changes]) == (161, ["search"])
    assert state(zone) == state(other)
    assert {u.name for u in result.unmatched} == {"/nope", "/legacy"}
    # Again there is nothing to do, and the file itself is still known.
    (again,) = remap([zone], ["r"], rules)
    assert (again.requests_moved, again.changes) == (0, ())
    assert import_synthetic(zone, [K6], region="eu-west-1", test="shop").already_imported
    assert state(zone) == state(other)


@pytest.mark.store
def test_there_and_back_leaves_what_was(
    zone_factory: ZoneFactory, rules: Path, tmp_path: Path
) -> None:
    zone = zone_factory(topics=False)
    production(zone, *ENDPOINTS)
    import_synthetic(zone, [K6], region="eu-west-1", test="shop", run="r")
    before = state(zone)
    remap([zone], ["r"], rules)
    assert state(zone) != before
    (back,) = remap([zone], ["r"], None)
    assert back.requests_moved == 161
    assert state(zone) == before


@pytest.mark.store
@pytest.mark.parametrize("step", ["claim_plan", "_move_rollup", "_copy_requests", "carry_out"])
def test_a_remapping_that_was_cut_off_is_completed_by_the_next(
    zone_factory: ZoneFactory, rules: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever the next one wants: it completes the first, then does its own."""
    zone = zone_factory(topics=False)
    production(zone, *ENDPOINTS)
    import_synthetic(zone, [K6], region="eu-west-1", test="shop", run="r")
    before = state(zone)
    module = remap_store if step.startswith("_") else remap_module
    real = getattr(remap_store, step)

    def cut_off(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, cut_off)
        patch.setattr(remap_store, "_SLICE", 20)  # several inserts
        with pytest.raises(KeyboardInterrupt):
            remap([zone], ["r"], rules)
        patch.setattr(module, step, real)
        remap([zone], ["r"], None)
    assert state(zone) == before


@pytest.mark.store
def test_two_at_once_move_it_once(
    zone_factory: ZoneFactory, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone, other = zone_factory(topics=False), zone_factory(topics=False)
    for each in (zone, other):
        production(each, *ENDPOINTS)
        import_synthetic(each, [K6], region="eu-west-1", test="shop", run="r")
    remap([other], ["r"], rules)
    monkeypatch.setattr(remap_store, "_SLICE", 20)
    barrier = threading.Barrier(2)
    claim = remap_store.claim_plan

    def together(*arguments: Any) -> Any:
        barrier.wait(60)
        return claim(*arguments)

    monkeypatch.setattr(remap_module, "claim_plan", together)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: remap([zone], ["r"], rules), range(2)))
    assert [result.requests_moved for (result,) in both] == [161, 161]
    assert state(zone) == state(other)


@pytest.mark.store
def test_histograms_and_percentiles_move_too(zone_factory: ZoneFactory, tmp_path: Path) -> None:
    rules = tmp_path / "r.toml"
    for name, endpoint in (("/nope", "GET /search"), ("legacy", "shop-api: GET /slow")):
        add_rule(rules, name, endpoint)
    zone, other = zone_factory(topics=False), zone_factory(topics=False)
    for each, given in ((zone, None), (other, rules)):
        production(each, *ENDPOINTS)
        for path in ("locust/stats.json", "artillery/report.json", "gatling/3.9/simulation.log"):
            import_synthetic(
                each, [DATA / path], region="eu-west-1", test="t", run=path, rules=given
            )
    runs = [run for (run,) in rows(zone, "SELECT run FROM synthetic_runs FINAL ORDER BY run")]
    results = remap([zone], runs, rules)
    assert [bool(result.changes) for result in results] == [True, True, True]
    assert state(zone) == state(other)


@pytest.mark.store
def test_a_run_that_nobody_imported_is_named(zone_factory: ZoneFactory) -> None:
    with pytest.raises(UsageError, match="no run is called 'ghost'") as caught:
        remap([zone_factory(topics=False)], ["ghost"])
    assert caught.value.field == "RUN"


@pytest.mark.store
def test_the_command_that_is_printed_fixes_it(
    zone_factory: ZoneFactory,
    zones_file_factory: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    zone = zone_factory(topics=False)
    production(zone, *ENDPOINTS)
    config = ["--config", str(zones_file_factory(zone)), "--json"]
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr("sys.argv", ["mobius-rum", *arguments, *config])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    imported = run("import", "synthetic", str(K6), "--region", "eu-west-1", "--test", "shop")
    first, *others = imported["unmatched"]
    assert [other["fix"].split()[-2:] for other in others] == [["'METHOD", "/ROUTE'"]] * 2
    program, *command = shlex.split(first["fix"])
    assert program == "mobius-rum"
    (fixed,) = run(*command)["runs"]
    assert [(c["name"], c["to_route"], c["requests"]) for c in fixed["changes"]] == [
        ("search", "/search", 161)
    ]
    assert {one["name"] for one in fixed["unmatched"]} == {"/nope", "/legacy"}
    assert rows(
        zone,
        "SELECT sum(requests) FROM latency_minute WHERE route = '/search' AND vantage = 'client'",
    ) == [(161,)]


# ---------------------------------------------------------------------------- the rules file


def test_a_rule_that_is_added_comes_first_and_once(tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text('# ours\n[[route]]\npattern = ".*"\nroute = "/all"\n')
    for _ in range(2):
        add_rule(path, 'search, "by" wörd', "shop: get /search/{q}")
    first, second = load_rules(path)
    assert first.pattern.fullmatch('search, "by" wörd')
    assert (first.method, first.route, first.service) == ("GET", "/search/{q}", "shop")
    assert second.route == "/all"
    assert "# ours" in path.read_text()
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "endpoint"), [("", "GET /a"), ("a", " "), ("a\n", "GET /a"), ("a", "x" * 3_000)]
)
def test_a_rule_that_is_none_is_refused(tmp_path: Path, name: str, endpoint: str) -> None:
    with pytest.raises(UsageError) as caught:
        add_rule(tmp_path / "r", name, endpoint)
    assert caught.value.field == "--add"
    assert not list(tmp_path.iterdir())


def test_a_file_that_holds_no_rules_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "zones.toml"
    path.write_text("[zones.eu]\n")
    with pytest.raises(UsageError, match="needs tables"):
        add_rule(path, "a", "GET /a")
    assert path.read_text() == "[zones.eu]\n"
