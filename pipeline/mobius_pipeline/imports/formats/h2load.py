"""h2load's --log-file: start in us, status and duration in us of each request, apart by tabs; no URL.

Status -1 is a request that failed on the wire. What was on a connection that broke is not in it; a log is empty when no
connection was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import Facts, Format, Request, checked, milliseconds
from mobius_pipeline.imports.formats.one_url import ENDPOINT, closed

__all__ = ["H2LOAD_LOG", "is_h2load_log"]

_LINE: Final = re.compile(rb"(\d{16})\t(-1|\d{3})\t(\d{1,16})")
_ONLY_BEGUN: Final = (
    "h2load writes no line for a request whose connection broke or was never made, so none of those is counted: what it "
    "prints says how many were errored"
)
_FIRST: Final = re.compile(_LINE.pattern + rb"\r?(\n|$)")


def is_h2load_log(head: bytes) -> bool:
    """Tell whether a file begins like h2load's log."""
    return _FIRST.match(head) is not None


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    method, name = facts.given.endpoint(content, "h2load's log")
    closed(facts, "h2load")
    facts.warnings.append(_ONLY_BEGUN)
    for _, line in content.lines():
        match = _LINE.fullmatch(line)
        if match is None:
            if not line.strip():
                continue
            raise content.wrong(
                "is no line of h2load's log: start in us, status and duration in us"
            )
        start, status = int(match[1]), max(0, int(match[2]))
        try:
            latency = milliseconds(int(match[3]) / 1000, "duration")
            yield checked(
                Request(
                    start_us=start,
                    end_us=start + int(match[3]),
                    duration_ms=latency if status else None,
                    method=method,
                    name=name,
                    status=status,
                    failed=not 200 <= status < 400,
                    error="" if status else "failed on the wire",
                )
            )
        except ValueError as error:
            raise content.wrong(f"is no line of h2load's log ({error})") from error


H2LOAD_LOG: Final = Format("h2load-log", "h2load", _read, ENDPOINT)
