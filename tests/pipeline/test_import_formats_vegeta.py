"""vegeta's results: gob, JSON and CSV are the same run, and code 0 is no answer."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mobius_pipeline.imports.formats.gob import GobError, Stream
from tests.pipeline.result_files import (
    DATA,
    Result,
    check_percentiles,
    expected,
    read_files,
    refused,
)

NAMES = ["results.gob.gz", "results.json.gz", "results.csv.gz"]


def of(name: str) -> Result:
    return read_files(DATA / "vegeta" / name)


def raw() -> list[dict[str, Any]]:
    with gzip.open(DATA / "vegeta/results.json.gz", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("name", NAMES)
def test_counts_failures_statuses_errors_and_times_are_exact(name: str) -> None:
    truth = expected("vegeta", ".", name)
    result = of(name)
    assert result.read.totals() == (truth["requests"], truth["failures"])
    assert result.statuses() == truth["statuses"]
    assert Counter(r.error for r in result.requests if r.error) == truth["errors"]
    assert result.span() == (truth["first_start_utc"], truth["last_end_utc"])
    assert all((r.duration_ms is None) == (r.status == 0) for r in result.requests)
    assert (result.read.facts.test, result.read.facts.load) == ("shop-a", "open")


@pytest.mark.parametrize("name", NAMES)
def test_percentiles_are_those_of_answers_by_method_and_path(name: str) -> None:
    answered: dict[tuple[str, str], list[float]] = {}
    for record in raw():
        key = (record["method"], record["url"].split("?")[0])
        values = answered.setdefault(key, [])
        if record["code"]:
            values.append(record["latency"] / 1e6)
    check_percentiles(of(name), answered)


@pytest.mark.parametrize("name", NAMES)
def test_trace_ids_are_those_of_the_answers_headers(name: str) -> None:
    wanted = Counter(
        record["headers"]["Traceresponse"][0].split("-")[1] for record in raw() if record["headers"]
    )
    found = Counter(r.trace_id for r in of(name).requests if r.trace_id)
    joined = json.loads((DATA / "vegeta/expected.json").read_text())["runs"][0]["joined"]
    assert found == wanted
    assert len(found) == joined["distinct_trace_ids"] == 876


def test_the_three_forms_hold_the_same_requests() -> None:
    first, *others = (sorted(of(name).requests, key=lambda r: r[:4]) for name in NAMES)
    assert all(first == other for other in others)


def test_no_query_is_kept() -> None:
    assert not any("?" in r.name or "?" in r.error for r in of("results.gob.gz").requests)


def test_another_offset_from_utc_is_the_same_moment(tmp_path: Path) -> None:
    record = raw()[0]
    record["timestamp"] = datetime.fromisoformat("2026-11-23T18:06:42.224255+03:00").isoformat()
    path = tmp_path / "r"
    path.write_text(json.dumps(record))
    assert read_files(path).span()[0] == "2026-11-23T15:06:42.224255Z"


LINE = '{"attack":"","seq":0,"code":200,"timestamp":"2026-11-23T15:06:42Z","latency":%s,"method":"GET","url":"/a"}\n'


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (LINE % 1 + LINE % -1, 2, "latency is -"),
        (LINE % 1 + LINE % '"x"', 2, "no result of vegeta"),
        (LINE % 1 + "{}\n", 2, "without 'timestamp'"),
        (LINE % 1 + "[]\n", 2, "an object was expected"),
        ("1795446402224255427,200,1,0,0,\n", 1, "6 columns, vegeta's CSV 12"),
        ("1795446402224255427,200,1,0,0,,,a,0,GET,/a,???\n", 1, "no base64"),
        ("1795446402224255427,200,1,0,0,,,a,0,GET,/a,\nx,200,1,0,0,,,a,0,GET,/a,\n", 2, "no result of vegeta"),
    ],
)  # fmt: skip
def test_wrong_lines_are_named(tmp_path: Path, text: str, line: int, problem: str) -> None:
    path = tmp_path / "r"
    path.write_text(text)
    error = refused(path)
    assert problem in str(error)
    assert error.line == line


def test_large_bodies_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(f"1795446402224255427,200,1000000,0,0,,{'QUJD' * 100_000},a,0,GET,/a,\n")
    (request,) = read_files(path).requests
    assert request.duration_ms == 1.0


def test_a_gob_that_is_cut_off_names_its_record(tmp_path: Path) -> None:
    data = gzip.decompress((DATA / "vegeta/results.gob.gz").read_bytes())
    path = tmp_path / "r"
    path.write_bytes(data[:-10])
    error = refused(path)
    assert "get the whole file" in str(error)
    assert error.field == "record 900"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x02\x02\x00", "no struct that was defined"),
        (b"\x80", "over 8 bytes"),
        (b"\xfc\x7f\xff\xff\xff", "a message of"),
        (b"\xfe\x01", "inside a length"),
        (b"\x05\x02", "inside a record"),
        (b"\x02\x01\x09", "no known kind"),
    ],
)
def test_bytes_that_are_no_gob_are_refused(data: bytes, problem: str) -> None:
    rest = [data]

    def read(size: int) -> bytes:
        found, rest[0] = rest[0][:size], rest[0][size:]
        return found

    with pytest.raises(GobError, match=problem):
        list(Stream(read).values())
