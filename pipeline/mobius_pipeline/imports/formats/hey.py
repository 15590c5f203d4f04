"""hey's results: its CSV (-o csv), a row an answer, and the summary that it prints.

Neither says when the run was, nor what it asked for. ``offset`` is a request's start after the start of the run, in s.
What got no answer leaves no row in the CSV; the summary counts it under "Error distribution".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import Facts, Format, Request, checked
from mobius_pipeline.imports.formats.one_url import (
    TIMED,
    closed,
    count_of,
    one_endpoint,
    seconds_ms,
)
from mobius_pipeline.imports.formats.reported import ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import csv_rows, text_lines, without_urls

__all__ = ["HEY_CSV", "HEY_TEXT", "is_hey_csv", "is_hey_text"]

_HEADER: Final = (
    b"response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset"
)
_COLUMNS: Final = 8
_TEXT: Final = re.compile(rb"\s*Summary:\s+Total:\s+[\d.]+ secs\s+Slowest:")
_TOTAL: Final = re.compile(r"\s*Total:\s+([\d.]+) secs")
_LEVEL: Final = re.compile(r"\s*(\d+(?:\.\d+)?)%+ in ([\d.]+) secs")
_COUNTED: Final = re.compile(r"\s*\[(\d+)\]\s+(.*)")
_ONLY_ANSWERS: Final = (
    "hey writes no row for a request without an answer, so none of those is counted: the summary that it prints "
    "(without -o csv) has them"
)


def is_hey_csv(head: bytes) -> bool:
    """Tell whether a file begins with the header of hey's CSV."""
    return head.startswith(_HEADER)


def is_hey_text(head: bytes) -> bool:
    """Tell whether a file begins like hey's summary."""
    return _TEXT.match(head) is not None


def _csv(content: Content, facts: Facts) -> Iterator[Request]:
    began, (method, name) = facts.given.start_and_endpoint(content, "hey's CSV")
    closed(facts, "hey")
    facts.tick_us = 200  # start, and length, each to 0.1 ms
    facts.warnings.append(_ONLY_ANSWERS)
    rows = csv_rows(content)
    next(rows)
    some = False
    for row in rows:
        if len(row) != _COLUMNS:
            raise content.wrong(f"has {len(row)} columns, hey's CSV {_COLUMNS}")
        try:
            latency = seconds_ms(row[0], "response-time")
            start = began + round(seconds_ms(row[7], "offset") * 1000)
            status = int(row[6])
            some = True
            yield checked(
                Request(
                    start_us=start,
                    end_us=start + round(latency * 1000),
                    duration_ms=latency if status else None,
                    method=method,
                    name=name,
                    status=status,
                    failed=not 200 <= status < 400,
                )
            )
        except (ValueError, OverflowError) as error:
            raise content.wrong(f"is no row of hey's CSV ({error})") from error
    if not some:
        raise content.wrong("holds no answer, and that is no success: " + _ONLY_ANSWERS)


def _text(content: Content, facts: Facts) -> ReportedRun:
    began, endpoint = facts.given.start_and_endpoint(content, "hey's summary")
    closed(facts, "hey")
    levels: dict[float, float] = {}
    statuses: dict[str, int] = {}
    errors: dict[str, int] = {}
    seconds: float | None = None
    section = ""
    try:
        for line in text_lines(content):
            if line.rstrip().endswith(":") and not line.startswith(" "):
                section = line.strip()
            elif match := _LEVEL.match(line):
                levels[float(match[1]) / 100] = seconds_ms(match[2], "a percentile")
            elif seconds is None and (match := _TOTAL.match(line)):
                seconds = seconds_ms(match[1], "Total") / 1000
            elif section.startswith("Status code") and (match := _COUNTED.match(line)):
                statuses[match[1]] = count_of(match[2].split()[0])
            elif section.startswith("Error") and (match := _COUNTED.match(line)):
                text = without_urls(match[2])
                errors[text] = errors.get(text, 0) + count_of(match[1])
    except (ValueError, IndexError) as error:
        raise content.wrong(f"is no line of hey's summary ({error})") from error
    answers, refused = sum(statuses.values()), sum(errors.values())
    if seconds is None or not answers + refused:
        raise content.wrong("is no whole summary of hey: without its total, or its counts", line=1)
    failed = refused + sum(n for status, n in statuses.items() if not 200 <= int(status) < 400)
    return one_endpoint(
        endpoint,
        (answers + refused, failed),
        levels if answers else {},
        (began, began + round(seconds * 1e6)),
        errors=errors,
        statuses=statuses | ({"0": refused} if refused else {}),
    )


HEY_CSV: Final = Format("hey-csv", "hey", _csv, TIMED)
HEY_TEXT: Final = ReportFormat("hey-text", "hey", _text, TIMED)
