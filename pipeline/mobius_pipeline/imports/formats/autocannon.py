"""autocannon's --json: totals and whole-ms percentiles of one URL, without a 95th; no method.

``requests.total`` counts answers, and ``errors`` what got none, time-outs included. Where no answer came all latencies
are 0, which are no measurements. With ``-R`` the latencies are corrected for coordinated omission: then they are more than
the requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import Facts, milliseconds, nanoseconds, possible_time
from mobius_pipeline.imports.formats.one_url import ENDPOINT, closed, count_of, one_endpoint
from mobius_pipeline.imports.formats.reported import ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import json_document, wrong_document

__all__ = ["AUTOCANNON", "is_autocannon"]

_SIGN: Final = re.compile(
    rb'\s*\{(?=[\s\S]{0,4000}"sampleInt"\s*:)(?=[\s\S]{0,4000}"pipelining"\s*:)[\s\S]{0,4000}"connections"\s*:'
)
_LEVEL: Final = re.compile(r"p(\d+(?:_\d+)?)")
_CORRECTED: Final = (
    "latencies of a run with -R are corrected by autocannon for coordinated omission ({counted:,} latencies of {total:,} "
    "requests), so they are not comparable with what other clients measure"
)


def is_autocannon(head: bytes) -> bool:
    """Tell whether a file begins like autocannon's result."""
    return _SIGN.match(head) is not None


def _read(content: Content, facts: Facts) -> ReportedRun:
    document = json_document(content)
    try:
        url = str(document["url"])
        answers, errors = count_of(document["requests"]["total"]), count_of(document["errors"])
        latency = document["latency"]
        counted = count_of(latency["totalCount"])
        statuses = {
            str(int(status)): count_of(one["count"])
            for status, one in (document.get("statusCodeStats") or {}).items()
        }
        span = tuple(
            possible_time(nanoseconds(document[key]) // 1000) for key in ("start", "finish")
        )
        levels = _levels(latency) if answers and counted else {}
        timeouts = count_of(document.get("timeouts", 0))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise wrong_document(content, "result of autocannon", error) from error
    if statuses and sum(statuses.values()) != answers:
        raise content.wrong(
            f"counts {answers} requests, its statuses {sum(statuses.values())}", line=1
        )
    if not answers + errors:
        raise content.wrong("holds no requests", line=1)
    endpoint = facts.given.endpoint(content, "autocannon's result", url)
    closed(facts, "autocannon", "corrected" if counted > answers else "closed")
    failed = errors + sum(n for status, n in statuses.items() if not 200 <= int(status) < 400)
    kinds = {"time-out": timeouts, "connection error": max(0, errors - timeouts)}
    return one_endpoint(
        endpoint,
        (answers + errors, failed),
        levels,
        (span[0], span[1]),
        errors={kind: count for kind, count in kinds.items() if count},
        statuses=statuses | ({"0": errors} if errors else {}),
        warnings=(_CORRECTED.format(counted=counted, total=answers),) if counted > answers else (),
    )


def _levels(latency: Mapping[str, Any]) -> dict[float, float]:
    return {
        round(float(match[1].replace("_", ".")) / 100, 8): milliseconds(value, key)
        for key, value in latency.items()
        if (match := _LEVEL.fullmatch(key))
    }


AUTOCANNON: Final = ReportFormat("autocannon", "autocannon", _read, ENDPOINT)
