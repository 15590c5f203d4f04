"""oha's results: its JSON, with percentiles in seconds of what was answered, and its CSV with a row an answer.

Neither says when the run was, nor what it asked for. Errors are counted in the JSON only. What oha aborts because its
time is over is no request of the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

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
from mobius_pipeline.imports.formats.texts import (
    csv_rows,
    json_document,
    without_urls,
    wrong_document,
)

__all__ = ["OHA_CSV", "OHA_JSON", "is_oha_csv", "is_oha_json"]

_SIGN: Final = re.compile(rb'\s*\{\s*"summary"\s*:\s*\{\s*"successRate"\s*:')
_HEADER: Final = b"request-start,DNS,DNS+dialup,Response-delay,request-duration,bytes,status"
_COLUMNS: Final = 7
_LEVEL: Final = re.compile(r"p(\d+(?:\.\d+)?)")
_OVER: Final = "aborted due to deadline"
_ONLY_ANSWERS: Final = "oha's CSV has no row for a request without an answer, so none of those is counted: its JSON has them"


def is_oha_json(head: bytes) -> bool:
    """Tell whether a file begins like oha's JSON."""
    return _SIGN.match(head) is not None


def is_oha_csv(head: bytes) -> bool:
    """Tell whether a file begins with the header of oha's CSV."""
    return head.startswith(_HEADER)


def _json(content: Content, facts: Facts) -> ReportedRun:
    document = json_document(content)
    try:
        seconds = seconds_ms(document["summary"]["total"], "total") / 1000
        statuses = {
            str(int(status)): count_of(count)
            for status, count in document["statusCodeDistribution"].items()
        }
        errors = _errors(document.get("errorDistribution") or {})
        answers, refused = sum(statuses.values()), sum(errors.values())
        levels = _levels(document["latencyPercentiles"]) if answers else {}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise wrong_document(content, "result of oha", error) from error
    if not answers + refused:
        raise content.wrong("holds no requests", line=1)
    start, endpoint = facts.given.start_and_endpoint(content, "oha's result")
    _note_load(facts)
    failed = refused + sum(n for status, n in statuses.items() if not 200 <= int(status) < 400)
    return one_endpoint(
        endpoint,
        (answers + refused, failed),
        levels,
        (start, start + round(seconds * 1e6)),
        errors=errors,
        statuses=statuses | ({"0": refused} if refused else {}),
    )


def _note_load(facts: Facts) -> None:
    closed(facts, "oha")
    facts.load_evidence += (
        " (unless --latency-correction made up for that, which the file does not say)"
    )
    facts.load_may_differ = True


def _errors(counts: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text, count in counts.items():
        if text != _OVER:
            found[without_urls(text)] = found.get(without_urls(text), 0) + count_of(count)
    return found


def _levels(percentiles: Mapping[str, Any]) -> dict[float, float]:
    return {
        round(float(match[1]) / 100, 8): seconds_ms(value, key)
        for key, value in percentiles.items()
        if value is not None and (match := _LEVEL.fullmatch(key))
    }


def _csv(content: Content, facts: Facts) -> Iterator[Request]:
    began, (method, name) = facts.given.start_and_endpoint(content, "oha's CSV")
    _note_load(facts)
    facts.warnings.append(_ONLY_ANSWERS)
    rows = csv_rows(content)
    next(rows)
    for row in rows:
        if len(row) != _COLUMNS:
            raise content.wrong(f"has {len(row)} columns, oha's CSV {_COLUMNS}")
        try:
            start = began + round(seconds_ms(row[0], "request-start") * 1000)
            latency = seconds_ms(row[4], "request-duration")
            status = int(row[6])
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
            raise content.wrong(f"is no row of oha's CSV ({error})") from error


OHA_JSON: Final = ReportFormat("oha-json", "oha", _json, TIMED)
OHA_CSV: Final = Format("oha-csv", "oha", _csv, TIMED)
