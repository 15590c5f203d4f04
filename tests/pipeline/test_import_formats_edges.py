"""Files of tools from runs made to go wrong, or with settings that few use; what is true of them is known from the run."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.result_files import DATA, epoch_us, read_files, refused, type_7

EDGES = DATA.parent / "synthetic-edges"
STARTED = epoch_us("2026-11-25T02:25:00Z")
ITERATIONS = 40
# What one iteration of the plan exchanges, by the last part of its URL.
EXCHANGES = Counter(
    {"items/7": 1, "moved/3": 2, "items/3": 1, "moved/4": 0, "items/4": 1, "buy": 1, "slow": 1, "x": 1, "page": 1,
     "items/1": 1, "items/19": 1, "moved/8": 1, "items/8": 1, "items/5": 1, "items/9": 1},
)  # fmt: skip


def rows(name: str) -> list[list[str]]:
    with gzip.open(EDGES / "jmeter" / name, "rt", newline="") as file:
        delimiter = ";" if "url-labels" in name else ","
        return [row for row in csv.reader(file, delimiter=delimiter) if row[0] != "timeStamp"]


@pytest.mark.parametrize("name", ["resources", "url-labels", "local-times", "no-header"])
def test_exchanges_of_jmeter_count_once_whatever_holds_them(name: str) -> None:
    file = f"{name}.jtl.gz"
    result = read_files(EDGES / "jmeter" / file, started=STARTED)
    assert result.read.totals()[0] == ITERATIONS * EXCHANGES.total() == 600
    wanted: Counter[str] = Counter()
    for row in rows(file):
        holds_others = row[2] in {"moved", "page", "page-3"} or "->" in row[2]
        if row[13] not in {"null", ""} and not holds_others:
            wanted[row[3] if row[3].isdecimal() else "0"] += 1
    assert result.read.statuses() == dict(wanted)
    assert result.read.facts.connections == 5


def test_a_date_and_time_needs_the_begin_and_finds_the_zone() -> None:
    path = EDGES / "jmeter/local-times.jtl.gz"
    error = refused(path)
    assert error.field == "--started"
    result = read_files(path, started=STARTED)
    first = min(row[0] for row in rows(path.name) if row[13] != "null")
    tokyo = datetime.strptime(first, "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC)
    assert result.tally.start_us == round(tokyo.timestamp() * 1e6) - 9 * 3_600 * 1_000_000
    assert "no such time in any zone" in str(refused(path, started=STARTED + 7 * 60 * 1_000_000))
    assert "no such time in any zone" in str(refused(path, started=STARTED + 10**12))


def test_a_date_and_time_with_its_offset_needs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(
        "timeStamp,elapsed,label,responseCode,success,URL\n"
        "2026-11-23T17:00:00.250+0200,20,a,200,true,http://h/a\n2026-11-23T15:00:00.5Z,20,a,200,true,http://h/a\n"
    )
    first, second = read_files(path).requests
    assert first.start_us == epoch_us("2026-11-23T15:00:00.250Z")
    assert second.start_us == epoch_us("2026-11-23T15:00:00.5Z")


def test_samples_that_merely_follow_each_other_hold_nothing(tmp_path: Path) -> None:
    """In the same millisecond, of no length, and of sizes that do not add up."""
    path = tmp_path / "r"
    head = "timeStamp,elapsed,label,responseCode,threadName,success,bytes,sentBytes,URL\n"
    line = "1795445424749,{},a,200,t 1-1,true,{},50,http://h/a\n"
    path.write_text(head + line.format(0, 100) + line.format(0, 100) + line.format(0, 30))
    assert len(read_files(path).requests) == 3
    path.write_text(head + line.format(9, 130) + line.format(4, 100) + line.format(4, 20))
    assert len(read_files(path).requests) == 3


# ---------------------------------------------------------------------------- ab, wrk


def test_of_ab_what_got_no_byte_got_no_answer() -> None:
    paths = [EDGES / "ab/resets.tsv", EDGES / "ab/resets.txt"]
    result = read_files(*paths, method="GET")
    assert result.read.totals() == (120, 52)  # 40 reset, 12 closed
    assert result.read.statuses() == {"0": 52, "ok": 68}
    with paths[0].open() as file:
        answered = [
            int(row["ttime"]) for row in csv.DictReader(file, delimiter="\t") if row["wait"] != "0"
        ]
    found = [r.duration_ms for r in result.requests if r.duration_ms is not None]
    assert sorted(found) == sorted(answered)
    assert type_7(found, 0.95) == type_7(answered, 0.95)
    # The text alone knows of those that were reset, once each, though ab adds them up twice.
    text = read_files(paths[1], method="GET", started=STARTED)
    assert text.read.totals() == (120, 40)
    assert "40 requests got no answer, and ab's percentiles hold them" in text.warnings


@pytest.mark.parametrize("name", ["refused.tsv", "refused.txt"])
def test_of_ab_a_closed_port_gives_no_latencies(name: str) -> None:
    given: dict[str, Any] = {} if name.endswith("tsv") else {"started": STARTED}
    paths = [EDGES / "ab" / name, *([EDGES / "ab/refused.txt"] if name.endswith("tsv") else [])]
    result = read_files(*paths, method="GET", **given)
    assert result.read.totals() == (60, 60)
    assert result.read.statuses().get("0") == 60
    assert all(r.duration_ms is None for r in result.requests)
    for endpoint in result.read.reported.endpoints if result.read.reported else ():
        assert (endpoint.p50_ms, endpoint.levels) == (None, {})


def test_wrk_without_percentiles_is_counted_and_zeros_are_no_latencies() -> None:
    bare = read_files(EDGES / "wrk/no-latency.txt", method="GET", started=STARTED)
    assert bare.read.totals() == (35, 0)
    assert "run wrk with --latency" in bare.warnings
    lost = read_files(EDGES / "wrk/all-timed-out.txt", method="GET", started=STARTED)
    assert lost.read.totals() == (67, 67)
    for result in (bare, lost):
        assert result.read.reported is not None
        assert [e.levels for e in result.read.reported.endpoints] == [{}]
