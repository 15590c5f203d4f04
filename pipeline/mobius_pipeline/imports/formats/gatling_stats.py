"""Gatling's stats.json: counts and percentiles by request, in a tree of groups; no time, no status.

``percentiles1`` to ``4`` are those of its configuration, by default of 50, 75, 95 and 99 %; the file does not say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.gatling import EVIDENCE
from mobius_pipeline.imports.formats.model import Facts, milliseconds
from mobius_pipeline.imports.formats.reported import ReportedEndpoint, ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import json_document, wrong_document

__all__ = ["GATLING_STATS", "is_gatling_stats"]

_SIGN: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"GROUP"[\s\S]{0,400}"stats"\s*:')
_LEVELS: Final = {
    "percentiles1": 0.5,
    "percentiles2": 0.75,
    "percentiles3": 0.95,
    "percentiles4": 0.99,
}
_DEEPEST: Final = 100
_NOTE: Final = (
    "percentiles1 to 4 were taken for those of 50, 75, 95 and 99 %, Gatling's defaults: the file does not say; failed "
    "requests are in them. simulation.log has every request"
)


def is_gatling_stats(head: bytes) -> bool:
    """Tell whether a file begins like Gatling's stats.json."""
    return _SIGN.match(head) is not None


def _read(content: Content, facts: Facts) -> ReportedRun:
    document = json_document(content)
    facts.load_evidence = EVIDENCE
    start = facts.given.start(content, "Gatling's stats.json")
    try:
        leaves = list(_leaves(document, "", 0))
        total = document["stats"]
        requests, failed = _counts(total)
        rate = float(total["meanNumberOfRequestsPerSecond"]["total"])
        length = round(requests / rate * 1e6) if rate > 0 else 0
        names = Counter(name for _, name, _ in leaves)
        endpoints = tuple(
            _endpoint(name if names[name] == 1 else f"{path}{name}", stats)
            for path, name, stats in leaves
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise wrong_document(content, "stats.json of Gatling", error) from error
    if (sum(e.requests or 0 for e in endpoints), sum(e.failed for e in endpoints)) != (
        requests,
        failed,
    ):
        raise content.wrong("counts other requests in all than in its parts", line=1)
    return ReportedRun(
        endpoints=endpoints,
        start_us=start,
        end_us=start + length,
        warnings=(_NOTE,),
        statuses={"ok": requests - failed, "failed": failed},
    )


def _leaves(
    node: Mapping[str, Any], path: str, depth: int
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield groups, name and figures of each request."""
    if depth > _DEEPEST:
        raise ValueError("groups inside groups too deep")
    if node["type"] == "REQUEST":
        yield path, str(node["name"]), node["stats"]
        return
    inner = path if not depth else f"{path}{node['name']} / "
    for child in (node.get("contents") or {}).values():
        yield from _leaves(child, inner, depth + 1)


def _counts(stats: Mapping[str, Any]) -> tuple[int, int]:
    counts = stats["numberOfRequests"]
    total, ok, failed = (int(counts[key]) for key in ("total", "ok", "ko"))
    if min(ok, failed) < 0 or ok + failed != total:
        raise ValueError(f"{total} requests are not {ok} and {failed}")
    return total, failed


def _endpoint(name: str, stats: Mapping[str, Any]) -> ReportedEndpoint:
    requests, failed = _counts(stats)
    levels = {
        share: milliseconds(stats[key]["total"], key)
        for key, share in _LEVELS.items()
        if key in stats and requests
    }
    return ReportedEndpoint.of(("", name), requests, failed, levels)


GATLING_STATS: Final = ReportFormat("gatling-stats", "gatling", _read, frozenset({"started"}))
