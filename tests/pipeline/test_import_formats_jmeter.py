"""JMeter's results, CSV and XML: exchanges, not transactions nor parents; and ids that lie are dropped."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.pipeline.result_files import (
    DATA,
    Result,
    check_percentiles,
    expected,
    read_files,
    refused,
)

RUNS = ["default", "traced"]
FILES = [(run, name) for run in RUNS for name in ("results.jtl", "results.xml.gz")]
HEADER = (
    "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,failureMessage,"
    "bytes,sentBytes,grpThreads,allThreads,URL,Latency,IdleTime,Connect"
)


def of(run: str, name: str) -> Result:
    return read_files(DATA / "jmeter" / run / name)


def raw_exchanges(run: str) -> list[tuple[str, str, int, str | None]]:
    """Label, code, ms and trace id of every httpSample without one inside, by a whole tree."""
    with gzip.open(DATA / "jmeter" / run / "results.xml.gz") as file:
        root = ET.parse(file).getroot()  # noqa: S314 -- our own sample
    found = []
    for sample in root.iter("httpSample"):
        if sample.find("httpSample") is None:
            header = sample.findtext("requestHeader") or ""
            match = re.search("traceparent: 00-([0-9a-f]{32})-", header)
            found.append(
                (
                    sample.attrib["lb"],
                    sample.attrib["rc"],
                    int(sample.attrib["t"]),
                    match and match[1],
                )
            )
    return found  # fmt: skip


@pytest.mark.parametrize(("run", "name"), FILES)
def test_exchanges_failures_statuses_errors_and_times_are_exact(run: str, name: str) -> None:
    truth = expected("jmeter", run, "results.xml.gz")["http_exchanges"]
    result = of(run, name)
    assert result.read.totals() == (truth["requests"], truth["failures"])
    wanted = {k: n for k, n in truth["statuses"].items() if k != "Non HTTP"}
    assert result.statuses() == Counter(wanted | {"0": truth["statuses"]["Non HTTP"]})
    assert Counter(r.error for r in result.requests if not r.status) == truth["errors"]
    assert result.span() == (truth["first_start_utc"], truth["last_end_utc"])
    assert {name: counts for (_, name), counts in result.counts().items()} == {
        e["name"]: (e["requests"], e["failures"]) for e in truth["endpoints"]
    }


@pytest.mark.parametrize("run", RUNS)
def test_csv_differs_from_its_rows_by_transactions_and_redirect_parents_alone(run: str) -> None:
    truth = expected("jmeter", run, "results.jtl")
    result = of(run, "results.jtl")
    parents = next(e for e in truth["sampler_rows"]["endpoints"] if e["name"] == "moved")
    assert parents["requests"] == 30
    assert result.read.totals()[0] == truth["sampler_rows"]["requests"] - parents["requests"]
    assert "383 transactions and 30 samples that hold others" in result.warnings
    assert not any(r.name in {"moved", "find and buy"} for r in result.requests)


@pytest.mark.parametrize(("run", "name"), FILES)
def test_percentiles_are_those_of_answers(run: str, name: str) -> None:
    answered: dict[tuple[str, str], list[float]] = {}
    for label, code, elapsed, _ in raw_exchanges(run):
        values = answered.setdefault(("", label), [])
        if code.isdecimal():
            values.append(elapsed)
    check_percentiles(of(run, name), answered)


def test_the_request_header_of_the_xml_names_the_trace_of_every_exchange() -> None:
    result = of("traced", "results.xml.gz")
    wanted = Counter((label, trace) for label, _, _, trace in raw_exchanges("traced"))
    assert Counter((r.name, r.trace_id) for r in result.requests) == wanted
    joined = json.loads((DATA / "jmeter/expected.json").read_text())["runs"][1]["joined"]
    header = joined["results.xml.gz, http exchanges, traceparent inside requestHeader"]
    assert len({r.trace_id for r in result.requests}) == header["distinct_trace_ids"] == 963


def test_ids_of_the_csv_that_several_rows_carry_are_dropped_and_the_others_are_right() -> None:
    result = of("traced", "results.jtl")
    kept = [r for r in result.requests if r.trace_id]
    # As many as join one to one, and the 11 that were refused and have no span.
    assert len(kept) == 666 + 11
    assert len({r.trace_id for r in kept}) == len(kept)
    right = {trace: label for label, _, _, trace in raw_exchanges("traced")}
    assert all(right[r.trace_id] == r.name for r in kept)
    assert "286 rows carry a trace id that others carry too" in result.warnings


def test_one_id_for_rows_far_apart_is_noticed(tmp_path: Path) -> None:
    from mobius_pipeline.imports.formats.model import Facts
    from mobius_pipeline.imports.formats.shared_ids import drop_shared_ids

    base = of("traced", "results.xml.gz").requests[:50]
    rows = [r._replace(trace_id=f"{n % 40:032x}") for n, r in enumerate(base, 1)]
    facts = Facts()
    found = [r.trace_id for r in drop_shared_ids(rows, facts, near=5, remembered=1_000)]
    assert [bool(i) for i in found] == [True] * 40 + [False] * 10
    assert "long after the row that had the id first" in facts.warnings[1]
    everything = [r.trace_id for r in drop_shared_ids(rows, Facts(), near=100)]
    assert [bool(i) for i in everything] == [False] * 10 + [True] * 30 + [False] * 10


def row(**cells: object) -> str:
    values = {"timeStamp": 1795445424654, "elapsed": 20, "label": "a", "responseCode": 200, "threadName": "t 1-1",
              "success": "true", "URL": "http://h/a", "allThreads": 2}  # fmt: skip
    return ",".join(str((values | cells).get(name, "")) for name in HEADER.split(","))


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_a_parent_that_failed_alone_fails_its_last_hop(tmp_path: Path) -> None:
    parent = row(label="go", success="false", failureMessage="no cookie", elapsed=30)
    hops = [row(label="go-0", elapsed=10), row(label="go-1", timeStamp=1795445424664, elapsed=20)]
    other = row(threadName="t 1-2", label="b")
    path = write(tmp_path / "r", parent, other, hops[0], hops[1], row(timeStamp=1795445424700))
    result = read_files(path)
    assert sorted((r.name, r.failed, r.error) for r in result.requests) == [
        ("a", False, ""), ("b", False, ""), ("go-0", False, ""), ("go-1", True, "no cookie"),
    ]  # fmt: skip


def test_a_row_that_is_merely_called_so_is_no_hop(tmp_path: Path) -> None:
    later = row(label="a-0", timeStamp=1795445424674)
    assert [r.name for r in read_files(write(tmp_path / "r", row(), later)).requests] == [
        "a",
        "a-0",
    ]


def test_success_is_the_judge_and_an_assertion_can_fail_a_200(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r",
        row(success="false", failureMessage='"no, order number"'),
        row(timeStamp=1795445424754, responseCode=404),
    )
    first, second = read_files(path).requests
    assert (first.status, first.failed, first.error) == (200, True, "no, order number")
    assert (second.status, second.failed, second.duration_ms) == (404, False, 20.0)


@pytest.mark.parametrize(
    ("bad", "line", "problem"),
    [
        (row(timeStamp="23.11.2026 14:50"), 2, "timestamp_format"),
        (row(elapsed=-1), 2, "elapsed is -1"),
        (row(success="yes"), 2, "neither true nor false"),
        ("1795445424654,20", 2, "2 columns, the header 17"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, bad: str, line: int, problem: str) -> None:
    error = refused(write(tmp_path / "r", bad))
    assert problem in str(error)
    assert error.line == line


def test_without_urls_transactions_cannot_be_told(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("timeStamp,elapsed,label,responseCode,success\n1795445424654,1,a,200,true\n")
    assert "without URL" in str(refused(path))


def test_other_delimiters_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with (DATA / "jmeter/default/results.jtl").open(newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    assert read_files(path).read.totals() == (962, 80)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<testResults><httpSample t="1" ts="1795445424654" s="true" lb="a" rc="200">', "get the whole file"),
        ('<testResults><httpSample t="x" ts="1795445424654" s="true" lb="a" rc="200"/></testResults>', "no sample of JMeter's XML"),
        ('<testResults version="1.2">' + "<sample>" * 101, "inside 100 others"),
        ("<testResults></testResults>", "holds no requests"),
    ],
)  # fmt: skip
def test_wrong_xml_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "r"
    path.write_text(text)
    assert problem in str(refused(path))


def test_entities_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(
        '<?xml version="1.0"?><testResults><!-- --></testResults>'.replace(
            "<testResults>", '<testResults><httpSample lb="&a;"/>'
        )
    )
    assert "is not XML" in str(refused(path))


def test_a_closed_loop_says_how_much_it_may_hide() -> None:
    result = of("default", "results.jtl")
    assert (result.read.facts.load, result.read.facts.connections) == ("closed", 8)
    omission = result.read.omission()
    assert omission is not None
    assert omission.connections == 8
    assert omission.corrected_p99_ms >= omission.p99_ms
