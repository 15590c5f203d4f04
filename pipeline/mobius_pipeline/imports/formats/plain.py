"""The form for every tool that has no reader of its own: one request a row of CSV, or a line of JSON; units in the names.

``start`` or ``end`` says when (as a time with its offset from UTC, or as ``start_epoch_ms`` and so on), ``duration_ms``
(or ``_s``, ``_us``, ``_ns``) how long; an empty duration is no answer. ``name`` or ``url`` says what was asked for.
The rest may be missing: ``method``, ``status``, ``failed``, ``error``, ``trace_id``, ``requests``.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import (
    Facts,
    Format,
    Request,
    checked,
    milliseconds,
    nanoseconds,
)
from mobius_pipeline.imports.formats.texts import (
    csv_rows,
    json_object,
    trace_id_of,
    without_urls,
)

__all__ = ["COLUMNS", "PLAIN_CSV", "PLAIN_JSON", "is_plain_csv", "is_plain_json"]

_UNITS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_TIMES: Final = tuple(
    f"{edge}{unit}" for edge in ("start", "end") for unit in ("", *(f"_epoch_{u}" for u in _UNITS))
)
_DURATIONS: Final = tuple(f"duration_{unit}" for unit in _UNITS)
_REST: Final = ("name", "url", "method", "status", "failed", "error", "trace_id", "requests")
COLUMNS: Final = (*_TIMES, *_DURATIONS, *_REST)
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_MARK: Final = b"\xef\xbb\xbf"
_HEADER: Final = re.compile(rb"(?:\xef\xbb\xbf)?([^\r\n]{1,4000})")
_NUMBER: Final = re.compile(r"[+-]?(\d{1,19}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,3})?", re.ASCII)
_METHOD: Final = re.compile(r"[A-Za-z-]{0,40}", re.ASCII)
_ALIKE: Final = 0.8


class _FieldError(ValueError):
    """A field of a row is wrong."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(problem)


# ---------------------------------------------------------------------------- which file it is


def is_plain_csv(head: bytes) -> bool:
    """Tell whether a file begins with a header that names a time and a duration."""
    match = _HEADER.match(head)
    if match is None:
        return False
    names = {name.strip(b' "') for name in match[1].split(_delimiter(match[1]).encode())}
    return _names_a_request({name.decode("utf-8", "replace") for name in names})


def is_plain_json(head: bytes) -> bool:
    """Tell whether a file begins with a JSON object that names a time and a duration, and is of no other format."""
    match = _HEADER.match(head.lstrip(_MARK + b" \t\r\n"))
    if match is None or not match[1].startswith(b"{"):
        return False
    keys = set(re.findall(r'"([a-z_]{3,20})"\s*:', match[1].decode("utf-8", "replace")))
    return _names_a_request(keys) and not keys & {"mobius_synthetic", "metric"}


def _names_a_request(names: set[str]) -> bool:
    return not names.isdisjoint(_TIMES) and not names.isdisjoint(_DURATIONS)


def _delimiter(header: bytes) -> str:
    return max(",;\t", key=lambda sign: header.count(sign.encode()))


# ---------------------------------------------------------------------------- rows


def _csv(content: Content, facts: Facts) -> Iterator[Request]:
    match = _HEADER.match(content.peek())
    if match is None:
        raise content.wrong("has no header", line=1)
    rows = csv_rows(content, _delimiter(match[1]))
    header = [name.strip() for name in next(rows)]
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise content.wrong(f"names the column {repeated[0][:40]!r} twice", line=1)
    read = _reader(content, facts, header)
    for row in rows:
        if len(row) != len(header):
            raise content.wrong(f"has {len(row)} columns, the header {len(header)}")
        # An empty cell says nothing.
        yield read({name: cell for name, cell in zip(header, row, strict=True) if cell})


def _json(content: Content, facts: Facts) -> Iterator[Request]:
    read: Callable[[Mapping[str, Any]], Request] | None = None
    names: set[str] = set()
    for _, line in content.lines():
        if not line.strip():
            continue
        record = json_object(content, line.removeprefix(_MARK), "request")
        if read is None:
            read, names = _reader(content, facts, record), set(record)
        elif new := record.keys() - names:
            if (
                "status" in new
            ):  # without it there a duration was an answer, with it that needs a status
                raise content.wrong("has a status, which the first line has not: write null there")
            _check_names(content, facts, new)
            names |= new
        yield read({key: value for key, value in record.items() if value is not None})


def _reader(
    content: Content, facts: Facts, names: Iterable[str]
) -> Callable[[Mapping[str, Any]], Request]:
    """Check the names of a file; return what makes a request of a row."""
    names = list(names)
    _check_names(content, facts, names)
    time = _one_of(content, names, _TIMES, "a time")
    duration = _one_of(content, names, _DURATIONS, "a duration")
    if "name" not in names and "url" not in names:
        raise content.wrong("names no column name, nor url")
    has_status = "status" in names

    def read(row: Mapping[str, Any]) -> Request:
        try:
            return _request(row, time, duration, has_status=has_status)
        except _FieldError as error:
            wrong = content.wrong(str(error))
            raise UsageError(
                wrong.problem, file=wrong.file, line=wrong.line, field=error.field
            ) from error
        except (ValueError, OverflowError) as error:
            raise content.wrong(f"is no request ({error})") from error

    return read


