"""k6's own result files: `--out json` and `--out csv`.

One request is one sample of ``http_req_duration``; the other eight metrics of the same request, and all that
are no requests, are passed over. A sample's time is the end of its request. Failed is what k6 calls failed
(``expected_response`` is false), so a 404 is, unless the script expects it. Status "0" is no answer.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import (
    EPOCH_UNITS,
    Facts,
    Format,
    Request,
    checked,
    label,
    milliseconds,
    nanoseconds,
)

__all__ = ["K6_CSV", "K6_JSON"]

_METRIC: Final = "http_req_duration"
_NEEDED: Final = {"metric_name", "timestamp", "metric_value", "method", "name", "status"}


def _json(content: Content, facts: Facts) -> Iterator[Request]:
    for _, line in content.lines():
        if not line.strip():
            continue
        try:
            sample = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise content.wrong(f"is not JSON ({error})") from error
        if not isinstance(sample, dict):
            raise content.wrong("is no k6 sample: an object was expected")
        if sample.get("metric") != _METRIC or sample.get("type") != "Point":
            continue
        try:
            data = sample["data"]
            tags = data.get("tags") or {}
            trace_id = (data.get("metadata") or {}).get("trace_id") or ""
            _note_release(facts, tags.get("release"))
            yield _request(nanoseconds(data["time"]), data["value"], tags, trace_id)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise content.wrong(f"is no k6 sample ({_reason(error)})") from error


def _csv(content: Content, facts: Facts) -> Iterator[Request]:
    rows = csv.reader((line.decode() + "\n" for _, line in content.lines()), strict=True)
    whole_seconds = False
    try:
        header = next(rows)
        if missing := sorted(_NEEDED - set(header)):
            raise content.wrong(f"is no header of k6's CSV: without {', '.join(missing)}")
        for row in rows:
            if len(row) != len(header):
                raise content.wrong(f"has {len(row)} columns, the header {len(header)}")
            if row[0] != _METRIC:
                continue
            tags = dict(zip(header, row, strict=True))
            extra = _pairs(tags.get("extra_tags", ""))
            trace_id = _pairs(tags.get("metadata", "")).get("trace_id", "")
            _note_release(facts, extra.get("release"))
            time_ns, unit = _timestamp(tags["timestamp"])
            whole_seconds |= unit == 10**9
            yield _request(time_ns, tags["metric_value"], tags, trace_id)
    except (KeyError, ValueError, csv.Error) as error:
        raise content.wrong(f"is no k6 CSV sample ({_reason(error)})") from error
    facts.coarse_times = whole_seconds
    if whole_seconds:
        facts.warnings.append(
            "time stamps are whole seconds, so start and end are; K6_CSV_TIME_FORMAT=unix_micro gives more"
        )


def _timestamp(text: str) -> tuple[int, int]:
    """Nanoseconds since 1970 and the unit in ns, judged by magnitude: the setting is not in the file."""
    if not text.isdecimal():
        return nanoseconds(text), 1
    value = int(text)
    unit = next(unit for bound, unit in EPOCH_UNITS if value < bound)
    return value * unit, unit


def _request(end_ns: int, latency: object, tags: Mapping[str, Any], trace_id: str) -> Request:
    value = milliseconds(latency, _METRIC)
    status = int(tags.get("status") or 0)
    return checked(
        Request(
            start_us=(end_ns - round(value * 1e6)) // 1000,
            end_us=end_ns // 1000,
            duration_ms=value if status else None,
            method=str(tags["method"]),
            name=str(tags["name"]),
            status=status,
            failed=_failed(tags, status),
            error=str(tags.get("error") or ""),
            trace_id=str(trace_id),
        )
    )


def _failed(tags: Mapping[str, Any], status: int) -> bool:
    expected = tags.get("expected_response")
    # A script may switch the tag off; then k6's own default rule says what failed.
    return expected == "false" if expected in {"true", "false"} else not 200 <= status < 400


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split("&") if "=" in pair)


def _note_release(facts: Facts, release: object) -> None:
    if name := label(release, "release"):
        facts.releases.add(name)


def _reason(error: Exception) -> str:
    return f"without {error}" if isinstance(error, KeyError) else str(error)


K6_JSON: Final = Format("k6-json", "k6", _json)
K6_CSV: Final = Format("k6-csv", "k6", _csv)
