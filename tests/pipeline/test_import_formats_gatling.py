"""Gatling's results: the log as text and as bytes, request by request, and stats.json as the tool's own figures."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.result_files import (
    DATA,
    Result,
    check_percentiles,
    epoch_us,
    expected,
    read_files,
    refused,
)

VERSIONS = ["3.9", "3.15"]
ANSWERED_KO = ("status.find",)
STARTED = epoch_us("2026-11-23T14:54:58.706Z")


def of(version: str) -> Result:
    return read_files(DATA / "gatling" / version / "simulation.log")


def raw_text() -> list[list[str]]:
    lines = (DATA / "gatling/3.9/simulation.log").read_text().splitlines()
    return [line.split("\t") for line in lines if line.startswith("REQUEST")]


@pytest.mark.parametrize("version", VERSIONS)
def test_counts_failures_errors_and_times_are_exact(version: str) -> None:
    truth = expected("gatling", version, "simulation.log")
    result = of(version)
    assert result.read.totals() == (truth["requests"], truth["failures"])
    assert Counter("KO" if r.failed else "OK" for r in result.requests) == truth["statuses"]
    assert Counter(r.error for r in result.requests if r.failed) == truth["errors"]
    assert result.span() == (truth["first_start_utc"], truth["last_end_utc"])
    wanted: dict[str, tuple[int, int]] = {
        e["name"]: (e["requests"], e["failures"]) for e in truth["endpoints"]
    }
    assert {name: counts for (_, name), counts in result.counts().items()} == wanted
    facts = result.read.facts
    assert (facts.tool_version, facts.test) == (truth["header"]["version"], "lab.Shop")
    assert facts.load == "unknown"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_check_that_failed_was_answered_and_names_the_status(version: str) -> None:
    truth = expected("gatling", version, "simulation.log")
    wanted: Counter[str] = Counter()
    for message, count in truth["errors"].items():
        found = re.search(r"found (\d+)$", message)
        wanted[found[1] if found else "0"] += count
    wanted["ok"] = truth["statuses"]["OK"]
    assert result_statuses(version) == wanted
    for request in of(version).requests:
        assert (request.duration_ms is None) == (request.failed and not request.status)


def result_statuses(version: str) -> dict[str, int]:
    return of(version).read.statuses()


def test_percentiles_are_those_of_answers() -> None:
    answered: dict[tuple[str, str], list[float]] = {}
    for _, _, name, start, end, result, message in raw_text():
        values = answered.setdefault(("", name), [])
        if result == "OK" or message.startswith(ANSWERED_KO):
            values.append(int(end) - int(start))
    check_percentiles(of("3.9"), answered)


def test_percentiles_of_the_binary_log_where_all_were_answered_are_those_of_the_tool() -> None:
    truth = {e["name"]: e for e in expected("gatling", "3.15", "simulation.log")["endpoints"]}
    lines = of("3.15").tally.lines
    for name in ("search, by word", "GET /catalog/{id}", "POST /checkout", "moved", "nope"):
        assert lines["", name].latencies.quantiles((0.5, 0.95)) == pytest.approx(
            [truth[name]["p50_ms"], truth[name]["p95_ms"]]
        )


def test_stats_json_is_taken_as_reported_and_needs_its_time() -> None:
    path = DATA / "gatling/3.9/stats.json"
    error = refused(path)
    assert error.field == "--started"
    assert "does not say when it began" in str(error)
    result = read_files(path, started=STARTED)
    truth = expected("gatling", "3.9", "stats.json")["as_reported"]
    assert result.read.totals() == (truth["requests"], truth["failures"])
    assert result.read.facts.percentiles == "as_reported"
    assert result.requests == []
    reported = result.read.reported
    assert reported is not None
    log = expected("gatling", "3.9", "simulation.log")["endpoints"]
    assert {(e.name, e.requests, e.failed) for e in reported.endpoints} == {
        (e["name"], e["requests"], e["failures"]) for e in log
    }
    checkout = next(e for e in reported.endpoints if e.name == "POST /checkout")
    assert set(checkout.levels) == {0.5, 0.75, 0.95, 0.99}
    assert (reported.start_us, reported.end_us) == (STARTED, STARTED + 15_000_000)


@pytest.mark.parametrize("name", ["3.9/global_stats.json"])
def test_totals_are_refused_with_what_to_give(name: str) -> None:
    assert "simulation.log or stats.json" in str(refused(DATA / "gatling" / name))


RUN = "RUN\tlab.Shop\tshop\t1795445698706\t \t3.9.5\n"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("REQUEST\t\tGET /slow\t1795445700558\t1795445700500\tOK\t ", "end - start is -58"),
        ("REQUEST\t\tGET /slow\t1795445700558\tx\tOK\t ", "no epoch ms"),
        ("REQUEST\t\tGET /slow\t1795445700558\t1795445700600\tMAYBE\t ", "OK or KO"),
        ("REQUEST\tGET /slow\t1795445700600\tOK", "a request has 7"),
        ("hello", "no record of Gatling's log"),
    ],
)
def test_wrong_records_of_text_are_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "simulation.log"
    path.write_text(RUN + line + "\n")
    error = refused(path)
    assert problem in str(error)
    assert error.line == 2


def test_a_name_with_commas_and_blanks_and_an_older_layout_are_read(tmp_path: Path) -> None:
    path = tmp_path / "simulation.log"
    path.write_text(
        RUN
        + "REQUEST\ta,b\tsearch, by word\t1795445700558\t1795445700600\tOK\t \n"
        + "REQUEST\t7\ta,b\tsearch, by word\t1795445700558\t1795445700600\tKO\tPremature close\n"
    )
    first, second = read_files(path).requests
    assert (first.name, first.duration_ms) == ("search, by word", 42.0)
    assert (second.name, second.duration_ms, second.error) == (
        "search, by word",
        None,
        "Premature close",
    )


def binary(**changes: Any) -> bytes:
    """The sample's log with single bytes changed, by their places."""
    data = bytearray((DATA / "gatling/3.15/simulation.log").read_bytes())
    for place, value in changes.items():
        data[int(place[1:])] = value
    return bytes(data)


def test_a_binary_log_that_is_cut_off_gives_what_stands_before_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "simulation.log"
    path.write_bytes(binary()[:-3])
    result = read_files(path)
    assert result.read.totals()[0] in {1050, 1051}
    assert "is cut off: what stands before it was taken" in result.warnings
    path.write_bytes(binary()[:60])
    assert refused(path).field == "header"


@pytest.mark.parametrize(
    ("tail", "problem"),
    [
        (b"\x09", "unknown kind 9"),
        (b"\x01\x7f\xff\xff\xff", "2147483647 groups"),
        (b"\x01\x00\x00\x00\x00\xff\xff\x00\x00", "which none has"),
        (b"\x02\x00\x00\x00\x63\x01\x00\x00\x00\x00", "scenario that there is none of"),
    ],
)
def test_wrong_records_of_bytes_are_named(tmp_path: Path, tail: bytes, problem: str) -> None:
    path = tmp_path / "simulation.log"
    path.write_bytes(binary() + tail)
    error = refused(path)
    assert problem in str(error)
    assert error.field == "record 2700"
