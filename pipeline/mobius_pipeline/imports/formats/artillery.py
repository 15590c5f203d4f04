"""Artillery's report: counters and approximate percentiles, by endpoint where the plugin metrics-by-endpoint was on.

``http.requests`` counts hops of redirects and what was refused; ``http.responses`` are answers. Keys are flat and the
names in them may hold dots, so they are cut from both ends. No method.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import Facts, milliseconds, possible_time
from mobius_pipeline.imports.formats.one_url import ENDPOINT, count_of
from mobius_pipeline.imports.formats.reported import ReportedEndpoint, ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import json_document, path_only, wrong_document

__all__ = ["ARTILLERY", "is_artillery"]

EVIDENCE: Final = "Artillery's users arrive by the clock, whether answers come or not"
_SIGN: Final = re.compile(rb'\s*\{\s*"(aggregate|intermediate)"\s*:')
_PLUGIN: Final = "plugins.metrics-by-endpoint."
_TIMES: Final = "plugins.metrics-by-endpoint.response_time."
_ALL_TIMES: Final = "http.response_time"
_COUNTER: Final = re.compile(
    r"plugins\.metrics-by-endpoint\.(.+)\.(codes\.(\d{3})|errors\.(.+))", re.DOTALL
)
_LEVELS: Final = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
_APPROXIMATE: Final = (
    "Artillery's percentiles come from a sketch and are approximate; redirects are counted by hop"
)


@dataclass(slots=True)
class _Endpoint:
    codes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.codes.total() + self.errors.total()

    @property
    def failed(self) -> int:
        return self.errors.total() + _failed(self.codes)


def is_artillery(head: bytes) -> bool:
    """Tell whether a file begins like Artillery's report."""
    return _SIGN.match(head) is not None


def _read(content: Content, facts: Facts) -> ReportedRun:
    document = json_document(content)
    try:
        whole = document["aggregate"]
        counters = {str(key): count_of(value) for key, value in whole["counters"].items()}
        summaries = whole.get("summaries") or {}
        span = tuple(
            possible_time(round(float(whole[key]) * 1000))
            for key in ("firstMetricAt", "lastMetricAt")
        )
        by_name = _by_name(counters)
        levels = {
            key: _levels(summaries[key])
            for key in (_ALL_TIMES, *(f"{_TIMES}{name}" for name in by_name))
            if key in summaries
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise wrong_document(content, "report of Artillery", error) from error
    facts.load, facts.load_evidence = "open", EVIDENCE
    codes = _after(counters, "http.codes.")
    errors = _after(counters, "errors.")
    requests = counters.get("http.requests", 0)
    if not requests:
        raise content.wrong("counts no http.requests, so it holds no run over HTTP", line=1)
    failed = min(requests, _failed(codes) + errors.total())
    if by_name:
        method = facts.given.method or ""
        endpoints = tuple(
            _endpoint((method, path_only(name)), one, levels.get(f"{_TIMES}{name}", {}))
            for name, one in by_name.items()
        )
    else:
        endpoint = facts.given.endpoint(
            content, "a report without Artillery's plugin metrics-by-endpoint"
        )
        endpoints = (ReportedEndpoint.of(endpoint, requests, failed, levels.get(_ALL_TIMES, {})),)
    return ReportedRun(
        endpoints=endpoints,
        start_us=span[0],
        end_us=span[1],
        errors=tuple({"error": error, "requests": count} for error, count in errors.items()),
        warnings=(_APPROXIMATE,),
        statuses=dict(codes) | ({"0": errors.total()} if errors else {}),
        requests=requests,
        failed=failed,
    )


def _by_name(counters: Mapping[str, int]) -> dict[str, _Endpoint]:
    found: dict[str, _Endpoint] = {}
    for key, count in counters.items():
        if match := _COUNTER.fullmatch(key):
            one = found.setdefault(match[1], _Endpoint())
            if match[3]:
                one.codes[match[3]] += count
            else:
                one.errors[match[4]] += count
    return found


def _endpoint(
    endpoint: tuple[str, str], one: _Endpoint, levels: Mapping[float, float]
) -> ReportedEndpoint:
    return ReportedEndpoint.of(endpoint, one.requests, one.failed, levels if one.codes else {})


def _after(counters: Mapping[str, int], begin: str) -> Counter[str]:
    return Counter(
        {key.removeprefix(begin): n for key, n in counters.items() if key.startswith(begin)}
    )


def _failed(codes: Mapping[str, int]) -> int:
    return sum(count for code, count in codes.items() if not "200" <= code < "400")


def _levels(summary: Mapping[str, Any]) -> dict[float, float]:
    if not summary.get("count"):
        return {}
    return {
        share: milliseconds(summary[key], key) for key, share in _LEVELS.items() if key in summary
    }


ARTILLERY: Final = ReportFormat("artillery", "artillery", _read, ENDPOINT)
