"""k6's summaries at the end of a test: --summary-export and handleSummary(), in their old shape and in the new one.

They hold totals of all requests and, for thresholds, percentiles of single names (``http_req_duration{name:…}``) without
their counts. Refused requests are in the percentiles, as 0 ms. Of ``http_req_failed`` the "passes" ("matches") are the
failed ones. Scripts, checks and thresholds are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import (
    Facts,
    label,
    milliseconds,
    nanoseconds,
    possible_time,
)
from mobius_pipeline.imports.formats.one_url import TIMED, count_of
from mobius_pipeline.imports.formats.reported import ReportedEndpoint, ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import json_document, wrong_document

__all__ = ["K6_SUMMARY", "is_k6_summary"]

_OLD: Final = re.compile(rb'\s*\{\s*"(metrics|root_group|state|options|setup_data)"\s*:\s*[\{n]')
_NEW: Final = re.compile(
    rb'\s*\{\s*"(config|metadata|results|version)"\s*:[\s\S]*("execution"|"k6_version"|"http_req)'
)
_TIMES: Final = "http_req_duration"
_LEVEL: Final = re.compile(r"p\(?(\d+(?:\.\d+)?)\)?")
_TAGGED: Final = re.compile(r"http_req_duration\{(.*)\}", re.DOTALL)
_NAMED: Final = re.compile(r"(?:^|,\s*)(name|url):(.*?)(?=,\s*\w+:|$)", re.DOTALL)
_METHOD: Final = re.compile(r"(?:^|,\s*)method:(\w+)")
_REFUSED_AS_ZERO: Final = (
    "failed requests are in the percentiles of k6's summary, and those that got no answer as 0 ms; --out json=FILE or "
    "--out csv=FILE writes every request"
)


@dataclass(frozen=True, slots=True)
class _Summary:
    """What both shapes say: figures by metric, and length and end of the run where they are given."""

    metrics: Mapping[str, Mapping[str, Any]]
    length_us: int | None
    end_us: int | None
    version: str | None


def is_k6_summary(head: bytes) -> bool:
    """Tell whether a file begins like a summary of k6."""
    return _OLD.match(head) is not None or _NEW.match(head) is not None


def _read(content: Content, facts: Facts) -> ReportedRun:
    document = json_document(content)
    try:
        summary = _shape(document)
        times = summary.metrics[_TIMES]
        failing = summary.metrics["http_req_failed"]
        requests = count_of(summary.metrics["http_reqs"]["count"])
        failed = count_of(failing["matches"] if "matches" in failing else failing["passes"])
        overall = _levels(times)
        named = [
            ReportedEndpoint.of(endpoint, None, 0, _levels(figures))
            for key, figures in summary.metrics.items()
            if (endpoint := _endpoint_of(key)) is not None
        ]
        facts.tool_version = label(summary.version, "k6_version")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise wrong_document(content, "summary of k6", error) from error
    if not requests:
        raise content.wrong("holds no requests", line=1)
    start, end = _span(content, facts, summary)
    facts.load_evidence = "k6's summary does not name the executors of its scenarios"
    if facts.given.name or facts.given.url or not named:
        endpoint = facts.given.endpoint(content, "a summary of k6 without thresholds by name")
        named = [ReportedEndpoint.of(endpoint, requests, failed, overall)]
    return ReportedRun(
        endpoints=tuple(named),
        start_us=start,
        end_us=end,
        warnings=(_REFUSED_AS_ZERO,),
        statuses={"ok": requests - failed, "failed": failed},
        requests=requests,
        failed=failed,
    )


def _shape(document: Mapping[str, Any]) -> _Summary:
    if isinstance(results := document.get("results"), dict):
        config, metadata = document.get("config") or {}, document.get("metadata") or {}
        made = metadata.get("generated_at")
        return _Summary(
            {str(metric["name"]): metric["values"] for metric in results["metrics"]},
            _microseconds(config.get("duration"), 1e6),
            None if made is None else possible_time(nanoseconds(made) // 1000),
            metadata.get("k6_version"),
        )
    metrics = {
        str(name): metric.get("values", metric) for name, metric in document["metrics"].items()
    }
    length = (document.get("state") or {}).get("testRunDurationMs")
    return _Summary(metrics, _microseconds(length, 1e3), None, None)


def _microseconds(value: object, unit: float) -> int | None:
    return None if value is None else round(milliseconds(value, "the length") * unit)


def _span(content: Content, facts: Facts, summary: _Summary) -> tuple[int, int]:
    """Begin and end of the run; what the caller says of the begin where the file does not."""
    if summary.end_us is not None and summary.length_us is not None:
        return summary.end_us - summary.length_us, summary.end_us
    start = facts.given.start(content, "a summary of k6")
    length = summary.length_us
    if length is None:  # the export has the rate, of which the length follows
        reqs = summary.metrics["http_reqs"]
        try:
            length = round(float(reqs["count"]) / float(reqs["rate"]) * 1e6)
        except (KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError):
            length = 0
    return start, possible_time(start + length)


def _levels(figures: Mapping[str, Any]) -> dict[float, float]:
    found = {
        round(float(match[1]) / 100, 8): milliseconds(value, key)
        for key, value in figures.items()
        if (match := _LEVEL.fullmatch(key))
    }
    if "med" in figures:
        found[0.5] = milliseconds(figures["med"], "med")
    # Where nothing was answered every figure is 0, which is no latency.
    return found if any(found.values()) else {}


def _endpoint_of(key: str) -> tuple[str, str] | None:
    """Method and name of a metric for the requests of one name; names may hold braces themselves."""
    tagged = _TAGGED.fullmatch(key)
    if tagged is None or (named := _NAMED.search(tagged[1])) is None:
        return None
    method = _METHOD.search(tagged[1])
    return method[1] if method else "", named[2].strip()


K6_SUMMARY: Final = ReportFormat("k6-summary", "k6", _read, TIMED)
