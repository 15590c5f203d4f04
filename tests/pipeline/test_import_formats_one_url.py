"""h2load, hey and ab: files about one URL, which do not say what it was, nor always when."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mobius_pipeline.imports.formats import recognise
from mobius_pipeline.imports.formats.h2load import is_h2load_log
from mobius_pipeline.imports.formats.hey import HEY_CSV
from tests.pipeline.result_files import (
    DATA,
    Result,
    check_percentiles,
    epoch_us,
    expected,
    read_files,
    refused,
)

URL = "http://127.0.0.1:8077/catalog/5"
GIVEN: dict[str, Any] = {"url": URL, "method": "GET"}
KEY = ("GET", URL)


def started(tool: str, name: str) -> int:
    return epoch_us(expected(tool, ".", name)["command_started_utc"])


# ---------------------------------------------------------------------------- what the caller must say


@pytest.mark.parametrize(
    ("path", "given", "field", "asked"),
    [
        ("h2load/catalog.log", {}, "--url", ["--url, or --name", "--method"]),
        ("h2load/catalog.log", {"url": URL}, "--method", ["--method"]),
        ("hey/catalog.csv", {}, "--started", ["--started", "--url, or --name", "--method"]),
        ("hey/catalog.csv", {"started": 1, **GIVEN}, None, ["before the year 2000"]),
        ("hey/catalog.csv", {"started": 10**15, "name": "GET a", "method": "POST"}, "--method", ["another method"]),
        ("hey/summary.txt", {"url": URL}, "--started", ["--started", "--method"]),
        ("ab/catalog.tsv", {"method": "GET"}, "--url", ["--url, or --name"]),
        ("ab/catalog.txt", {}, "--started", ["--started", "--method"]),
        ("ab/catalog.txt", {"started": 10**15, "method": "GET", "url": "http://other/"}, "--url", ["is about " + URL, "leave --url out"]),
        ("ab/catalog.csv", {"started": 10**15, **GIVEN}, "--requests", ["--requests"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_asked_for_at_once(
    path: str, given: dict[str, Any], field: str | None, asked: list[str]
) -> None:
    error = refused(DATA / path, **given)
    assert error.field == field
    assert all(text in str(error) for text in asked), str(error)


def test_a_url_may_begin_with_its_method_and_a_name_needs_none() -> None:
    path = DATA / "h2load/mix.log"
    assert read_files(path, url=f"POST {URL}").counts().keys() == {("POST", URL)}
    assert read_files(path, name="mix").counts().keys() == {("", "mix")}


def test_what_a_file_has_no_need_of_is_said() -> None:
    result = read_files(DATA / "h2load/catalog.log", started=10**15, target="t", **GIVEN)
    assert "--started, --target was not used: h2load-log says that itself" in result.warnings


# ---------------------------------------------------------------------------- h2load


@pytest.mark.parametrize("name", ["catalog.log", "checkout.log", "mix.log"])
def test_h2load_is_exact(name: str) -> None:
    truth = expected("h2load", ".", name)
    result = read_files(DATA / "h2load" / name, **GIVEN)
    assert result.read.totals() == (truth["requests"], truth["failures"])
    assert result.statuses() == truth["statuses"]
    assert result.span() == (truth["first_start_utc"], truth["last_end_utc"])
    lines = (DATA / "h2load" / name).read_text().splitlines()
    check_percentiles(result, {KEY: [int(line.split("\t")[2]) / 1000 for line in lines]})
    assert result.tally.lines[KEY].latencies.quantiles((0.5, 0.95)) == pytest.approx(
        [truth["p50_ms"], truth["p95_ms"]], abs=1e-3
    )
    assert result.read.facts.load == "closed"


def test_h2load_counts_as_many_connections_as_it_was_run_with() -> None:
    for name, clients in (("catalog.log", 4), ("mix.log", 3)):
        omission = read_files(DATA / "h2load" / name, **GIVEN).read.omission()
        assert omission is not None
        assert omission.connections == clients


def test_a_request_that_failed_on_the_wire_has_no_latency(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("1795445988908162\t-1\t5771\n1795445988908162\t200\t5771\n")
    first, second = read_files(path, **GIVEN).requests
    assert (first.status, first.failed, first.duration_ms) == (0, True, None)
    assert (second.status, second.failed, second.duration_ms) == (200, False, 5.771)


def test_a_wrong_line_is_named_and_an_empty_log_is_no_success(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("1795445988908162\t200\t5771\nx\n")
    assert refused(path, **GIVEN).line == 2
    assert "could make no connection" in str(refused(DATA / "h2load/dead.log"))
    assert "--log-file" in str(refused(DATA / "h2load/dead.txt"))


# ---------------------------------------------------------------------------- hey


@pytest.mark.parametrize("name", ["catalog.csv", "checkout.csv", "nope.csv", "search.csv"])
def test_hey_is_exact(name: str) -> None:
    truth = expected("hey", ".", name)
    began = started("hey", name)
    result = read_files(DATA / "hey" / name, started=began, **GIVEN)
    assert result.read.totals() == (truth["requests"], truth["failures"])
    assert result.statuses() == truth["statuses"]
    offsets = [r.start_us - began for r in result.requests]
    assert [min(offsets), max(offsets)] == [round(s * 1e6) for s in truth["offset_s"]]
    with (DATA / "hey" / name).open() as file:
        rows = list(csv.DictReader(file))
    check_percentiles(result, {KEY: [float(r["response-time"]) * 1000 for r in rows]})
    assert "no row for a request without an answer" in result.warnings


def test_hey_without_a_row_is_no_success() -> None:
    error = refused(DATA / "hey/dead.csv", started=10**15, **GIVEN)
    assert "holds no answer, and that is no success" in str(error)


def test_the_summary_of_hey_is_taken_as_reported() -> None:
    truth = expected("hey", ".", "summary.txt")["as_reported"]
    began = started("hey", "summary.txt")
    result = read_files(DATA / "hey/summary.txt", started=began, **GIVEN)
    reported = result.read.reported
    assert reported is not None
    assert result.read.totals() == (truth["requests"], 0)
    assert result.read.statuses() == truth["statuses"]
    (endpoint,) = reported.endpoints
    assert (endpoint.p50_ms, endpoint.p95_ms) == (truth["p50_s"] * 1000, truth["p95_s"] * 1000)
    assert set(endpoint.levels) == {0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99}
    assert reported.end_us - reported.start_us == 1_262_500


def test_errors_of_the_summary_of_hey_are_failed_requests(tmp_path: Path) -> None:
    path = tmp_path / "r"
    text = (DATA / "hey/summary.txt").read_text()
    refusal = 'Get "http://127.0.0.1:8099/legacy?q=1": dial tcp 127.0.0.1:8099: connect: refused'
    path.write_text(text + f"Error distribution:\n  [7]\t{refusal}\n")
    read = read_files(path, started=10**15, **GIVEN).read
    assert read.totals() == (107, 7)
    assert read.statuses() == {"0": 7, "200": 100}
    assert read.errors() == {'Get "…": dial tcp 127.0.0.1:8099: connect: refused': 7}


# ---------------------------------------------------------------------------- ab


@pytest.mark.parametrize("name", ["catalog", "checkout", "nope"])
def test_ab_g_is_exact_and_its_text_counts_failures_but_no_other_lengths(name: str) -> None:
    truth = expected("ab", ".", f"{name}.tsv")
    text = expected("ab", ".", f"{name}.txt")["as_reported"]
    folder = DATA / "ab"
    alone = read_files(folder / f"{name}.tsv", **GIVEN)
    assert alone.read.totals() == (truth["requests"], 0)
    assert "give the text that ab printed" in alone.warnings
    both = read_files(folder / f"{name}.txt", folder / f"{name}.tsv", method="GET")
    assert both.read.totals() == (truth["requests"], text["non_2xx"])
    assert both.read.facts.percentiles == "answered"
    ((_, url),) = both.counts()
    assert url == "http://127.0.0.1:8077" + text["path"]
    rows = [line.split("\t") for line in (folder / f"{name}.tsv").read_text().splitlines()[1:]]
    check_percentiles(both, {("GET", url): [float(row[4]) for row in rows]})
    seconds = sorted({r.start_us for r in both.requests})
    assert seconds[0] == epoch_us(truth["first_second_utc"])
    assert seconds[-1] == epoch_us(truth["last_second_utc"])
    assert both.read.digest != alone.read.digest
    assert both.read.omission() is None


def test_failures_are_spread_over_the_durations() -> None:
    folder = DATA / "ab"
    failed = [r.failed for r in read_files(folder / "checkout.tsv", folder / "checkout.txt", method="POST").requests]  # fmt: skip
    assert [i for i, value in enumerate(failed) if value] == [74, 224]


@pytest.mark.parametrize("name", ["catalog", "checkout", "nope"])
def test_the_text_of_ab_is_taken_as_reported(name: str) -> None:
    truth = expected("ab", ".", f"{name}.txt")["as_reported"]
    began = started("ab", f"{name}.txt")
    read = read_files(DATA / "ab" / f"{name}.txt", started=began, method="GET").read
    assert read.totals() == (truth["requests"], truth["non_2xx"])
    assert read.reported is not None
    (endpoint,) = read.reported.endpoints
    assert (endpoint.p50_ms, endpoint.p95_ms) == (truth["p50_ms"], truth["p95_ms"])
    assert read.reported.end_us - began == round(truth["seconds"] * 1e6)


@pytest.mark.parametrize("name", ["catalog", "checkout", "nope"])
def test_the_percentiles_of_ab_get_their_count_from_its_text(name: str) -> None:
    truth = expected("ab", ".", f"{name}.csv")
    text = expected("ab", ".", f"{name}.txt")["as_reported"]
    paths = [DATA / "ab" / f"{name}.csv", DATA / "ab" / f"{name}.txt"]
    read = read_files(*paths, started=10**15, method="GET").read
    assert read.totals() == (text["requests"], text["non_2xx"])
    assert read.reported is not None
    (endpoint,) = read.reported.endpoints
    assert (endpoint.p50_ms, endpoint.p95_ms) == (truth["p50_ms"], truth["p95_ms"])
    assert len(endpoint.levels) == truth["rows"]
    assert max(endpoint.levels) * 100 == truth["highest"]
    alone = read_files(paths[0], started=10**15, requests=77, **GIVEN).read
    assert alone.totals() == (77, 0)


def test_files_of_two_runs_and_of_none_are_refused() -> None:
    folder = DATA / "ab"
    error = refused(folder / "catalog.tsv", folder / "checkout.txt", method="GET")
    assert "they are of two runs" in str(error)
    assert "a run is imported at a time" in str(
        refused(folder / "catalog.tsv", folder / "catalog.csv", method="GET")
    )
    assert "Connection refused" in str(refused(folder / "dead.txt"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("starttime\tseconds\tctime\tdtime\tttime\twait\nMon\t1795446032\t0\t2\t-2\t2\n", "ttime is -2"),
        ("starttime\tseconds\tctime\tdtime\tttime\twait\nMon\tx\t0\t2\t2\t2\n", "no row of ab's -g file"),
        ("Percentage served,Time in ms\n0,1\n200,1\n", "200 % served"),
        ("This is ApacheBench, Version 2.3\nComplete requests: 5\n", "without"),
        (f"This is ApacheBench\n (Connect: 0, Receive: 0, Length: {2**64}, Exceptions: 0)\n", "no count"),
        (f"This is ApacheBench\n  50%  {10**30}\n", "31 days"),
    ],
)  # fmt: skip
def test_wrong_rows_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "r"
    path.write_text(text)
    assert problem in str(refused(path, started=10**15, requests=5, **GIVEN))


def test_what_no_tool_writes_is_refused_with_all_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("hello, world\n")
    error = str(refused(path))
    assert "known formats: k6-json" in error
    assert "with start, duration_ms" in error


def test_what_could_be_two_formats_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = (*recognise._SIGNS, (HEY_CSV, is_h2load_log))
    monkeypatch.setattr(recognise, "_SIGNS", signs)
    path = DATA / "h2load/catalog.log"
    error = refused(path, **GIVEN)
    assert "could be h2load-log or hey-csv: say which it is" in str(error)
    assert error.field == "--format"
    assert read_files(path, wanted="h2load-log", **GIVEN).read.totals()[0] == 500


def test_a_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jtl"
    path.write_bytes((DATA / "hey/nope.csv").read_bytes())
    result: Result = read_files(path, started=10**15, **GIVEN)
    assert result.read.format == "hey-csv"
    assert Counter(r.status for r in result.requests) == {404: 20}
    assert json.loads(json.dumps(result.read.statuses())) == {"404": 20}
