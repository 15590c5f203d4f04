"""JMeter's CSV form of a JTL.

It flattens samples that hold others into rows, children after their parent; :mod:`.jmeter_families` tells which hold which.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.jmeter import Sample, note_load, to_request
from mobius_pipeline.imports.formats.jmeter_clock import Clock
from mobius_pipeline.imports.formats.jmeter_families import Families, Node
from mobius_pipeline.imports.formats.model import Facts, Format, Request
from mobius_pipeline.imports.formats.shared_ids import drop_shared_ids
from mobius_pipeline.imports.formats.texts import csv_rows, decoded, trace_id_of

__all__ = ["JMETER_CSV", "is_jmeter_csv"]

_HEADER: Final = re.compile(rb'(?:\xef\xbb\xbf)?"?timeStamp"?([,;\t|])"?elapsed"?\1')
# What a file without a header has, unless jmeter.save.saveservice.* says otherwise.
_COLUMNS: Final = (
    "timeStamp", "elapsed", "label", "responseCode", "responseMessage", "threadName", "dataType", "success",
    "failureMessage", "bytes", "sentBytes", "grpThreads", "allThreads", "URL", "Latency", "IdleTime", "Connect",
)  # fmt: skip
_BARE: Final = re.compile(rb"\d{12,14}([,;\t|])\d{1,12}\1")
_NEEDED: Final = ("timeStamp", "elapsed", "label", "responseCode", "success", "URL")
_TRACE_COLUMNS: Final = ("traceparent", "trace_id", "traceid", "trace-id")
_NO_URL: Final = frozenset({"", "null"})
_MOST_DIGITS: Final = 16


def is_jmeter_csv(head: bytes) -> bool:
    """Tell whether a file begins like JMeter's CSV."""
    return _HEADER.match(head) is not None or _bare(head) is not None


def _bare(head: bytes) -> bytes | None:
    """Return the delimiter of a file without a header that has JMeter's own columns."""
    match = _BARE.match(head)
    if match is None:
        return None
    line = head.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")
    cells = next(csv.reader([line], delimiter=match[1].decode()), [])
    whole = len(cells) == len(_COLUMNS) and cells[_COLUMNS.index("success")] in {"true", "false"}
    return match[1] if whole else None


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    yield from drop_shared_ids(_exchanges(content, facts), facts)


def _exchanges(content: Content, facts: Facts) -> Iterator[Request]:
    """Yield what was exchanged: rows with a URL, but for those that hold others of them."""
    families = Families()
    transactions = threads = 0
    for row in _rows(content, Clock(content, facts.given)):
        threads = max(threads, row.threads)
        if row.request is None:
            transactions += 1
            continue
        yield from families.enter(row.thread, Node(row.request, row.bytes, row.sent_bytes))
    yield from families.rest()
    note_load(facts, threads)
    if families.parents or transactions:
        facts.warnings.append(
            f"{transactions:,} transactions and {families.parents:,} samples that hold others (redirects, embedded "
            "resources) are no requests and were left out; what they hold was taken"
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """A row; ``request`` is None for what has no URL. Sizes are None where the file has not got them."""

    thread: str
    threads: int
    request: Request | None
    bytes: int | None = None
    sent_bytes: int | None = None


def _rows(content: Content, clock: Clock) -> Iterator[_Row]:
    head = content.peek()
    match = _HEADER.match(head)
    delimiter = match[1] if match else _bare(head)
    if delimiter is None:
        raise content.wrong("is no header of JMeter's CSV", line=1)
    rows = csv_rows(content, decoded(content, delimiter))
    header = next(rows) if match else list(_COLUMNS)
    if missing := [name for name in _NEEDED if name not in header]:
        raise content.wrong(
            f"is a header of JMeter's CSV without {', '.join(missing)}; jmeter.save.saveservice.* must save them "
            "(without URL a transaction cannot be told from a request)"
        )
    place = {name: header.index(name) for name in header}
    lower = {name.lower(): index for name, index in place.items()}
    trace = next((lower[name] for name in _TRACE_COLUMNS if name in lower), None)
    for row in rows:
        if len(row) != len(header):
            raise content.wrong(f"has {len(row)} columns, the header {len(header)}")
        thread = row[place["threadName"]] if "threadName" in place else ""
        threads = _count(row, place.get("allThreads")) or 0
        if row[place["URL"]] in _NO_URL:
            yield _Row(thread, threads, None)
            continue
        sample = Sample(
            started=row[place["timeStamp"]],
            elapsed=row[place["elapsed"]],
            label=row[place["label"]],
            code=row[place["responseCode"]],
            success=row[place["success"]],
            failure=row[place["failureMessage"]] if "failureMessage" in place else "",
            trace_id="" if trace is None else trace_id_of(row[trace]),
        )
        try:
            sample.started_us = clock.read(sample.started)
            request = to_request(sample)
        except ValueError as error:
            raise content.wrong(f"is no row of JMeter's CSV ({error})") from error
        sizes = (_count(row, place.get(name)) for name in ("bytes", "sentBytes"))
        yield _Row(thread, threads, request, *sizes)


def _count(row: list[str], column: int | None) -> int | None:
    text = "" if column is None else row[column]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS else None


JMETER_CSV: Final = Format("jmeter-csv", "jmeter", _read, frozenset({"started"}))
