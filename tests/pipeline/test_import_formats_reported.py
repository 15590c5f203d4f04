"""Tools and files that give their own figures only: taken as they are, with no request invented."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mobius_pipeline.imports.formats.reported import ReportedEndpoint, ReportedRun
from mobius_pipeline.imports.synthetic_result import iso_us
from tests.pipeline.result_files import (
    DATA,
    Result,
    epoch_us,
    expected,
    read_files,
    refused,
    type_7,
)

URL = "http://127.0.0.1:8077/catalog/5"
GIVEN: dict[str, Any] = {"started": 1_795_446_061_000_000, "url": URL, "method": "GET"}


def reported(result: Result) -> ReportedRun:
    assert result.read.facts.percentiles == "as_reported"
    assert result.requests == []
    assert result.read.reader is None
    assert result.read.reported is not None
    return result.read.reported


def one(result: Result) -> ReportedEndpoint:
    (endpoint,) = reported(result).endpoints
    return endpoint


# ---------------------------------------------------------------------------- Artillery


def test_artillery_counts_hops_and_refusals_and_cuts_names_from_both_ends() -> None:
    truth = expected("artillery", ".", "report.json")
    result = read_files(DATA / "artillery/report.json")
    run = reported(result)
    failed = truth["errors"]["ECONNREFUSED"] + truth["statuses"]["404"] + truth["statuses"]["500"]
    assert result.read.totals() == (truth["requests"], failed)
    assert result.read.statuses() == truth["statuses"] | {"0": 18}
    assert result.read.errors() == truth["errors"]
    assert iso_us(run.start_us) == truth["first_metric_utc"]
    assert iso_us(run.end_us) == truth["last_metric_utc"]
    found = {e.name: e for e in run.endpoints}
    assert found.keys() == {e["name"] for e in truth["endpoints"]}
    for endpoint in truth["endpoints"]:
        mine = found[endpoint["name"]]
        errors = sum(endpoint["errors"].values())
        assert mine.requests == endpoint["responses"] + errors
        bad = sum(n for status, n in endpoint["statuses"].items() if status >= "400")
        assert mine.failed == errors + bad
        assert (mine.p50_ms, mine.p95_ms) == (endpoint["p50_ms"], endpoint["p95_ms"])
    assert result.read.facts.load == "open"


def test_artillery_without_the_plugin_is_one_endpoint_that_must_be_named(tmp_path: Path) -> None:
    document = json.loads((DATA / "artillery/report.json").read_text())
    for part in ("counters", "summaries"):
        figures = document["aggregate"][part]
        document["aggregate"][part] = {k: v for k, v in figures.items() if "plugins" not in k}
    path = tmp_path / "r"
    path.write_text(json.dumps(document))
    assert refused(path).field == "--url"
    endpoint = one(read_files(path, name="whole shop"))
    assert (endpoint.requests, endpoint.p50_ms, endpoint.levels[0.999]) == (654, 8.9, 202.4)


def test_names_with_dots_keep_them(tmp_path: Path) -> None:
    path = tmp_path / "r"
    counters = {"http.requests": 3, "plugins.metrics-by-endpoint.GET /v1.2/a.codes.x.codes.200": 2,
                "plugins.metrics-by-endpoint.b.errors.c.errors.d.e": 1}  # fmt: skip
    whole = {"counters": counters, "firstMetricAt": 1795446117471, "lastMetricAt": 1795446135317}
    path.write_text(json.dumps({"aggregate": whole}))
    assert read_files(path).counts() == {
        ("", "GET /v1.2/a.codes.x"): (2, 0),
        ("", "b.errors.c"): (1, 1),
    }


# ---------------------------------------------------------------------------- autocannon


@pytest.mark.parametrize("name", ["catalog", "checkout", "nope", "dead"])
def test_autocannon_counts_answers_and_what_got_none(name: str) -> None:
    truth = expected("autocannon", ".", f"{name}.json")
    result = read_files(DATA / "autocannon" / f"{name}.json", method="POST")
    run, endpoint = reported(result), one(result)
    assert result.read.totals() == (
        truth["requests"] + truth["errors"],
        truth["non2xx"] + truth["errors"],
    )
    assert {k: n for k, n in result.read.statuses().items() if k != "0"} == truth["statuses"]
    assert (endpoint.method, endpoint.name) == ("POST", truth["url"])
    assert run.start_us == epoch_us(truth["start_utc"])
    assert run.end_us == epoch_us(truth["end_utc"])
    if truth["requests"]:
        assert endpoint.levels[0.975] == truth["p97_5_ms"]
        assert (endpoint.p50_ms, endpoint.levels[0.9]) == (truth["p50_ms"], truth["p90_ms"])
    assert endpoint.p95_ms is None


def test_zeros_of_autocannon_without_an_answer_are_no_latencies() -> None:
    result = read_files(DATA / "autocannon/dead.json", method="GET")
    endpoint = one(result)
    assert (endpoint.requests, endpoint.failed, dict(endpoint.levels)) == (7165, 7165, {})
    assert result.read.errors() == {"connection error": 7165}
    assert result.read.statuses() == {"0": 7165}


def test_autocannon_with_a_rate_is_corrected_and_not_comparable() -> None:
    corrected = read_files(DATA / "autocannon/catalog.json", method="GET")
    assert corrected.read.facts.load == "corrected"
    assert "4,179 latencies of 480 requests" in corrected.warnings
    plain = read_files(DATA / "autocannon/checkout.json", method="POST")
    assert (plain.read.facts.load, plain.warnings) == ("closed", "")


def test_autocannon_says_no_method() -> None:
    assert refused(DATA / "autocannon/catalog.json").field == "--method"
    error = refused(DATA / "autocannon/catalog.json", method="GET", url="http://other")
    assert "the file is about http://127.0.0.1:8077/catalog/5" in str(error)


# ---------------------------------------------------------------------------- wrk


@pytest.mark.parametrize("name", ["catalog", "mix"])
def test_wrk_reads_the_unit_of_every_line(name: str) -> None:
    truth = expected("wrk", ".", f"{name}.txt")["as_reported"]
    given = {"started": GIVEN["started"], "method": "GET"}
    result = read_files(DATA / "wrk" / f"{name}.txt", **given)
    assert result.read.totals() == (truth["requests"], truth["non_2xx_3xx"])
    levels = {f"{share * 100:g}%": ms for share, ms in one(result).levels.items()}
    assert levels == pytest.approx(truth["percentiles_ms"])
    run = reported(result)
    assert run.end_us - run.start_us == round(truth["seconds"] * 1e6)
    assert result.read.facts.load == "closed"


def test_units_of_wrk(tmp_path: Path) -> None:
    path = tmp_path / "r"
    text = (DATA / "wrk/mix.txt").read_text()
    text = text.replace(" 8.32ms", "832.00us").replace("173.45ms", "   1.73s")
    text = text.replace("10.01s", "1.50m").replace(
        "  Non-2xx", "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx"
    )
    path.write_text(text)
    result = read_files(path, started=GIVEN["started"], name="mix")
    assert one(result).levels == {0.5: 0.832, 0.75: 14.19, 0.9: 22.54, 0.99: 1730.0}
    assert result.read.totals() == (1107 + 6, 238 + 4 + 6)
    run = reported(result)
    assert run.end_us - run.start_us == 90_000_000


def test_wrk_without_a_connection_or_a_time_is_refused() -> None:
    assert "Connection refused): no request was made" in str(refused(DATA / "wrk/dead.txt"))
    assert refused(DATA / "wrk/mix.txt").field == "--started"


# ---------------------------------------------------------------------------- oha


OHA = {
    "summary": {"successRate": 1.0, "total": 2.5, "slowest": 0.25, "fastest": 0.001, "average": 0.02,
                "requestsPerSec": 80.0, "totalData": 7000, "sizePerRequest": 35, "sizePerSec": 2800.0},
    "responseTimeHistogram": {"0.001": 1, "0.25": 199},
    "latencyPercentiles": {"p10": 0.004, "p50": 0.0081, "p95": 0.0119, "p99": 0.2, "p99.9": 0.25, "p99.99": None},
    "rps": {"mean": 80.0, "percentiles": {"p50": 80.0}},
    "details": {},
    "statusCodeDistribution": {"200": 190, "404": 10},
    "errorDistribution": {"aborted due to deadline": 4, "Connection refused (os error 111)": 3},
}  # fmt: skip


def test_oha_counts_errors_but_not_what_it_aborted_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(json.dumps(OHA, indent=2))
    result = read_files(path, **GIVEN)
    assert result.read.totals() == (203, 13)
    assert result.read.statuses() == {"0": 3, "200": 190, "404": 10}
    levels = one(result).levels
    assert levels == {0.1: 4.0, 0.5: 8.1, 0.95: 11.9, 0.99: 200.0, 0.999: 250.0}
    run = reported(result)
    assert run.end_us - run.start_us == 2_500_000
    assert refused(path).field == "--started"


def test_the_csv_of_oha_has_a_row_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(
        "request-start,DNS,DNS+dialup,Response-delay,request-duration,bytes,status\n"
        "0.0005,0,0.0002,0.01,0.0121,35,200\n0.2,0,0,0.01,0.25,35,500\n"
    )
    result = read_files(path, **GIVEN)
    first, second = result.requests
    assert (first.start_us - GIVEN["started"], first.duration_ms, first.failed) == (
        500,
        12.1,
        False,
    )
    assert (second.status, second.failed, second.duration_ms) == (500, True, 250.0)
    assert "its JSON has them" in result.warnings


# ---------------------------------------------------------------------------- summaries


@pytest.mark.parametrize("run", ["plain", "traced"])
@pytest.mark.parametrize("name", ["summary-export.json", "handle-summary.json"])
def test_summaries_of_k6_are_taken_as_reported(run: str, name: str) -> None:
    truth = expected("k6", run, name)["as_reported"]
    path = DATA / "k6" / run / name
    given = {} if run == "traced" else {"started": GIVEN["started"]}
    if run == "plain":
        assert refused(path).field == "--started"
    result = read_files(path, name="whole shop", **given)
    assert result.read.totals() == (truth["requests"], truth["failures"])
    endpoint = one(result)
    assert (endpoint.p50_ms, endpoint.p95_ms) == (truth["p50_ms"], truth["p95_ms"])
    seconds = (reported(result).end_us - reported(result).start_us) / 1e6
    assert seconds == pytest.approx(16.1067 if run == "plain" else 15.0267, abs=1e-3)
    named = reported(read_files(path, **given)).endpoints
    (catalog,) = [
        e for e in expected("k6", run, "results.json.gz")["endpoints"] if "catalog" in e["name"]
    ]
    assert [(e.name, e.requests) for e in named] == [("GET /catalog/{item_id}", None)]
    assert [named[0].p50_ms, named[0].p95_ms] == pytest.approx(
        [catalog["p50_ms"], catalog["p95_ms"]], abs=1e-4
    )


def test_a_new_summary_of_k6_says_when_it_was() -> None:
    run = reported(read_files(DATA / "k6/traced/handle-summary.json"))
    assert iso_us(run.end_us) == "2026-11-23T15:06:27.180631Z"
    assert iso_us(run.start_us) == "2026-11-23T15:06:12.153958Z"


def test_a_summary_of_k6_whose_long_script_stands_first_is_known(tmp_path: Path) -> None:
    document = json.loads((DATA / "k6/traced/summary-export.json").read_text())
    document["config"]["script"] = "x" * 100_000
    path = tmp_path / "r"
    path.write_text(json.dumps(document))
    assert read_files(path).read.totals() == (858, 75)


def test_a_report_of_vegeta_is_of_all_its_targets() -> None:
    truth = expected("vegeta", ".", "report.json")["as_reported"]
    path = DATA / "vegeta/report.json"
    assert refused(path).field == "--url"
    result = read_files(path, name="whole shop")
    run, endpoint = reported(result), one(result)
    assert result.read.totals() == (900, round(900 * (1 - truth["success_ratio"])))
    assert result.read.statuses() == truth["status_codes"]
    assert (endpoint.p50_ms, endpoint.p95_ms) == (truth["p50_ms"], truth["p95_ms"])
    assert run.start_us == epoch_us(truth["earliest"][:26] + "Z")
    assert run.end_us == epoch_us(truth["end"][:26] + "Z")


@pytest.mark.parametrize("name", ["report.txt", "hist.txt", "hdrplot.txt"])
def test_reports_for_people_are_refused_with_what_to_give(name: str) -> None:
    assert "vegeta encode" in str(refused(DATA / "vegeta" / name))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"aggregate": 1}', "no report of Artillery"),
        ('{"aggregate": {"counters": {}, "firstMetricAt": 1795446117471, "lastMetricAt": 1795446117471}}', "counts no http.requests"),
        ('{"url":"a","connections":1,"sampleInt":1,"pipelining":1}', "no result of autocannon (without 'requests')"),
        ('{"summary": {"successRate": 1, "total": -1}}', "total is -1"),
        ('{"metrics": {}}', "no summary of k6 (without 'http_req_duration')"),
        ('{"latencies":{"mean":1},"bytes_in":{}}', "no report of vegeta"),
        ("Running 4s test @ http://h/\n  x requests in 4s, 1KB read\n", "without its number of requests"),
        ('{"metrics": {', "is not JSON"),
    ],
)  # fmt: skip
def test_wrong_documents_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "r"
    path.write_text(text)
    assert problem in str(refused(path, **GIVEN))


def test_percentiles_of_ab_agree_with_its_requests() -> None:
    """A check of our own samples: what tools report is what their requests say, to their rounding."""
    rows = list(csv.reader(io.StringIO((DATA / "ab/catalog.tsv").read_text()), delimiter="\t"))[1:]
    exact = type_7([float(row[4]) for row in rows], 0.95)
    read = read_files(DATA / "ab/catalog.csv", requests=500, **GIVEN)
    assert one(read).p95_ms == pytest.approx(exact, abs=1)
