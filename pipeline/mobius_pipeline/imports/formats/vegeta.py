"""vegeta's results, one record a request: its JSON lines and its CSV; :mod:`.vegeta_gob` has its own binary form.

Time stamps are the start. Code 0 is no answer, and ``error`` says why; from 400 on it is set for answers too.
Redirects are followed inside a record. The trace id is that of the answer's ``Traceresponse``, where the service
sends one. Bodies are passed over.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
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
)
from mobius_pipeline.imports.formats.texts import csv_rows, json_object, trace_id_of, without_urls

__all__ = ["VEGETA_CSV", "VEGETA_JSON", "is_vegeta_csv", "is_vegeta_json", "note_run", "to_request"]

EVIDENCE: Final = "vegeta sends at its rate, whether answers come or not (unless -rate=0 or -max-workers held it back)"
_JSON: Final = re.compile(
    rb'\s*\{[^\n]{0,300}?"seq"\s*:\s*\d+\s*,\s*"code"\s*:\s*\d+\s*,\s*"timestamp"\s*:'
)
_CSV: Final = re.compile(rb"\d{18,19},\d{1,3},\d+,\d+,\d+,")
# time, code, latency, bytes out and in, error, body, attack, seq, method, URL, headers
_COLUMNS: Final = 12
_TRACE_HEADERS: Final = frozenset({"traceresponse", "traceparent"})


def is_vegeta_json(head: bytes) -> bool:
    """Tell whether a file begins like vegeta's JSON lines."""
    return _JSON.match(head) is not None


def is_vegeta_csv(head: bytes) -> bool:
    """Tell whether a file begins like vegeta's CSV, which has no header."""
    return _CSV.match(head) is not None


def note_run(facts: Facts, attack: object) -> None:
    """Take what a record says of its run."""
    facts.load, facts.load_evidence, facts.load_may_differ = "open", EVIDENCE, True
    facts.test = facts.test or label(attack, "attack")


def to_request(
    start_ns: int, code: int, latency_ns: float, *, error: str, method: str, url: str, trace: str
) -> Request:
    """Make the request of a record.

    Raises
    ------
    ValueError
        A figure is none that can be stored.
    """
    latency = milliseconds(latency_ns / 1e6, "latency")
    return checked(
        Request(
            start_us=start_ns // 1000,
            end_us=(start_ns + round(latency_ns)) // 1000,
            duration_ms=latency if code else None,
            method=method,
            name=url,
            status=code,
            failed=not 200 <= code < 400,
            error=without_urls(error),
            trace_id=trace,
        )
    )


def trace_of(headers: Mapping[str, Sequence[str]]) -> str:
    """Return the trace id that an answer names, or nothing."""
    for name, values in headers.items():
        if name.lower() in _TRACE_HEADERS and values:
            return trace_id_of(values[0])
    return ""


def _json(content: Content, facts: Facts) -> Iterator[Request]:
    for _, line in content.lines():
        if not line.strip():
            continue
        record = json_object(content, line, "result of vegeta")
        try:
            note_run(facts, record.get("attack"))
            yield to_request(
                nanoseconds(record["timestamp"]),
                int(record["code"]),
                float(record["latency"]),
                error=str(record.get("error") or ""),
                method=str(record["method"]),
                url=str(record["url"]),
                trace=trace_of(_headers(record.get("headers"))),
            )
        except KeyError as error:
            raise content.wrong(f"is no result of vegeta: without {error}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise content.wrong(f"is no result of vegeta ({error})") from error


def _headers(value: Any) -> Mapping[str, Sequence[str]]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, list) for each in value.values()):
        raise TypeError("headers are no lists by name")
    return value


def _csv(content: Content, facts: Facts) -> Iterator[Request]:
    for row in csv_rows(content):
        if len(row) != _COLUMNS:
            raise content.wrong(f"has {len(row)} columns, vegeta's CSV {_COLUMNS}")
        time, code, latency, _, _, error, _, attack, _, method, url, headers = row
        try:
            note_run(facts, attack)
            yield to_request(
                int(time),
                int(code),
                float(latency),
                error=error,
                method=method,
                url=url,
                trace=trace_of(_mime(headers)),
            )
        except (ValueError, OverflowError) as wrong:
            raise content.wrong(f"is no result of vegeta ({wrong})") from wrong


def _mime(text: str) -> Mapping[str, Sequence[str]]:
    """Read headers as CSV has them: lines of "Name: value", in base64."""
    try:
        lines = base64.b64decode(text, validate=True).decode("utf-8", "replace").splitlines()
    except binascii.Error as error:
        raise ValueError(f"headers are no base64: {error}") from error
    return {name: [value.strip()] for name, _, value in (line.partition(":") for line in lines)}


VEGETA_JSON: Final = Format("vegeta-json", "vegeta", _json)
VEGETA_CSV: Final = Format("vegeta-csv", "vegeta", _csv)
