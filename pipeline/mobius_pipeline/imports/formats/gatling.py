"""What Gatling's logs have in common: starts and ends in ms, OK or KO, a message; no method and no status.

A KO whose message is that of a check was answered, and the message may say with which status. Any other KO got no
answer. A redirect is two requests, the second called ``… Redirect 1``.
"""

from __future__ import annotations

import re
from typing import Final

from mobius_pipeline.imports.formats.model import Facts, Request, checked, label, milliseconds
from mobius_pipeline.imports.formats.texts import without_urls

__all__ = ["note_run", "to_request"]

EVIDENCE: Final = "a Gatling simulation injects users by the clock (open) or holds their number (closed), and its log does not say which"
# status.find.is(200), found 404; jsonPath($.id).find.exists, found nothing; bodyString.find... extraction crashed
_CHECK: Final = re.compile(r"\.(find|findAll|findRandom|count)\b")
_STATUS: Final = re.compile(r"status\.find\..*\bfound (\d{3})", re.DOTALL)


def note_run(facts: Facts, version: str, simulation: str) -> None:
    """Take what a log's header says of its run.

    Raises
    ------
    ValueError
        A name is too long, or not printable.
    """
    facts.tool_version = label(version, "version")
    facts.test = label(simulation, "simulation")
    facts.load_evidence = EVIDENCE


def to_request(name: str, start_ms: int, end_ms: int, *, good: bool, message: str) -> Request:
    """Make the request of a record.

    Raises
    ------
    ValueError
        A time is none that can be stored, or the end lies before the start.
    """
    duration = milliseconds(end_ms - start_ms, "end - start")
    found = _STATUS.match(message)
    answered = good or _CHECK.search(message) is not None
    return checked(
        Request(
            start_us=start_ms * 1000,
            end_us=end_ms * 1000,
            duration_ms=duration if answered else None,
            method="",
            name=name,
            status=int(found[1]) if found and not good else 0,
            failed=not good,
            error="" if good else without_urls(message),
        )
    )
