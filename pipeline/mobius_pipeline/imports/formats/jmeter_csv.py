"""JMeter's CSV form of a JTL.

It flattens samples that hold others into rows, children right after their parent in the same thread. The parent of a
redirect is told by the labels of its hops, which are its own with -0, -1, and by their times, which lie in its time.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.jmeter import Sample, note_load, to_request
from mobius_pipeline.imports.formats.model import Facts, Format, Request
from mobius_pipeline.imports.formats.shared_ids import drop_shared_ids
from mobius_pipeline.imports.formats.texts import csv_rows, decoded, trace_id_of

__all__ = ["JMETER_CSV", "is_jmeter_csv"]

_HEADER: Final = re.compile(rb'(?:\xef\xbb\xbf)?"?timeStamp"?([,;\t|])"?elapsed"?\1')
_NEEDED: Final = ("timeStamp", "elapsed", "label", "responseCode", "success", "URL")
_TRACE_COLUMNS: Final = ("traceparent", "trace_id", "traceid", "trace-id")
_NO_URL: Final = frozenset({"", "null"})
# Threads whose last row may still turn out to be a parent; its children come right after it.
_OPEN_ROWS: Final = 5_000


@dataclass(slots=True)
class _Open:
    """The last row of a thread, and the parent that it is a hop of."""

    request: Request
    parent: Request | None = None
    some_failed: bool = False


def is_jmeter_csv(head: bytes) -> bool:
    """Tell whether a file begins like JMeter's CSV."""
    return _HEADER.match(head) is not None


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    yield from drop_shared_ids(_exchanges(content, facts), facts)


def _exchanges(content: Content, facts: Facts) -> Iterator[Request]:
    """Yield what was exchanged: rows with a URL, but for those that hold others of them."""
    last: OrderedDict[str, _Open] = OrderedDict()
    parents = transactions = threads = 0
    for thread, count, request in _rows(content):
        threads = max(threads, count)
        if request is None:
            transactions += 1
            continue
        before = last.pop(thread, None)
        now = _Open(request)
        if before is not None and _holds(before.request, request):
            parents += 1
            now.parent = _stricter(before)
        elif before is not None:
            if before.parent is not None and _holds(before.parent, request):
                now.parent = before.parent
                now.some_failed = before.some_failed or before.request.failed
                yield before.request
            else:
                yield _settled(before)
        last[thread] = now
        if len(last) > _OPEN_ROWS:
            yield _settled(last.popitem(last=False)[1])
    for each in last.values():
        yield _settled(each)
    note_load(facts, threads)
    if parents or transactions:
        facts.warnings.append(
            f"{transactions:,} transactions and {parents:,} samples that hold others (redirects, embedded resources) "
            "are no requests and were left out; what they hold was taken"
        )


def _holds(parent: Request, row: Request) -> bool:
    begin, _, number = row.name.rpartition("-")
    return (
        begin == parent.name
        and number.isdecimal()
        and parent.start_us <= row.start_us
        and row.end_us <= parent.end_us
    )


def _stricter(row: _Open) -> Request:
    """The parent that a row becomes; it carries the failure of what it is itself a part of."""
    if row.parent is not None and row.parent.failed and not row.some_failed:
        return row.request._replace(failed=True, error=row.request.error or row.parent.error)
    return row.request


def _settled(row: _Open) -> Request:
    """The last hop fails where the whole did and none of its hops."""
    parent, request = row.parent, row.request
    if parent is None or not parent.failed or row.some_failed or request.failed:
        return request
    return request._replace(failed=True, error=request.error or parent.error)


def _rows(content: Content) -> Iterator[tuple[str, int, Request | None]]:
    """Yield thread, number of threads, and request of each row; None for what has no URL."""
    match = _HEADER.match(content.peek())
    if match is None:
        raise content.wrong("is no header of JMeter's CSV", line=1)
    rows = csv_rows(content, decoded(content, match[1]))
    header = next(rows)
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
        count = row[place["allThreads"]] if "allThreads" in place else ""
        threads = int(count) if count.isdecimal() and len(count) < 8 else 0
        if row[place["URL"]] in _NO_URL:
            yield thread, threads, None
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
            yield thread, threads, to_request(sample)
        except ValueError as error:
            raise content.wrong(f"is no row of JMeter's CSV ({error})") from error


JMETER_CSV: Final = Format("jmeter-csv", "jmeter", _read)
