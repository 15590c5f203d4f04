"""The form for every other tool: what its columns mean, and that whatever is wrong is named by file, line and field."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_pipeline.imports.formats import plain
from mobius_pipeline.imports.formats.recognise import FORMATS
from tests.pipeline.result_files import read_files, refused

CSV = """start,duration_ms,method,name,status,failed,error,trace_id
2026-11-23T15:00:01.000250Z,12.5,get,/catalog/7?q=1,200,,,0af7651916cd43dd8448eb211c80319c
2026-11-23T16:00:02+01:00,3000,GET,"search, by word",,,"time-out: http://h/a?token=1",
2026-11-23T15:00:03Z,,POST,/checkout,,true,refused,
2026-11-23T15:00:04Z,8.25,POST,/checkout,404,false,,00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
"""
ROW = {
    "start": "2026-11-23T15:00:01Z",
    "duration_ms": 12.5,
    "method": "GET",
    "name": "/a",
    "status": 200,
}


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "results"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_json(text: str) -> str:
    """The same rows as JSON lines."""
    rows = csv.DictReader(io.StringIO(text))
    typed: dict[str, Callable[[str], Any]] = {
        "duration_ms": float,
        "status": int,
        "failed": lambda t: t == "true",
    }
    return lines(
        *({k: None if not v else typed.get(k, str)(v) for k, v in row.items()} for row in rows)
    )


@pytest.mark.parametrize("form", ["plain-csv", "plain-json"])
def test_rows_are_requests(tmp_path: Path, form: str) -> None:
    result = read_files(write(tmp_path, CSV if form == "plain-csv" else as_json(CSV)))
    assert (result.read.format, result.read.tool) == (form, "plain")
    first, slow, dead, lost = result.requests
    assert first.start_us == 1_795_446_001_000_250
    assert first.end_us - first.start_us == 12_500
    assert (first.method, first.name, first.status, first.failed) == (
        "GET",
        "/catalog/7",
        200,
        False,
    )
    assert first.trace_id == "0af7651916cd43dd8448eb211c80319c"
    # It waited three seconds for an answer that did not come: that is its end, and no latency.
    assert (slow.start_us, slow.end_us) == (1_795_446_002_000_000, 1_795_446_005_000_000)
    assert (slow.duration_ms, slow.status, slow.failed, slow.name) == (
        None,
        0,
        True,
        "search, by word",
    )
    assert slow.error == "time-out: …"
    assert (dead.duration_ms, dead.failed, dead.error) == (None, True, "refused")
    assert (lost.duration_ms, lost.status, lost.failed) == (8.25, 404, False)
    assert lost.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert result.read.totals() == (4, 2)
    assert result.read.statuses() == {"0": 2, "200": 1, "404": 1}


@pytest.mark.parametrize(
    ("time", "duration", "start_us", "ms"),
    [
        ({"start_epoch_s": 1795446001.000250}, {"duration_s": 0.0081}, 1_795_446_001_000_250, 8.1),
        ({"start_epoch_ms": 1795446001000.25}, {"duration_us": 8100}, 1_795_446_001_000_250, 8.1),
        ({"start_epoch_us": 1795446001000250}, {"duration_ns": 8_100_000}, 1_795_446_001_000_250, 8.1),
        ({"start_epoch_ns": 1795446001000250999}, {"duration_ms": 8.1}, 1_795_446_001_000_250, 8.1),
        ({"end_epoch_ms": 1795446001008}, {"duration_ms": 8}, 1_795_446_001_000_000, 8.0),
        ({"end": "2026-11-23T15:00:01.008Z"}, {"duration_ms": 8}, 1_795_446_001_000_000, 8.0),
    ],
)  # fmt: skip
def test_times_and_durations_are_in_the_unit_that_their_name_says(
    tmp_path: Path, time: dict[str, Any], duration: dict[str, Any], start_us: int, ms: float
) -> None:
    row = time | duration | {"name": "a"}
    as_csv = ";".join(row) + "\r\n" + ";".join(str(v) for v in row.values()) + "\r\n"
    for text in (
        lines(row),
        as_csv,
        as_csv.replace(";", "\t"),
        "\ufeff" + as_csv,
        "\ufeff" + lines(row),
    ):
        (request,) = read_files(write(tmp_path, text)).requests
        assert (request.start_us, request.duration_ms, request.failed) == (start_us, ms, False)
        assert request.end_us == start_us + round(ms * 1000)


def test_a_row_may_stand_for_many(tmp_path: Path) -> None:
    result = read_files(write(tmp_path, lines(ROW | {"requests": 7}, ROW | {"status": 500})))
    assert result.read.totals() == (8, 1)
    assert result.read.statuses() == {"200": 7, "500": 1}


def test_without_a_status_a_duration_is_an_answer(tmp_path: Path) -> None:
    text = "start,duration_ms,name,failed\n2026-11-23T15:00:01Z,5,rpc,\n2026-11-23T15:00:01Z,6,rpc,1\n2026-11-23T15:00:01Z,,rpc,\n"
    first, second, third = read_files(write(tmp_path, text)).requests
    assert [(r.duration_ms, r.failed) for r in (first, second, third)] == [
        (5, False),
        (6, True),
        (None, True),
    ]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_and_from_standard_input(
    tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = read_files(write(tmp_path, CSV))
    assert read_files(write(tmp_path, pack(CSV.encode()))).requests == plain.requests
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pack(CSV.encode()))))
    piped = read_files("-")
    assert (piped.requests, piped.read.digest) == (plain.requests, plain.read.digest)


HEAD = "start,duration_ms,name,status\n"
GOOD = "2026-11-23T15:00:01Z,5,a,200\n"


@pytest.mark.parametrize(
    ("text", "line", "field", "problem"),
    [
        (HEAD + GOOD + "yesterday,5,a,200\n", 3, "start", "no RFC 3339 time"),
        (HEAD + "2026-11-23T15:00:01,5,a,200\n", 2, "start", "no RFC 3339 time"),
        (HEAD + "1999-11-23T15:00:01Z,5,a,200\n", 2, "start", "before the year 2000"),
        (HEAD + ",5,a,200\n", 2, "start", "says no time"),
        (HEAD + "2026-11-23T15:00:01Z,-5,a,200\n", 2, "duration_ms", "0 to"),
        (HEAD + "2026-11-23T15:00:01Z,1e99,a,200\n", 2, "duration_ms", "31 days"),
        (HEAD + "2026-11-23T15:00:01Z,nan,a,200\n", 2, "duration_ms", "no number"),
        (HEAD + f"2026-11-23T15:00:01Z,{'9' * 400},a,200\n", 2, "duration_ms", "no number"),
        (HEAD + "2026-11-23T15:00:01Z,5,,200\n", 2, "name", "neither name nor url"),
        (HEAD + "2026-11-23T15:00:01Z,5,a,2000\n", 2, "status", "0 (no answer) to 999"),
        (HEAD + "2026-11-23T15:00:01Z,5,a,20x\n", 2, "status", "no number"),
        (HEAD + "2026-11-23T15:00:01Z,5,a,200.5\n", 2, "status", "no whole number"),
        (HEAD + "2026-11-23T15:00:01Z,5,a\n", 2, None, "3 columns, the header 4"),
        (HEAD + '2026-11-23T15:00:01Z,5,"a\n', 2, None, "is no CSV"),
        ("start,duration_ms,name,statsu\n" + GOOD, 1, None, "is 'status' meant?"),
        ("start,duration_ms,status\n", 1, None, "no column name, nor url"),
        ("start,duration_ms,duration_s,name\n", 1, None, "exactly one of"),
        ("start,duration_ms,name,name\n", 1, None, "twice"),
        (HEAD, None, None, "holds no requests"),
        (lines(ROW, ROW | {"trace_id": "xyz"}), 2, "trace_id", "32 hexadecimal"),
        (lines(ROW, ROW | {"failed": "maybe"}), 2, "failed", "neither true nor false"),
        (lines(ROW, ROW | {"requests": 0}), 2, "requests", "not positive"),
        (lines(ROW, ROW | {"method": "G T"}), 2, "method", "no method"),
        (lines(ROW, ROW | {"name": 7}), 2, "name", "no text"),
        (lines(ROW, ROW | {"duration_ms": "5,5"}), 2, "duration_ms", "no number"),
        (lines(ROW, ROW | {"start": 7}), 2, "start", "no RFC 3339 time"),
        (lines(ROW, ROW | {"Status": 7}), 2, None, "is 'status' meant?"),
        (lines({k: v for k, v in ROW.items() if k != "status"}, ROW), 2, None, "which the first line has not"),
        (lines(ROW) + "{\n", 2, None, "is not JSON"),
        (lines(ROW) + "[]\n", 2, None, "an object was expected"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, text: str, line: int | None, field: str | None, problem: str
) -> None:
    error = refused(write(tmp_path, text))
    assert problem in str(error)
    assert (error.line, error.field) == (line or error.line, field)


def test_columns_of_ones_own_are_named_and_passed_over(tmp_path: Path) -> None:
    text = "start,duration_ms,name,vu,bytes\n2026-11-23T15:00:01Z,5,a,1,2\n"
    assert (
        "2 columns are none of this form and were not read: 'vu', 'bytes'"
        in read_files(write(tmp_path, text)).warnings
    )


@pytest.mark.parametrize(
    "data",
    [
        HEAD.encode() + b"\0" * 100 + b"\n",
        HEAD.encode() + GOOD.encode() + b"2026-11-23T15:00:01Z,5,\xff\xfe,200\n",
        HEAD.encode() + b"," * 1_000_000 + b"\n",
        gzip.compress((HEAD + GOOD * 5_000).encode())[:-9],
        HEAD.encode() + b"metric_name,timestamp,metric_value\n",
        (HEAD + lines(ROW)).encode(),
        lines(ROW).encode() + HEAD.encode(),
    ],
)  # fmt: skip
def test_hostile_files_are_refused_with_their_line(tmp_path: Path, data: bytes) -> None:
    error = refused(write(tmp_path, data))
    assert error.file is not None
    assert error.line is not None
    assert len(str(error)) < 1_500


def test_a_nul_in_a_name_is_kept_from_nothing_else(tmp_path: Path) -> None:
    (request,) = read_files(write(tmp_path, HEAD + "2026-11-23T15:00:01Z,5,a\0b,200\n")).requests
    assert request.name == "a\0b"


NAMES = ["/a", 'search, "by" word', "it's; ok", "/größe/7?q=ä", "日本語", "/x\ty", "'"]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "start_epoch_us": st.integers(1_700_000_000 * 10**6, 1_800_000_000 * 10**6),
                "duration_ms": st.one_of(st.none(), st.floats(0, 1e5)),
                "name": st.sampled_from(NAMES),
                "status": st.one_of(st.none(), st.integers(100, 599)),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_csv_and_json_of_the_same_rows_are_the_same_requests(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("plain")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    of_csv, of_json = (
        read_files(write(folder, form), wanted=wanted)
        for form, wanted in ((text.getvalue(), "plain-csv"), (lines(*rows), "plain-json"))
    )
    assert of_csv.requests == of_json.requests
    assert len(of_csv.requests) == len(rows)
    assert sum(r.duration_ms is not None for r in of_csv.requests) == sum(
        bool(r["status"]) and r["duration_ms"] is not None for r in rows
    )


def test_docs_name_every_format_and_every_column() -> None:
    text = (Path(__file__).parents[2] / "docs/importing.md").read_text()
    assert [name for name in (*FORMATS, *plain.COLUMNS) if f"`{name}`" not in text] == []
