"""JSON lines of our own Locust listener (`mobius_instrumentation.locust`): a header, requests, an end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import (
    Facts,
    Format,
    Request,
    checked,
    label,
    milliseconds,
    nanoseconds,
    plain_text,
)

__all__ = ["LISTENER"]


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    requests = failed = 0
    end: Mapping[str, Any] | None = None
    broken: int | None = None
    for number, line in content.lines():
        if not line.strip():
            continue
        if broken is not None:
            raise content.wrong("is not JSON", line=broken)
        if end is not None:
            raise content.wrong("follows the end of the run; give one run a file")
        record = _record(content, line)
        if record is None:
            broken = number  # tolerable in the very last line only, of a run that was killed
        elif number == 1:
            _header(content, record, facts)
        elif record.get("kind") == "end":
            end = record
        else:
            request = _request(content, record)
            requests, failed = requests + 1, failed + request.failed
            yield request
    if broken is not None and content.ends_with_newline:
        raise content.wrong("is not JSON", line=broken)
    if end is None:
        facts.warnings.append(
            f"the file has no end line, so the run was cut off: what it holds was taken ({requests} requests)"
        )
    elif (end.get("requests"), end.get("failed")) != (requests, failed):
        raise content.wrong(
            f"says {end.get('requests')} requests, {end.get('failed')} failed; "
            f"the file holds {requests} and {failed}, so lines are missing"
        )


def _record(content: Content, line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        raise content.wrong("is no line of a result file: an object was expected")
    return record


def _header(content: Content, record: Mapping[str, Any], facts: Facts) -> None:
    if record.get("mobius_synthetic") != 1:
        raise content.wrong(f"has version {record.get('mobius_synthetic')!r}; this reads version 1")
    try:
        facts.run = label(record.get("run"), "run")
        facts.test = label(record.get("test"), "test")
        facts.tool_version = label(record.get("tool_version"), "tool_version")
        release = label(record.get("release"), "release")
    except ValueError as error:
        raise content.wrong(str(error)) from error
    facts.generated = record.get("generated") is True
    if release:
        facts.releases.add(release)


def _request(content: Content, record: Mapping[str, Any]) -> Request:
    try:
        given = record["duration_ms"]
        start_ns = nanoseconds(record["start"])
        failed = _boolean(record["failed"])
        duration = None if given is None else milliseconds(given, "duration_ms")
        status = int(record.get("status") or 0)
        return checked(
            Request(
                start_us=start_ns // 1000,
                end_us=(start_ns + round((duration or 0) * 1e6)) // 1000,
                duration_ms=duration if status else None,
                method=str(record["method"]),
                name=str(record["name"]),
                status=status,
                failed=failed,
                error=_text(record.get("error")),
                trace_id=_text(record.get("trace_id")),
            )
        )
    except KeyError as error:
        raise content.wrong(f"is no request: without {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise content.wrong(f"is no request ({error})") from error


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("failed is no boolean")
    return value


def _text(value: object) -> str:
    return plain_text(value) if isinstance(value, str) else ""


LISTENER: Final = Format("mobius-listener", "locust", _read)
