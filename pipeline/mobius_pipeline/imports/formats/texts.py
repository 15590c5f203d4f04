"""What readers of text formats share: JSON and CSV with errors that name the line, and trace ids."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content

__all__ = [
    "csv_rows",
    "decoded",
    "json_document",
    "json_object",
    "path_only",
    "text_lines",
    "trace_id_of",
    "without_urls",
    "wrong_document",
]

# Bodies of answers stand in cells; the csv module's own limit is 128 KiB. A line may have 256 MiB.
csv.field_size_limit(256 << 20)

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_NO_TRACE: Final = "0" * 32
_URL_IN_TEXT: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>]+")
_URL: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^?#]*|/[^?#]*)[?#].*", re.DOTALL)


def json_object(content: Content, line: bytes, what: str) -> dict[str, Any]:
    """Read one line of JSON that must be an object; ``what`` names what the line should be.

    Raises
    ------
    UsageError
        It is none; names the line.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise content.wrong(f"is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise content.wrong(f"is no {what}: an object was expected")
    return found


def json_document(content: Content) -> Any:
    """Read a file that is one JSON document of up to 256 MiB.

    Raises
    ------
    UsageError
        It is none; names the line.
    """
    try:
        return json.loads(content.rest())
    except json.JSONDecodeError as error:
        raise content.wrong(f"is not JSON ({error.msg})", line=error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise content.wrong(f"is not JSON ({error})", line=1) from error


def wrong_document(content: Content, what: str, error: Exception) -> UsageError:
    """Make the error for a document in which something is missing or of another kind."""
    reason = f"without {error}" if isinstance(error, KeyError) else str(error)
    return content.wrong(f"is no {what} ({reason})", line=1)


def csv_rows(content: Content, delimiter: str = ",") -> Iterator[list[str]]:
    """Yield the rows of a CSV file, empty lines left out; cells in quotes may hold line ends.

    Raises
    ------
    UsageError
        It is no CSV, or not UTF-8; names the line.
    """
    lines = (line.decode("utf-8-sig") + "\n" for _, line in content.lines())
    try:
        yield from (row for row in csv.reader(lines, strict=True, delimiter=delimiter) if row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise content.wrong(f"is no CSV ({error})") from error


def decoded(content: Content, line: bytes) -> str:
    """Return a line as text.

    Raises
    ------
    UsageError
        It is not UTF-8.
    """
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise content.wrong(f"is no UTF-8 text ({error.reason})") from error


def text_lines(content: Content, most: int = 10_000) -> list[str]:
    """Return the lines of a short text that a tool printed.

    Raises
    ------
    UsageError
        It has more than ``most`` lines.
    """
    lines = []
    for number, line in content.lines():
        if number > most:
            raise content.wrong(f"has more than {most:,} lines, so it is no summary of a run")
        lines.append(line.decode("utf-8", "replace"))
    return lines


def trace_id_of(text: object) -> str:
    """Return the trace id of a traceparent, a traceresponse or an id; empty where there is none."""
    if not isinstance(text, str):
        return ""
    text = text.strip().lower()
    match = _TRACEPARENT.match(text)
    found = match[1] if match else text
    return found if _TRACE_ID.fullmatch(found) and found != _NO_TRACE else ""


def without_urls(text: str) -> str:
    """Return a message with its URLs cut out: they make each its own, and may hold what is nobody's business."""
    return _URL_IN_TEXT.sub("…", text) if "://" in text else text


@lru_cache(maxsize=4096)
def path_only(name: str) -> str:
    """Return a URL or path without query and fragment; any other name as it is."""
    if ("?" in name or "#" in name) and (match := _URL.fullmatch(name)):
        return match[1]
    return name
