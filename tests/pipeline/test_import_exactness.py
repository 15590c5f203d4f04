"""Every file that an expected.json names: counts, failures, statuses, errors, first start, last end, percentiles.

The figures of expected.json come from a plain script that shares no code with the importers. Its percentiles are over all
requests, an import's over answered ones: they must agree for every endpoint of which all requests were answered, and for
the others where the raw file is read here once more.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.pipeline.result_files import (
    DATA,
    Result,
    epoch_us,
    expected,
    read_files,
    refused,
    type_7,
)

URL = "http://127.0.0.1:8077"
WITHIN = 0.011
# What a file does not say. Where the time is the command's, it is added from expected.json.
GIVEN: dict[str, dict[str, Any]] = {
    "ab": {"method": "GET"},
    "autocannon": {"method": "GET"},
    "h2load": {"name": "GET all"},
    "hey": {"name": "GET all"},
    "wrk": {"name": "GET all"},
    "blackbox": {"method": "GET"},
    "vegeta": {"name": "GET all"},
}
TIMED = {"ab", "hey", "wrk"}
# Files that hold no run, with what their error says.
REFUSED = {
    "ab/./dead.txt": "ab gave up",
    "h2load/./catalog.txt": "--log-file",
    "h2load/./checkout.txt": "--log-file",
    "h2load/./mix.txt": "--log-file",
    "h2load/./dead.txt": "--log-file",
    "h2load/./dead.log": "could make no connection",
    "hey/./dead.csv": "no success",
    "wrk/./dead.txt": "",
    "gatling/3.9/global_stats.json": "totals of a run",
    "blackbox/./query_range-probe_duration_seconds.json": "/api/v1/query with",
    "blackbox/./query_range-probe_success.json": "/api/v1/query with",
}
# Not kept with the tests: a page for people, and a query_range of one more metric.
LEFT_OUT = {"gatling/3.15/index.html", "blackbox/./query_range-probe_http_duration_seconds.json"}
# Parts of a set that is read together, compared in the test of the set.
LOCUST_SET = {
    f"locust/./locust_{kind}.csv" for kind in ("stats", "stats_history", "failures", "exceptions")
}


def cases() -> Iterator[str]:
    for path in sorted(DATA.glob("*/expected.json")):
        for run in json.loads(path.read_text())["runs"]:
            yield from (f"{path.parent.name}/{run['folder']}/{name}" for name in run["files"])


def taken_apart(case: str) -> tuple[str, str, str]:
    tool, folder, name = case.split("/", 2)
    return tool, folder, name


def paths_of(case: str) -> list[Path]:
    tool, folder, name = taken_apart(case)
    path = DATA / tool / folder / name
    # ab's rows and percentiles need what it printed beside them.
    beside = [path.with_suffix(".txt")] if tool == "ab" and path.suffix != ".txt" else []
    return [path, *beside]


def given_of(case: str) -> dict[str, Any]:
    tool, folder, name = taken_apart(case)
    given = dict(GIVEN.get(tool, {}))
    if tool in TIMED:
        beside = name if tool != "ab" else f"{Path(name).stem}.txt"
        given["started"] = epoch_us(expected(tool, folder, beside)["command_started_utc"])
    if case in {"gatling/3.9/stats.json", "k6/plain/handle-summary.json", "k6/plain/summary-export.json",
                "k6/traced/handle-summary.json", "k6/traced/summary-export.json"}:  # fmt: skip
        given["started"] = epoch_us("2026-11-23T15:00:00Z")
    return given


def truth_of(case: str) -> dict[str, Any]:
    """What expected.json says of the requests of a file."""
    tool, folder, name = taken_apart(case)
    truth = expected(tool, folder, name)
    if tool == "jmeter":  # the rows of the CSV and the elements of the XML are the same exchanges
        truth = expected(tool, folder, "results.xml.gz")["http_exchanges"]
    return truth


@cache
def read_case(case: str) -> Result:
    return read_files(*paths_of(case), **given_of(case))


def test_every_file_of_every_expected_json_is_looked_at() -> None:
    named = set(cases())
    looked_at = {
        *BY_REQUEST,
        *REPORTED,
        *REFUSED,
        *LEFT_OUT,
        *LOCUST_SET,
        "blackbox/./probe/*.prom",
    }
    assert looked_at == named
    held = {
        str(path.relative_to(DATA))
        for path in DATA.rglob("*")
        if path.is_file()
        and path.name not in {"expected.json", "README.md"}
        and "spans" not in path.name
    }
    covered = {case.replace("/./", "/") for case in named - LEFT_OUT}
    assert {path for path in held if "/probe/" not in path and "expected" not in path} - covered <= {
        # what a tool says for people, which no expected.json counts
        "vegeta/hdrplot.txt", "vegeta/hist.txt", "vegeta/report.txt",
    }  # fmt: skip


# ---------------------------------------------------------------------------- requests one by one


BY_REQUEST = [
    *(f"ab/./{name}.tsv" for name in ("catalog", "checkout", "nope")),
    "blackbox/./federate.prom",
    "blackbox/./query-raw-samples.json",
    "gatling/3.15/simulation.log",
    "gatling/3.9/simulation.log",
    *(f"h2load/./{name}.log" for name in ("catalog", "checkout", "mix")),
    *(f"hey/./{name}.csv" for name in ("catalog", "checkout", "nope", "search")),
    *(f"jmeter/{run}/results.{form}" for run in ("default", "traced") for form in ("jtl", "xml.gz")),
    *(f"k6/{run}/results.{form}.gz" for run in ("plain", "traced") for form in ("json", "csv")),
    "locust/./stats.json",
    *(f"vegeta/./results.{form}.gz" for form in ("gob", "json", "csv")),
]  # fmt: skip


@pytest.mark.parametrize("case", BY_REQUEST)
def test_counts_statuses_errors_and_times_are_exact(case: str) -> None:
    tool, _, name = taken_apart(case)
    truth, result = truth_of(case), read_case(case)
    requests, failures = result.read.totals()
    if name == "federate.prom":  # 17 metrics each of 7 targets, one scrape of each
        assert (requests, truth["samples"]) == (7, 119)
        return
    assert requests == truth.get("requests", truth.get("probes"))
    if tool == "ab":
        said = expected("ab", ".", f"{Path(name).stem}.txt")["as_reported"]
        assert failures == said["non_2xx"]
    elif tool == "blackbox":
        assert failures == sum(endpoint["failures"] for endpoint in truth["endpoints"])
    else:
        assert failures == truth["failures"]
    check_statuses(case, truth, result)
    check_errors(case, truth, result)
    check_times(case, truth, result)


def check_statuses(case: str, truth: dict[str, Any], result: Result) -> None:
    wanted = Counter(truth.get("statuses", {}))
    for endpoint in truth["endpoints"] if case.startswith("blackbox") else []:
        wanted.update(endpoint.get("statuses", {}))
    wanted["0"] += wanted.pop("Non HTTP", 0)
    if {"OK", "KO"} & wanted.keys() or case.startswith(("locust", "ab")):
        return  # the file names no status
    if case.startswith("blackbox"):  # a TCP probe has no status
        assert Counter({k: v for k, v in result.read.statuses().items() if len(k) == 3}) == Counter(
            {k: v for k, v in wanted.items() if len(k) == 3}
        )
        return
    assert Counter(result.read.statuses()) == +wanted


def check_errors(case: str, truth: dict[str, Any], result: Result) -> None:
    wanted = truth.get("errors")
    if wanted is None:
        return
    found = result.read.errors()
    if case.startswith(("k6", "jmeter")):  # expected.json has those of requests without an answer
        found = dict(Counter(r.error for r in result.requests if not r.status))
    assert found == wanted


def check_times(case: str, truth: dict[str, Any], result: Result) -> None:
    tool, folder, name = taken_apart(case)
    facts, tally = result.read.facts, result.tally
    start = tally.start_us if facts.start_us is None else facts.start_us
    end = tally.end_us if facts.end_us is None else facts.end_us
    assert start is not None
    assert end is not None
    if tool == "hey":
        first = given_of(case)["started"] + round(truth["offset_s"][0] * 1e6)
        assert start == first
        rows = list(csv.DictReader((DATA / "hey" / name).open()))
        ends = [float(row["offset"]) + float(row["response-time"]) for row in rows]
        assert end == pytest.approx(given_of(case)["started"] + max(ends) * 1e6, abs=100)
    elif tool == "ab":
        assert start == epoch_us(truth["first_second_utc"])
        assert 0 <= end - epoch_us(truth["last_second_utc"]) < 1_000_000
    elif tool == "locust":
        assert start == min(epoch_us(e["first_utc"]) for e in truth["endpoints"])
        assert end == max(epoch_us(e["last_utc"]) for e in truth["endpoints"])
    elif tool == "blackbox":
        assert start == min(epoch_us(e["first_utc"]) for e in truth["endpoints"])
        assert end >= max(epoch_us(e["last_utc"]) for e in truth["endpoints"])
    elif tool == "k6" and "csv" in name:  # stamps to the second, or to the millisecond
        exact = expected("k6", folder, "results.json.gz")["last_end_utc"]
        unit = 1_000_000 if folder == "plain" else 1_000
        assert end == epoch_us(exact) // unit * unit
    else:
        assert (start, end) == (epoch_us(truth["first_start_utc"]), epoch_us(truth["last_end_utc"]))


@pytest.mark.parametrize("case", [c for c in BY_REQUEST if "federate" not in c])
def test_percentiles_of_wholly_answered_endpoints_are_those_of_expected_json(case: str) -> None:
    truth, result = truth_of(case), read_case(case)
    endpoints = truth.get("endpoints") or [truth | {"name": None}]
    compared = 0
    for endpoint in endpoints:
        if not wholly_answered(endpoint):
            continue
        shares = (0.5, 0.95)
        name = endpoint.get("name", endpoint.get("instance"))
        lines = [
            line
            for (_, own), line in result.tally.lines.items()
            if name is None or own == name or own == str(name).split("?")[0]
        ]
        if case.startswith("vegeta"):
            continue  # expected.json puts ids together, an import does so by production's routes; compared below
        assert len(lines) == 1, name
        wanted = [endpoint["p50_ms"], endpoint["p95_ms"]]
        assert lines[0].latencies.quantiles(shares) == pytest.approx(wanted, rel=WITHIN), name
        compared += 1
    assert compared or case.startswith("vegeta")


def wholly_answered(endpoint: dict[str, Any]) -> bool:
    statuses = endpoint.get("statuses", {})
    if statuses.keys() & {"0", "Non HTTP"} or not (
        endpoint.get("requests") or endpoint.get("probes")
    ):
        return False
    if "KO" in statuses:
        return all("found" in error for error in endpoint.get("errors", {}))
    return not ("legacy" in str(endpoint.get("name")) or "8099" in str(endpoint.get("instance")))


@pytest.mark.parametrize(
    "case", [c for c in BY_REQUEST if c.split("/")[0] in {"k6", "jmeter", "vegeta"}]
)
def test_percentiles_of_all_answered_requests_are_those_of_the_raw_file(case: str) -> None:
    tool, folder, _ = taken_apart(case)
    raw = {"k6": raw_k6, "jmeter": raw_jmeter, "vegeta": raw_vegeta}[tool](folder)
    answered = [ms for status, ms in raw if status.isdecimal() and status != "0"]
    found = [r.duration_ms for r in read_case(case).requests if r.duration_ms is not None]
    for share in (0.5, 0.95, 0.99):
        assert type_7(found, share) == pytest.approx(type_7(answered, share), rel=WITHIN)


def raw_k6(folder: str) -> list[tuple[str, float]]:
    with gzip.open(DATA / "k6" / folder / "results.csv.gz", "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric_name"] == "http_req_duration"]
    return [(row["status"], float(row["metric_value"])) for row in rows]


def raw_jmeter(folder: str) -> list[tuple[str, float]]:
    with gzip.open(DATA / "jmeter" / folder / "results.xml.gz") as file:
        tree = ET.parse(file)  # noqa: S314 -- a file of our own test data
    leaves = [e for e in tree.iter("httpSample") if e.find("httpSample") is None]
    return [(e.attrib["rc"], float(e.attrib["t"])) for e in leaves]


def raw_vegeta(_: str) -> list[tuple[str, float]]:
    with gzip.open(DATA / "vegeta/results.json.gz", "rt") as file:
        records = [json.loads(line) for line in file]
    return [(str(record["code"]), record["latency"] / 1e6) for record in records]


# ---------------------------------------------------------------------------- the tool's own figures


REPORTED = [
    *(f"ab/./{name}.{form}" for name in ("catalog", "checkout", "nope") for form in ("txt", "csv")),
    "artillery/./report.json",
    *(f"autocannon/./{name}.json" for name in ("catalog", "checkout", "dead", "nope")),
    "gatling/3.9/stats.json",
    "hey/./summary.txt",
    *(f"k6/{run}/{name}.json" for run in ("plain", "traced") for name in ("summary-export", "handle-summary")),
    "vegeta/./report.json",
    "wrk/./catalog.txt",
    "wrk/./mix.txt",
]  # fmt: skip


@pytest.mark.parametrize("case", REPORTED)
def test_reported_figures_are_taken_as_they_are_without_a_row(case: str) -> None:
    tool, folder, name = taken_apart(case)
    truth, result = truth_of(case), read_case(case)
    assert result.requests == []
    assert result.read.facts.percentiles == "as_reported"
    said = truth.get("as_reported", truth)
    if tool == "ab":  # -e has percentiles only
        said = expected(tool, folder, f"{Path(name).stem}.txt")["as_reported"] | truth
    requests, failures = result.read.totals()
    # Its dead.json counts none of those that were refused, but as errors.
    assert requests == said["requests"] + (said["errors"] if tool == "autocannon" else 0)
    assert failures == failures_said(tool, said)
    reported = result.read.reported
    assert reported is not None
    for level, wanted in levels_said(case, truth | said).items():
        levels = [e.levels.get(level) for e in reported.endpoints]
        assert any(found == pytest.approx(wanted, rel=WITHIN) for found in levels), level
    if statuses := said.get("statuses") or said.get("status_codes"):
        found = {k: v for k, v in result.read.statuses().items() if k.isdecimal() and k != "0"}
        assert found == {k: v for k, v in statuses.items() if k != "0"}


def failures_said(tool: str, said: dict[str, Any]) -> int:
    if "failures" in said:
        return int(said["failures"])
    if tool == "ab":
        return int(said["non_2xx"])
    if tool == "autocannon":
        return int(said["non2xx"] + said["errors"])
    if tool == "wrk":
        return int(said["non_2xx_3xx"])
    statuses = said.get("statuses") or said["status_codes"]
    answered = sum(n for code, n in statuses.items() if code != "0" and not "200" <= code < "400")
    return int(answered + statuses.get("0", 0) + sum(said.get("errors", {}).values()))


def levels_said(case: str, said: dict[str, Any]) -> dict[float, float]:
    """The tool's own percentiles in ms by share, where an import keeps those of the whole run."""
    if case.startswith("wrk"):
        return {float(k.rstrip("%")) / 100: ms for k, ms in said["percentiles_ms"].items()}
    if "p50_s" in said:
        return {0.5: said["p50_s"] * 1e3, 0.95: said["p95_s"] * 1e3}
    if case.startswith(("gatling", "k6", "artillery")):  # kept by endpoint
        return {
            level: ms for e in said.get("endpoints", []) for level, ms in levels_said("", e).items()
        }
    if not said["p50_ms"]:  # no answer: zeros that are no latencies
        return {}
    keys = {
        "p50_ms": 0.5,
        "p75_ms": 0.75,
        "p90_ms": 0.9,
        "p95_ms": 0.95,
        "p97_5_ms": 0.975,
        "p99_ms": 0.99,
    }
    return {level: said[key] for key, level in keys.items() if said.get(key)}


