"""What wrk prints: percentiles of one URL (with --latency) in units that change from line to line; no time, no method.

A response that is neither 2xx nor 3xx is a failure. Socket errors are requests that got no answer; what timed out may
still be answered, and is a failure among the requests.
"""

from __future__ import annotations

import re
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import Facts, milliseconds
from mobius_pipeline.imports.formats.one_url import TIMED, closed, count_of, one_endpoint
from mobius_pipeline.imports.formats.reported import ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import text_lines

__all__ = ["WRK_TEXT", "is_wrk_text"]

_SIGN: Final = re.compile(rb"\s*(Running \S+ test @ \S+|unable to connect to \S+)")
_URL: Final = re.compile(r"\s*Running \S+ test @ (\S+)")
_LEVEL: Final = re.compile(r"\s+(\d+(?:\.\d+)?)%\s+([\d.]+)(us|ms|s|m|h)\s*")
_TOTAL: Final = re.compile(r"\s*(\d+) requests in ([\d.]+)(us|ms|s|m|h), .*")
_OTHER_STATUS: Final = re.compile(r"\s*Non-2xx or 3xx responses: (\d+)")
_SOCKETS: Final = re.compile(
    r"\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)"
)
_NO_LEVELS: Final = "the text holds counts and no percentiles: run wrk with --latency"
_UNIT_MS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}


def is_wrk_text(head: bytes) -> bool:
    """Tell whether a file begins like what wrk prints."""
    return _SIGN.match(head) is not None


def _read(content: Content, facts: Facts) -> ReportedRun:
    url = None
    total: tuple[int, float] | None = None
    levels: dict[float, float] = {}
    others, sockets = 0, (0, 0, 0, 0)
    lines = text_lines(content)
    try:
        for line in lines:
            if match := _URL.match(line):
                url = match[1]
            elif match := _LEVEL.fullmatch(line):
                levels[round(float(match[1]) / 100, 8)] = _ms(match[2], match[3])
            elif match := _TOTAL.fullmatch(line):
                total = count_of(match[1]), _ms(match[2], match[3])
            elif match := _OTHER_STATUS.match(line):
                others = count_of(match[1])
            elif match := _SOCKETS.match(line):
                sockets = tuple(count_of(match[n]) for n in (1, 2, 3, 4))  # type: ignore[assignment]  # four of them
    except ValueError as error:
        raise content.wrong(f"is no text of wrk ({error})", line=1) from error
    if url is None:
        problem = f"says that wrk could not begin ({lines[0][:200]}): no request was made, so there is no run to import"
        raise content.wrong(problem, line=1)
    if total is None:
        raise content.wrong("is no whole text of wrk: without its number of requests", line=1)
    start, endpoint = facts.given.start_and_endpoint(content, "wrk's text", url)
    closed(facts, "wrk")
    unanswered, timeouts = sum(sockets[:3]), sockets[3]
    failed = min(total[0], others + timeouts) + unanswered
    kinds = dict(zip(("connect", "read", "write", "timeout"), sockets, strict=True))
    return one_endpoint(
        endpoint,
        (total[0] + unanswered, failed),
        # Where nothing was answered in time every figure is 0, which is no latency.
        levels if total[0] and any(levels.values()) else {},
        (start, start + round(total[1] * 1000)),
        errors={f"socket error: {kind}": count for kind, count in kinds.items() if count},
        statuses={"ok": total[0] - others, "failed": others}
        | ({"0": unanswered} if unanswered else {}),
        warnings=() if levels else (_NO_LEVELS,),
    )


def _ms(number: str, unit: str) -> float:
    return milliseconds(round(float(number) * _UNIT_MS[unit], 6), "a latency")


WRK_TEXT: Final = ReportFormat("wrk-text", "wrk", _read, TIMED)
