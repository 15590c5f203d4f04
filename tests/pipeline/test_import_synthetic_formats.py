"""Every sample file of k6 and Locust gives exactly what its expected.json says, figure by figure."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, open_sources
from mobius_pipeline.imports.formats.locust_csv import complete_set, read_set
from mobius_pipeline.imports.formats.locust_json import deal
from mobius_pipeline.imports.formats.model import Facts, Format, Request, nanoseconds
from mobius_pipeline.imports.formats.recognise import recognise
from mobius_pipeline.imports.synthetic_result import iso_us
from mobius_pipeline.imports.tally import Latencies, Tally

DATA = Path(__file__).parents[1] / "data" / "synthetic"
K6 = [(run, name) for run in ("plain", "traced") for name in ("results.json.gz", "results.csv.gz")]


def expected(tool: str, folder: str, name: str) -> dict[str, Any]:
    runs = json.loads((DATA / tool / "expected.json").read_text())["runs"]
    (run,) = [run for run in runs if run["folder"] == folder]
    found: dict[str, Any] = run["files"][name]
    return found


def read(path: Path) -> tuple[Tally, Facts, list[Request]]:
    tally, facts, requests = Tally(), Facts(), []
    with open_sources([path]) as (source,), Content.open(source) as content:
        reader = recognise(content)
        assert isinstance(reader, Format)
        for request in reader.read(content, facts):
            tally.add(request)
            requests.append(request)
    return tally, facts, requests


def type_7(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def raw_k6(run: str) -> Iterator[tuple[str, str, float, int]]:
    """Method, name, duration and status, by a way of reading that shares nothing with the importer."""
    with gzip.open(DATA / "k6" / run / "results.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["metric_name"] == "http_req_duration":
                yield row["method"], row["name"], float(row["metric_value"]), int(row["status"])


@pytest.mark.parametrize(("run", "name"), K6)
def test_k6_counts_failures_statuses_and_errors_are_exact(run: str, name: str) -> None:
    truth = expected("k6", run, name)
    tally, facts, requests = read(DATA / "k6" / run / name)
    assert len(requests) == truth["requests"]
    assert sum(r.failed for r in requests) == truth["failures"]
    assert Counter(str(r.status) for r in requests) == truth["statuses"]
    answered_not = [r for r in requests if r.status == 0]
    assert Counter(r.error for r in answered_not) == truth["errors"]
    assert all(r.duration_ms is None for r in answered_not)
    assert {
        (e["method"], e["name"]): (e["requests"], e["failures"]) for e in truth["endpoints"]
    } == {key: (line.requests, line.failed) for key, line in tally.lines.items()}
    assert facts.releases == {"1.4.0"}
    assert bool([r for r in requests if r.trace_id]) == (run == "traced")


@pytest.mark.parametrize("run", ["plain", "traced"])
def test_k6_json_start_and_end_are_exact_to_the_microsecond(run: str) -> None:
    truth = expected("k6", run, "results.json.gz")
    tally, _, _ = read(DATA / "k6" / run / "results.json.gz")
    assert tally.start_us is not None
    assert tally.end_us is not None
    assert iso_us(tally.start_us) == truth["first_start_utc"]
    assert iso_us(tally.end_us) == truth["last_end_utc"]


@pytest.mark.parametrize(("run", "resolution_us"), [("plain", 1_000_000), ("traced", 1_000)])
def test_k6_csv_times_are_those_of_json_to_the_unit_of_the_file(
    run: str, resolution_us: int
) -> None:
    exact, _, _ = read(DATA / "k6" / run / "results.json.gz")
    coarse, facts, _ = read(DATA / "k6" / run / "results.csv.gz")
    assert exact.end_us is not None
    assert coarse.end_us == exact.end_us // resolution_us * resolution_us
    assert bool(facts.warnings) == (resolution_us == 1_000_000)


@pytest.mark.parametrize(("run", "name"), K6)
def test_k6_percentiles_are_those_of_answered_requests(run: str, name: str) -> None:
    tally, _, _ = read(DATA / "k6" / run / name)
    answered: dict[tuple[str, str], list[float]] = {}
    for method, request, duration, status in raw_k6(run):
        answered.setdefault((method, request), [])
        if status:
            answered[method, request].append(duration)
    assert answered.keys() == tally.lines.keys()
    for key, values in answered.items():
        wanted = [type_7(values, share) for share in (0.5, 0.95, 0.99)] if values else [None] * 3
        found = tally.lines[key].latencies.quantiles((0.5, 0.95, 0.99))
        # The csv has six decimals.
        assert found == (pytest.approx(wanted, rel=1e-6) if values else wanted)
    truth = {(e["method"], e["name"]): e for e in expected("k6", run, name)["endpoints"]}
    whole = {key for key in truth if "0" not in truth[key]["statuses"]}
    assert len(whole) == 5
    for key in whole:
        assert tally.lines[key].latencies.quantiles((0.5, 0.95)) == pytest.approx(
            [truth[key]["p50_ms"], truth[key]["p95_ms"]], abs=1e-4
        )


def test_k6_time_stamps_of_csv_are_judged_by_value(tmp_path: Path) -> None:
    header = "metric_name,timestamp,metric_value,expected_response,method,name,status\n"
    stamps = {
        "1795446354": 1_795_446_354_000_000,
        "1795446354123": 1_795_446_354_123_000,
        "1795446354123456": 1_795_446_354_123_456,
        "1795446354123456789": 1_795_446_354_123_456,
        "2026-11-23T15:05:54Z": 1_795_446_354_000_000,
        "2026-11-23T16:05:54.123456789+01:00": 1_795_446_354_123_456,
    }
    for stamp, end_us in stamps.items():
        path = tmp_path / "k6.csv"
        path.write_text(header + f"http_req_duration,{stamp},2.5,true,GET,/a,200\n")
        _, _, (request,) = read(path)
        assert request.end_us == end_us, stamp
        assert request.end_us - request.start_us == 2500


def test_locust_json_is_exact_in_counts_times_and_percentiles() -> None:
    truth = expected("locust", ".", "stats.json")
    tally, facts, requests = read(DATA / "locust" / "stats.json")
    assert sum(r.requests for r in requests) == truth["requests"] == 1810
    assert sum(r.requests for r in requests if r.failed) == truth["failures"] == 236
    assert facts.percentiles == "all_requests"
    assert facts.start_us is not None
    assert facts.end_us is not None
    assert iso_us(facts.start_us) == min(e["first_utc"] for e in truth["endpoints"])
    assert iso_us(facts.end_us) == max(e["last_utc"] for e in truth["endpoints"])
    assert len(tally.lines) == len(truth["endpoints"])
    for endpoint in truth["endpoints"]:
        line = tally.lines[endpoint["method"], endpoint["name"]]
        assert (line.requests, line.failed) == (endpoint["requests"], endpoint["failures"])
        assert line.latencies.quantiles((0.5, 0.95)) == pytest.approx(
            [endpoint["p50_ms"], endpoint["p95_ms"]], abs=1e-4
        )


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    cuts=st.lists(st.floats(0, 1), max_size=5),
)
def test_dealing_keeps_both_counts_and_gives_every_cell_the_same_distribution(
    counts: list[int], cuts: list[float]
) -> None:
    total = sum(counts)
    edges = sorted({0, total, *(int(cut * total) for cut in cuts)})
    cells = [(i, b - a) for i, (a, b) in enumerate(itertools.pairwise(edges))]
    histogram: list[tuple[float | None, int]] = [(float(i), n) for i, n in enumerate(counts)]
    dealt = deal(histogram, cells)
    for cell, size in cells:
        assert sum(n for (c, _), n in dealt.items() if c == cell) == size
    seen = 0
    for value, count in histogram:
        assert sum(n for (_, v), n in dealt.items() if v == value) == count
        seen += count
        for cell, size in cells:
            here = sum(
                n
                for (c, v), n in dealt.items()
                if c == cell and v is not None and value is not None and v <= value
            )
            assert abs(here - size * seen / total) <= len(cells)


LOCUST_CSV = ["stats", "stats_history", "failures", "exceptions"]


@pytest.mark.parametrize("given_kind", LOCUST_CSV)
def test_locust_csv_set_is_found_from_any_of_its_files(given_kind: str) -> None:
    with open_sources([DATA / "locust" / f"locust_{given_kind}.csv"]) as (source,):
        with Content.open(source) as content:
            kind = recognise(content)
        assert kind == given_kind
        files = complete_set({kind: source})
    assert sorted(files) == sorted(LOCUST_CSV)


def test_locust_csv_set_says_what_its_files_say_and_that_it_stops_short() -> None:
    with open_sources([DATA / "locust" / f"locust_{kind}.csv" for kind in LOCUST_CSV]) as sources:
        files = dict(zip(LOCUST_CSV, sources, strict=True))
        contents = {kind: Content(s, s.path.open("rb")) for kind, s in files.items()}
        run = read_set(contents)  # type: ignore[arg-type]  # the keys are the literals
    stats, history = (expected("locust", ".", f"locust_{kind}.csv") for kind in LOCUST_CSV[:2])
    assert sum(e.requests or 0 for e in run.endpoints) == stats["requests"] == 1738
    assert sum(e.failed or 0 for e in run.endpoints) == stats["failures"] == 227
    assert {
        (e.method, e.name): (e.requests, e.failed, e.p50_ms, e.p95_ms) for e in run.endpoints
    } == {
        (e["method"], e["name"]): (e["requests"], e["failures"], e["p50_ms"], e["p95_ms"])
        for e in stats["endpoints"]
    }
    assert iso_us(run.start_us) == history["first_utc"]
    assert iso_us(run.end_us) == history["last_utc"]
    failures = expected("locust", ".", "locust_failures.csv")
    assert [dict(e) for e in run.errors] == [
        {
            "method": e["method"],
            "name": e["name"],
            "error": e["error"],
            "requests": e["occurrences"],
        }
        for e in failures["errors"]
    ]
    assert run.exceptions == expected("locust", ".", "locust_exceptions.csv")["count"]
    assert "fewer requests than were made" in run.warnings[0]
    assert len(run.warnings) == 1


def test_locust_csv_alone_says_which_file_it_misses(tmp_path: Path) -> None:
    shutil.copy(DATA / "locust" / "locust_stats.csv", tmp_path)
    with (
        open_sources([tmp_path / "locust_stats.csv"]) as (source,),
        pytest.raises(UsageError) as caught,
    ):
        complete_set({"stats": source})
    assert "*_stats_history.csv" in str(caught.value)


# ---------------------------------------------------------------------------- our listener

HEADER = {"mobius_synthetic": 1, "kind": "run", "tool": "locust", "tool_version": "2.47.0", "test": "smoke",
          "run": "smoke-1", "started": "2026-11-23T15:00:00Z"}  # fmt: skip
ANSWERED = {"start": "2026-11-23T15:00:01.000250Z", "duration_ms": 12.5, "method": "GET", "name": "/a",
            "url": "http://h/a?q=1", "status": 200, "failed": False, "error": None, "trace_id": "0a" * 16,
            "span_id": "0b" * 8}  # fmt: skip
REFUSED = ANSWERED | {"duration_ms": None, "status": None, "failed": True, "error": "refused"}
END = {"kind": "end", "ended": "2026-11-23T15:00:02Z", "requests": 2, "failed": 1}


def listener(path: Path, *records: dict[str, Any] | str) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_listener_lines_are_requests(tmp_path: Path) -> None:
    path = listener(tmp_path / "r.jsonl", HEADER, ANSWERED, REFUSED, END)
    tally, facts, (first, second) = read(path)
    assert (facts.run, facts.test, facts.tool_version, facts.warnings) == (
        "smoke-1",
        "smoke",
        "2.47.0",
        [],
    )
    assert (first.duration_ms, first.status, first.failed) == (12.5, 200, False)
    assert first.end_us - first.start_us == 12_500
    assert first.start_us == nanoseconds("2026-11-23T15:00:01.00025Z") // 1000
    assert (second.duration_ms, second.status, second.failed, second.error) == (
        None,
        0,
        True,
        "refused",
    )
    assert tally.lines["GET", "/a"].requests == 2


def test_a_run_that_was_cut_off_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    path = listener(tmp_path / "r.jsonl", HEADER, ANSWERED, REFUSED)
    with path.open("a") as file:
        file.write('{"start": "2026-')
    _, facts, requests = read(path)
    assert len(requests) == 2
    assert "was cut off" in facts.warnings[0]


@pytest.mark.parametrize(
    ("records", "line", "problem"),
    [
        ([HEADER, "{", ANSWERED, END], 2, "is not JSON"),
        ([HEADER, ANSWERED, "{"], 3, "is not JSON"),
        ([HEADER, ANSWERED, END], 3, "lines are missing"),
        ([HEADER, ANSWERED | {"duration_ms": -1}, END], 2, "duration_ms is -1"),
        ([HEADER, ANSWERED | {"start": "yesterday"}, END], 2, "no RFC 3339 time"),
        ([HEADER, {"method": "GET"}, END], 2, "without 'duration_ms'"),
        ([HEADER, ANSWERED, REFUSED, END, ANSWERED], 5, "follows the end"),
        ([HEADER | {"mobius_synthetic": 2}, END], 1, "version 2"),
        ([HEADER, "[1]"], 2, "an object was expected"),
    ],
)
def test_wrong_listener_lines_are_named(
    tmp_path: Path, records: list[Any], line: int, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(listener(tmp_path / "r.jsonl", *records))
    assert problem in str(caught.value)
    assert caught.value.line == line


# ---------------------------------------------------------------------------- what is none of these


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("locust/server-spans.otlp.jsonl.gz", "import spans"),
        ("locust/expected.json", "no result file"),
    ],
)
def test_other_files_are_refused_with_what_to_do(path: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read(DATA / path)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('{"type":"Metric","metric":"a"}\nnot json\n', 2, "is not JSON"),
        ('{"type":"Metric","metric":"a"}\n{"type":"Point","metric":"http_req_duration","data":{}}\n', 2, "no k6 sample"),
        ('{"type":"Metric","metric":"a"}\n[]\n', 2, "no k6 sample"),
        ("metric_name,timestamp,metric_value,method,name,status\nhttp_req_duration,x,1,GET,/,200\n", 2, "no k6 CSV"),
        ("metric_name,timestamp,metric_value,method,name,status\nhttp_req_duration,1,1\n", 2, "3 columns"),
        ("metric_name,timestamp,metric_value,method,name,status\nhttp_req_duration,1795446354,-1,GET,/,200\n", 2, "is -1"),
        ("metric_name,timestamp,metric_value\n", 1, "without method, name, status"),
        ('[{"name":"/a","num_requests":1}]', 1, "without 'num_failures'"),
    ],
)  # fmt: skip
def test_wrong_lines_of_tools_are_named(tmp_path: Path, text: str, line: int, problem: str) -> None:
    path = tmp_path / "results"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read(path)
    assert problem in str(caught.value)
    assert caught.value.line == line


@given(
    single=st.lists(st.floats(0, 1e6), max_size=30),
    counted=st.dictionaries(st.floats(0, 1e6), st.integers(2, 9), max_size=8),
    share=st.floats(0, 1),
)
def test_quantiles_are_linear_interpolation_over_every_request(
    single: list[float], counted: dict[float, int], share: float
) -> None:
    latencies = Latencies()
    for value in single:
        latencies.add(value)
    for value, requests in counted.items():
        latencies.add(value, requests)
    values = array("d", single)
    for value, requests in counted.items():
        values.extend([value] * requests)
    wanted = type_7(values, share) if values else None
    assert latencies.quantiles([share])[0] == pytest.approx(wanted)