# ---------------------------------------------------------------------------- no run, sets and probes


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_file_that_holds_no_run_says_so(case: str) -> None:
    error = refused(*paths_of(case)[:1], **given_of(case))
    assert REFUSED[case] in str(error)
    assert error.file is not None


def test_locusts_csv_set_is_what_its_files_say() -> None:
    result = read_files(DATA / "locust/locust_stats.csv")
    truth = expected("locust", ".", "locust_stats.csv")
    history = expected("locust", ".", "locust_stats_history.csv")
    reported = result.read.reported
    assert reported is not None
    assert result.read.totals() == (truth["requests"], truth["failures"])
    assert (reported.start_us, reported.end_us) == (
        epoch_us(history["first_utc"]),
        epoch_us(history["last_utc"]),
    )
    assert {(e.method, e.name, e.requests, e.failed, e.p50_ms, e.p95_ms) for e in reported.endpoints} == {
        (e["method"], e["name"], e["requests"], e["failures"], e["p50_ms"], e["p95_ms"])
        for e in truth["endpoints"]
    }  # fmt: skip
    wanted: Counter[str] = Counter()
    for error in expected("locust", ".", "locust_failures.csv")["errors"]:
        wanted[error["error"]] += error["occurrences"]
    assert result.read.errors() == wanted
    assert reported.exceptions == expected("locust", ".", "locust_exceptions.csv")["count"]


def test_each_probe_is_one_request() -> None:
    truth = expected("blackbox", ".", "probe/*.prom")
    seen = 0
    for name, probes in truth.items():
        for probe in probes["each"]:
            asked = epoch_us(probe["asked_utc"])
            path = DATA / f"blackbox/probe/{name}.{asked // 1_000_000}.prom"
            result = read_files(path, started=asked, target=f"{URL}/{name}", method="GET")
            (request,) = result.requests
            status = max(0, probe.get("status") or 0)  # -1: the probe of a port has none
            answered = bool(status) or (probe["success"] and name == "tcp")
            assert (request.status, request.failed) == (status, not probe["success"])
            assert request.duration_ms == (
                pytest.approx(probe["ms"], rel=1e-6) if answered else None
            )
            assert request.start_us == asked
            assert request.end_us == pytest.approx(asked + probe["ms"] * 1000, abs=1)
            seen += 1
    assert seen == 21
