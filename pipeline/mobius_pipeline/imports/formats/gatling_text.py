"""Gatling's simulation.log as text, as versions up to 3.10 write it: one record a line, its parts apart by tabs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.gatling import note_run, to_request
from mobius_pipeline.imports.formats.model import Facts, Format, Request
from mobius_pipeline.imports.formats.texts import decoded

__all__ = ["GATLING_TEXT", "is_gatling_text"]

_RUN: Final = re.compile(rb"(RUN\t[^\n\t]+\t[^\n\t]*\t\d{12,14}\t|ASSERTION\t[^\n]*\n)")
_KINDS: Final = frozenset({"RUN", "USER", "REQUEST", "GROUP", "ERROR", "ASSERTION"})
# REQUEST groups name start end OK|KO message; 3.3 and before have the user's number after REQUEST.
_PARTS: Final = 6


def is_gatling_text(head: bytes) -> bool:
    """Tell whether a file begins like Gatling's log."""
    return _RUN.match(head) is not None


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    for _, line in content.lines():
        parts = decoded(content, line).split("\t")
        if parts[0] not in _KINDS:
            if line.strip():
                raise content.wrong(f"is no record of Gatling's log: {parts[0][:40]!r}")
            continue
        try:
            if parts[0] == "RUN":
                note_run(facts, parts[-1].strip(), parts[1])
            elif parts[0] == "REQUEST":
                yield _request(parts)
        except ValueError as error:
            raise content.wrong(f"is no record of Gatling's log ({error})") from error


def _request(parts: list[str]) -> Request:
    if len(parts) <= _PARTS:
        raise ValueError(f"{len(parts)} parts, a request has {_PARTS + 1}")
    # From the right: the message is one part, whatever stands before the name.
    name, start, end, result, message = parts[-5:]
    if result not in {"OK", "KO"}:
        raise ValueError(f"{result[:40]!r} where OK or KO belongs")
    for time in (start, end):
        if not (time.isascii() and time.isdecimal() and len(time) <= 14):
            raise ValueError(f"{time[:40]!r} is no epoch ms")
    return to_request(name, int(start), int(end), good=result == "OK", message=message.strip())


GATLING_TEXT: Final = Format("gatling-text", "gatling", _read)
