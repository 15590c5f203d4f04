"""Locust's CSV files of one run: stats and stats_history, and beside them failures and exceptions.

They hold totals and rounded percentiles, no requests and no histogram, so nothing of them can go into the
rollup. They are last written some time before the run ends and stop short of it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, Source
from mobius_pipeline.imports.formats.model import milliseconds, possible_time
from mobius_pipeline.imports.formats.reported import ReportedEndpoint, ReportedRun

__all__ = ["CsvKind", "complete_set", "kind_of", "read_set"]

CsvKind = Literal["stats", "stats_history", "failures", "exceptions"]

_HEADERS: Final[dict[CsvKind, str]] = {
    "stats": "Type,Name,Request Count,Failure Count,",
    "stats_history": "Timestamp,User Count,Type,Name,",
    "failures": "Method,Name,Error,Occurrences",
    "exceptions": "Count,Message,Traceback,Nodes",
}
_FILE: Final = re.compile(r"(.*)_(stats|stats_history|failures|exceptions)\.csv(\.gz|\.zst)?")
_MOST_DIGITS: Final = 12
_SHORT: Final = (
    "Locust writes its CSV files last some time before a run ends, so they hold fewer requests than were "
    "made; --json, or mobius_instrumentation.locust.listen(), has all of them"
)


def kind_of(head: bytes) -> CsvKind | None:
    """Tell which file of the set begins with ``head``."""
    text = head[:200].decode("utf-8", "replace").lstrip("\ufeff")
    return next((kind for kind, header in _HEADERS.items() if text.startswith(header)), None)


def complete_set(given: Mapping[CsvKind, Source]) -> dict[CsvKind, Source]:
    """Add the files that lie beside ``given`` under Locust's own names.

    Raises
    ------
    UsageError
        ``stats`` or ``stats_history`` is missing; says which file was expected.
    """
    files = dict(given)
    for source in given.values():
        if match := _FILE.fullmatch(source.path.name):
            for kind in _HEADERS:
                for ending in ("", ".gz", ".zst"):
                    path = source.path.with_name(f"{match[1]}_{kind}.csv{ending}")
                    if kind not in files and path.is_file():
                        files[kind] = Source(path, str(Path(source.name).with_name(path.name)))
    for kind, why in (("stats", "what it counted"), ("stats_history", "when it ran")):
        if kind not in files:
            source = next(iter(given.values()))
            raise UsageError(
                f"is one file of Locust's CSV set, and *_{kind}.csv, which says {why}, is neither given nor "
                "beside it; keep the files of a run together under the names that Locust gave them",
                file=source.name,
            )
    return files


def read_set(contents: Mapping[CsvKind, Content]) -> ReportedRun:
    """Read the files of one run.

    Raises
    ------
    UsageError
        A row is wrong, or the files are not of one run; names file and line.
    """
    endpoints, total = _stats(contents["stats"])
    start_us, end_us, last_total = _history(contents["stats_history"])
    warnings = [_SHORT]
    counted = (sum(e.requests or 0 for e in endpoints), sum(e.failed for e in endpoints))
    if total != counted:
        raise contents["stats"].wrong(
            f"Aggregated says {total}, the rows above it add up to {counted}"
        )
    if last_total != counted[0]:
        warnings.append(f"stats counts {counted[0]} requests, stats_history ends with {last_total}")
    errors: tuple[dict[str, str | int], ...] = ()
    exceptions = 0
    if "failures" in contents:
        errors = tuple(_failures(contents["failures"]))
        if (occurrences := sum(int(e["requests"]) for e in errors)) != counted[1]:
            warnings.append(f"stats counts {counted[1]} failures, failures.csv {occurrences}")
    if "exceptions" in contents:
        exceptions = sum(int(row["Count"]) for row in _rows(contents["exceptions"], "Count"))
    return ReportedRun(endpoints, start_us, end_us, errors, exceptions, tuple(warnings))


def _stats(content: Content) -> tuple[tuple[ReportedEndpoint, ...], tuple[int, int]]:
    endpoints = []
    total: tuple[int, int] | None = None
    for row in _rows(content, "Request Count", "Failure Count"):
        requests, failed = int(row["Request Count"]), int(row["Failure Count"])
        if not row["Type"] and row["Name"] == "Aggregated":
            total = (requests, failed)
            continue
        if failed > requests:
            raise content.wrong(f"has {failed} failures of {requests} requests")
        endpoints.append(
            ReportedEndpoint(
                row["Type"],
                row["Name"],
                requests,
                failed,
                *(_figure(content, row.get(column)) for column in ("50%", "95%", "99%")),
            )
        )
    if total is None:
        raise content.wrong("has no row Aggregated, so the file is cut off")
    return tuple(endpoints), total


def _history(content: Content) -> tuple[int, int, int]:
    times: list[int] = []
    last_total = 0
    for row in _rows(content, "Timestamp", "Total Request Count"):
        try:
            times.append(possible_time(int(row["Timestamp"]) * 1_000_000))
        except ValueError as error:
            raise content.wrong(str(error)) from error
        if not row["Type"] and row["Name"] == "Aggregated":
            last_total = int(row["Total Request Count"])
    if not times:
        raise content.wrong("holds no rows, so nothing says when the run was")
    return min(times), max(times), last_total


def _failures(content: Content) -> Iterator[dict[str, str | int]]:
    for row in _rows(content, "Occurrences"):
        yield {
            "method": row["Method"],
            "name": row["Name"],
            "error": row["Error"],
            "requests": int(row["Occurrences"]),
        }


def _rows(content: Content, *numbers: str) -> Iterator[dict[str, str]]:
    """Yield rows by column name, with whole numbers in the columns ``numbers``."""
    try:
        # The line ends stay inside quoted cells, which tracebacks need.
        rows = csv.reader(
            (line.decode("utf-8-sig") + "\n" for _, line in content.lines()), strict=True
        )
        header = next(rows)
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise content.wrong(f"has {len(row)} columns, the header {len(header)}")
            named = dict(zip(header, row, strict=True))
            for column in numbers:
                text = named.get(column, "")
                if not text.isdecimal() or len(text) > _MOST_DIGITS:
                    raise content.wrong(
                        f"{column!r} is no whole number of up to {_MOST_DIGITS} digits: {text[:40]!r}"
                    )
            yield named
    except (csv.Error, UnicodeDecodeError) as error:
        raise content.wrong(f"is no CSV ({error})") from error


def _figure(content: Content, text: str | None) -> float | None:
    if text is None or text in {"", "N/A"}:
        return None
    try:
        return milliseconds(text, "a percentile")
    except ValueError as error:
        raise content.wrong(f"{text[:40]!r} is no latency in ms") from error
