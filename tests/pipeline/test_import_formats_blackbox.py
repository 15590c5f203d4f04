"""Probes of blackbox_exporter: each scrape once, and no answer is no latency."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.result_files import DATA, epoch_us, expected, read_files, refused, type_7

FOLDER = DATA / "blackbox"
RAW = FOLDER / "query-raw-samples.json"
PROBES = [
    (name, number, each)
    for name, of in expected("blackbox", ".", "probe/*.prom").items()
    for number, each in enumerate(of["each"])
]


@pytest.mark.parametrize(("name", "number", "truth"), PROBES)
def test_the_text_of_a_probe_is_one_request(name: str, number: int, truth: dict[str, Any]) -> None:
    path = sorted((FOLDER / "probe").glob(f"{name}.*.prom"))[number]
    asked = epoch_us(truth["asked_utc"])
    result = read_files(path, started=asked, target=f"http://h/{name}?q=1", method="GET")
    (request,) = result.requests
    assert (request.method, request.name) == ("GET", f"http://h/{name}")
    assert request.start_us == asked
    assert request.failed is not truth["success"]
    assert request.status == max(0, truth["status"])
    assert request.duration_ms == (
        pytest.approx(truth["ms"], abs=1e-6) if truth["status"] else None
    )
    assert request.end_us - asked == round(truth["ms"] * 1000)
    assert result.read.facts.load == "open"


def test_a_probe_says_neither_time_nor_target() -> None:
    path = FOLDER / "probe/catalog.1795446241.prom"
    error = refused(path)
    assert error.field == "--started"
    assert "--started" in str(error)
    assert "--target" in str(error)
    assert refused(path, started=10**15).field == "--target"


def test_raw_samples_are_exact() -> None:
    truth = expected("blackbox", ".", RAW.name)
    result = read_files(RAW)
    assert len(result.requests) == truth["probes"] == 121
    for endpoint in truth["endpoints"]:
        name = endpoint["instance"].split("?")[0]
        mine = [r for r in result.requests if r.name == name]
        assert len(mine) == endpoint["probes"]
        assert sum(r.failed for r in mine) == endpoint["failures"]
        assert Counter(str(r.status) for r in mine) == endpoint["statuses"]
        assert mine[0].start_us == epoch_us(endpoint["first_utc"])
        assert mine[-1].start_us == epoch_us(endpoint["last_utc"])
        assert all((r.duration_ms is None) == (r.status == 0) for r in mine)
        if "0" not in endpoint["statuses"]:
            values = [r.duration_ms or 0 for r in mine]
            assert [type_7(values, share) for share in (0.5, 0.95)] == pytest.approx(
                [endpoint["p50_ms"], endpoint["p95_ms"]], abs=1e-4
            )


def test_a_federation_is_the_latest_scrape_of_each_target() -> None:
    result = read_files(FOLDER / "federate.prom")
    latest: dict[str, Any] = {}
    for request in read_files(RAW).requests:
        latest[request.name] = request
    assert {r.name: r for r in result.requests} == latest
    assert len(latest) == 7
    assert "the latest scrape of each target only (7 here)" in result.warnings


@pytest.mark.parametrize("metric", ["probe_duration_seconds", "probe_success"])
def test_a_query_range_of_one_metric_is_refused(metric: str) -> None:
    error = str(refused(FOLDER / f"query_range-{metric}.json"))
    assert "holds no probe_" in error
    assert "every scrape once" in error


def test_a_query_range_of_all_metrics_is_refused_for_its_grid(tmp_path: Path) -> None:
    document: dict[str, Any] = {"status": "success", "data": {"resultType": "matrix", "result": []}}
    for metric in ("probe_duration_seconds", "probe_success"):
        part = json.loads((FOLDER / f"query_range-{metric}.json").read_text())
        document["data"]["result"] += part["data"]["result"]
    path = tmp_path / "r"
    path.write_text(json.dumps(document))
    assert "is a query_range" in str(refused(path))
    # One target alone has one grid of its own when scraped; on whole steps of the epoch it is resampled.
    for values in (one["values"] for one in document["data"]["result"]):
        values[:] = [[time + 0.185, value] for time, value in values]
    only = [
        one for one in document["data"]["result"] if one["metric"]["instance"].endswith("/slow")
    ]
    document["data"]["result"] = only
    path.write_text(json.dumps(document))
    assert len(read_files(path).requests) == 17


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"probe_success"},"value":[1,"1"]}]}}', "is an instant query"),
        ('{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"probe_success"},"values":[[1]]}]}}', "no answer of Prometheus"),
        ('probe_success{instance="a"} 1\n', "without time"),
        ('probe_success{instance="a"} x 1795446279185\n', "no sample of a probe"),
        ('probe_success{instance="a"} 1 1795446279185\n', "without 'probe_duration_seconds'"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "r"
    path.write_text(text)
    assert problem in str(refused(path))


def test_a_body_check_can_fail_a_200(tmp_path: Path) -> None:
    path = tmp_path / "r"
    text = (FOLDER / "probe/catalog.1795446241.prom").read_text()
    text = text.replace("probe_success 1", "probe_success 0")
    path.write_text(text.replace("probe_failed_due_to_regex 0", "probe_failed_due_to_regex 1"))
    (request,) = read_files(path, started=10**15, target="t").requests
    assert (request.status, request.failed, request.error) == (
        200,
        True,
        "probe_failed_due_to_regex",
    )
    assert request.duration_ms is not None
