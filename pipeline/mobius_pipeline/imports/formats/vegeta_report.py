"""vegeta's report as JSON: totals and percentiles of all targets together; no URL, no method."""

from __future__ import annotations

import re
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import Facts, milliseconds, nanoseconds, possible_time
from mobius_pipeline.imports.formats.one_url import ENDPOINT, count_of, one_endpoint
from mobius_pipeline.imports.formats.reported import ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import json_document, wrong_document
from mobius_pipeline.imports.formats.vegeta import note_run

__all__ = ["VEGETA_REPORT", "is_vegeta_report"]

_SIGN: Final = re.compile(rb'\s*\{\s*"latencies"\s*:\s*\{[^{}]*"mean"\s*:[^{}]*\}\s*,\s*"bytes_in"')
_LEVEL: Final = re.compile(r"(\d+)th")
_WITH_FAILED: Final = (
    "failed requests, also those without an answer, are in the percentiles of vegeta's report; `vegeta encode` gives "
    "every request"
)


def is_vegeta_report(head: bytes) -> bool:
    """Tell whether a file begins like vegeta's report."""
    return _SIGN.match(head) is not None


def _read(content: Content, facts: Facts) -> ReportedRun:
    document = json_document(content)
    try:
        requests = count_of(document["requests"])
        statuses = {
            str(int(code)): count_of(count) for code, count in document["status_codes"].items()
        }
        levels = {
            int(match[1]) / 100: milliseconds(float(value) / 1e6, key)
            for key, value in document["latencies"].items()
            if (match := _LEVEL.fullmatch(key))
        }
        span = tuple(
            possible_time(nanoseconds(document[key]) // 1000) for key in ("earliest", "end")
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise wrong_document(content, "report of vegeta", error) from error
    if not requests or sum(statuses.values()) != requests:
        raise content.wrong(
            f"counts {requests} requests, its statuses {sum(statuses.values())}", line=1
        )
    endpoint = facts.given.endpoint(content, "vegeta's report")
    note_run(facts, None)
    failed = sum(n for status, n in statuses.items() if not 200 <= int(status) < 400)
    answered = requests - statuses.get("0", 0)
    return one_endpoint(
        endpoint,
        (requests, failed),
        levels if answered else {},
        (span[0], span[1]),
        statuses=statuses,
        warnings=(_WITH_FAILED,) if failed else (),
    )


VEGETA_REPORT: Final = ReportFormat("vegeta-report", "vegeta", _read, ENDPOINT)