def _check_names(content: Content, facts: Facts, names: Iterable[str]) -> None:
    """Refuse what is a known name misspelt; name what is passed over."""
    unknown = [name for name in names if name not in COLUMNS]
    for name in unknown:
        if meant := difflib.get_close_matches(name.lower()[:40], COLUMNS, n=1, cutoff=_ALIKE):
            raise content.wrong(f"names {name[:40]!r}, which nothing reads: is {meant[0]!r} meant?")
    if unknown:
        listed = ", ".join(repr(name[:40]) for name in unknown[:10])
        facts.warnings.append(
            f"{len(unknown)} columns are none of this form and were not read: {listed}"
        )


def _one_of(content: Content, names: list[str], known: tuple[str, ...], what: str) -> str:
    found = [name for name in names if name in known]
    if len(found) != 1:
        raise content.wrong(
            f"names {' and '.join(found) or 'none'} for {what}: exactly one of {', '.join(known)} is needed"
        )
    return found[0]


# ---------------------------------------------------------------------------- one request


def _request(row: Mapping[str, Any], time: str, duration: str, *, has_status: bool) -> Request:
    waited = _duration(row, duration)
    status = _whole(row, "status", 0)
    answered = waited is not None and (bool(status) or not has_status)
    failed = _failed(row, default=not (answered and (not has_status or 200 <= status < 400)))
    length_us = round((waited or 0) * 1000)
    moment_us = _time_us(row, time)
    start_us = moment_us - length_us if time.startswith("end") else moment_us
    return _field_checked(
        Request(
            start_us=start_us,
            end_us=start_us + length_us,
            duration_ms=waited if answered else None,
            method=_method(row),
            name=_name(row),
            status=status,
            failed=failed,
            error=without_urls(_text(row, "error")),
            trace_id=_trace_id(row),
            requests=_whole(row, "requests", 1),
        ),
        time,
    )


def _field_checked(request: Request, time: str) -> Request:
    try:
        return checked(request)
    except ValueError as error:
        fields = {"status": "status", "a count": "requests"}
        field = next((f for begin, f in fields.items() if str(error).startswith(begin)), time)
        raise _FieldError(field, str(error)) from error


def _time_us(row: Mapping[str, Any], field: str) -> int:
    value = row.get(field)
    if value is None:
        raise _FieldError(field, "says no time")
    try:
        if "_epoch_" not in field:
            return nanoseconds(value if isinstance(value, str) else repr(value)) // 1000
        unit = _UNITS[field.rpartition("_")[2]]
        number = _number(value)
        # Whole numbers stay exact; a fraction of a second as float is exact to 0.3 us.
        return number * unit // 1000 if isinstance(number, int) else round(number * (unit / 1000))
    except (ValueError, OverflowError) as error:
        raise _FieldError(field, str(error)) from error


def _duration(row: Mapping[str, Any], field: str) -> float | None:
    value = row.get(field)
    if value is None:
        return None
    unit = _UNITS[field.rpartition("_")[2]]
    try:
        # Rounded so that 0.0081 s are 8.1 ms, without the noise of the multiplication.
        return milliseconds(round(float(_number(value)) * (unit / 1e6), 9), field)
    except (ValueError, OverflowError) as error:
        raise _FieldError(field, str(error)) from error


def _number(value: object) -> int | float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        text = value.strip()
        value = int(text) if text.lstrip("+-").isdecimal() else float(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return value


def _whole(row: Mapping[str, Any], field: str, default: int) -> int:
    value = row.get(field)
    if value is None:
        return default
    try:
        number = _number(value)
    except (ValueError, OverflowError) as error:
        raise _FieldError(field, str(error)) from error
    if number != int(number):
        raise _FieldError(field, f"{number} is no whole number")
    return int(number)


def _failed(row: Mapping[str, Any], *, default: bool) -> bool:
    value = row.get("failed")
    if value is None:
        return default
    text = json.dumps(value) if isinstance(value, bool | int) else str(value).strip().lower()
    if text not in _BOOLEANS:
        raise _FieldError("failed", f"{str(value)[:40]!r} is neither true nor false")
    return _BOOLEANS[text]


def _name(row: Mapping[str, Any]) -> str:
    name = _text(row, "name").strip() or _text(row, "url").strip()
    if not name:
        raise _FieldError("name", "says neither name nor url")
    return name


def _method(row: Mapping[str, Any]) -> str:
    text = _text(row, "method").strip()
    if not _METHOD.fullmatch(text):
        raise _FieldError("method", f"{text[:40]!r} is no method")
    return text.upper()


def _trace_id(row: Mapping[str, Any]) -> str:
    text = _text(row, "trace_id")
    found = trace_id_of(text)
    if text and not found:
        raise _FieldError("trace_id", f"{text[:60]!r} is no trace id of 32 hexadecimal digits")
    return found


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field, "")
    if not isinstance(value, str):
        raise _FieldError(field, f"{str(value)[:40]!r} is no text")
    return value


PLAIN_CSV: Final = Format("plain-csv", "plain", _csv)
PLAIN_JSON: Final = Format("plain-json", "plain", _json)
