"""ApacheBench's results: requests (-g), percentiles (-e), and the text that it prints.

- ``-g`` has a row a request, sorted by duration: start to the second, whole ms, no status. Beside the text it is known
  how many failed; which did is not in any file, so they are taken evenly from the sorted durations.
- ``-e`` has percentiles and no count.
- "Failed requests" of the text are answers of another length than the first: no failures. Those are "Non-2xx responses",
  and what could not be sent or read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import Facts, Format, Request, checked, milliseconds
from mobius_pipeline.imports.formats.one_url import ENDPOINT, TIMED, closed, count_of, one_endpoint
from mobius_pipeline.imports.formats.reported import ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import csv_rows, text_lines

__all__ = [
    "AB_GNUPLOT", "AB_PERCENTILES", "AB_TEXT", "is_ab_gnuplot", "is_ab_percentiles", "is_ab_text",
]  # fmt: skip

_GNUPLOT: Final = b"starttime\tseconds\tctime\tdtime\tttime\twait"
_PERCENTILES: Final = b"Percentage served,Time in ms"
_TEXT: Final = b"This is ApacheBench"
_FIGURE: Final = re.compile(r"([A-Z][\w /-]+):\s+(\S+)")
_FAILED_BY: Final = re.compile(
    r"\s*\(Connect: (\d+), Receive: (\d+), Length: (\d+), Exceptions: (\d+)\)"
)
_LEVEL: Final = re.compile(r"\s*(\d+)%\s+(\d+)(?: \(longest request\))?\s*")
_REFUSED: Final = re.compile(r"apr_\w+: (.+)|Total of (\d+) requests completed")


@dataclass(frozen=True, slots=True)
class _Text:
    url: str
    requests: int
    failed: int
    seconds: float
    levels: dict[float, float]


def is_ab_gnuplot(head: bytes) -> bool:
    """Tell whether a file begins like what ab writes with -g."""
    return head.startswith(_GNUPLOT)


def is_ab_percentiles(head: bytes) -> bool:
    """Tell whether a file begins like what ab writes with -e."""
    return head.startswith(_PERCENTILES)


def is_ab_text(head: bytes) -> bool:
    """Tell whether a file begins like what ab prints."""
    return head.startswith(_TEXT)


def _read_gnuplot(content: Content, facts: Facts) -> Iterator[Request]:
    beside = facts.beside if isinstance(facts.beside, ReportedRun) else None
    said = None if beside is None else beside.endpoints[0]
    method, name = facts.given.endpoint(content, "ab's -g file", said.name if said else None)
    closed(facts, "ab")
    facts.percentiles, facts.coarse_times = "all_requests", True
    failed, total = (0, 0) if said is None else (said.failed, said.requests or 0)
    facts.warnings.append(
        "ab's -g file does not say which requests failed: give the text that ab printed beside it to count them"
        if said is None
        else f"ab does not say which requests failed: the {failed:,} that did were taken evenly from the durations"
    )
    rows = csv_rows(content, "\t")
    next(rows)
    number = 0
    for row in rows:
        if len(row) != 6:
            raise content.wrong(f"has {len(row)} columns, ab's -g file 6")
        try:
            latency = milliseconds(row[4], "ttime")
            start = count_of(row[1]) * 1_000_000
            request = Request(
                start_us=start,
                end_us=start + round(latency * 1000),
                duration_ms=latency,
                method=method,
                name=name,
                status=0,
                # Number k of n is one of f when (k + 1/2) f / n passes a half.
                failed=_due(number + 1, failed, total) > _due(number, failed, total),
            )
            yield checked(request)
        except (ValueError, OverflowError) as error:
            raise content.wrong(f"is no row of ab's -g file ({error})") from error
        number += 1
    if said is not None and number != total:
        raise content.wrong(
            f"holds {number:,} requests, the text beside it {total:,}: they are of two runs"
        )


def _due(number: int, failed: int, total: int) -> int:
    """How many of the first ``number`` requests are failed ones, when they are spread evenly."""
    return (2 * number * failed + total) // (2 * total) if total else 0


def _read_percentiles(content: Content, facts: Facts) -> ReportedRun:
    beside = facts.beside if isinstance(facts.beside, ReportedRun) else None
    said = None if beside is None else beside.endpoints[0]
    began, endpoint = facts.given.start_and_endpoint(
        content, "ab's -e file", said.name if said else None
    )
    closed(facts, "ab")
    rows = csv_rows(content)
    next(rows)
    levels = {}
    for row in rows:
        try:
            share, latency = row
            level = float(share) / 100
            if not 0 <= level <= 1:
                raise ValueError(f"{share} % served")  # noqa: TRY301 -- the line is added below
            levels[round(level, 6)] = milliseconds(latency, "a percentile")
        except ValueError as error:
            raise content.wrong(f"is no row of ab's -e file ({error})") from error
    if said is None or beside is None:
        counts = facts.given.need_requests(content, "ab's -e file"), 0
        warnings = (
            "ab's -e file does not say how many requests failed: the text that ab printed does",
        )
        return one_endpoint(endpoint, counts, levels, (began, began), warnings=warnings)
    counts = said.requests or 0, said.failed
    return one_endpoint(endpoint, counts, levels, (began, began + beside.end_us - beside.start_us))


def _read_text(content: Content, facts: Facts) -> ReportedRun:
    text = _parse(content)
    closed(facts, "ab")
    # As a companion it need not say when it was: the file that it stands beside does, or asks.
    began, endpoint = 0, ("", text.url)
    if facts.beside is None:
        began, endpoint = facts.given.start_and_endpoint(content, "ab's text", text.url)
    span = began, began + round(text.seconds * 1e6)
    counts = text.requests, text.failed
    statuses = {"ok": text.requests - text.failed, "failed": text.failed}
    return one_endpoint(endpoint, counts, text.levels, span, statuses=statuses)


def _parse(content: Content) -> _Text:
    figures: dict[str, str] = {}
    levels: dict[float, float] = {}
    broken = 0
    for line in text_lines(content):
        if match := _FAILED_BY.match(line):
            broken = sum(int(match[n]) for n in (1, 2, 4))  # not those of another length
        elif match := _LEVEL.fullmatch(line):
            levels[int(match[1]) / 100] = milliseconds(match[2], "a percentile")
        elif match := _FIGURE.match(line):
            figures.setdefault(match[1], match[2])
        elif "Complete requests" not in figures and (match := _REFUSED.search(line)):
            raise content.wrong(
                f"says that ab gave up ({match[0][:200]}): it wrote no figures, so there is no run to import"
            )
    try:
        requests = count_of(figures["Complete requests"])
        failed = min(requests, count_of(figures.get("Non-2xx responses", "0")) + broken)
        scheme = "https" if "SSL/TLS Protocol" in figures else "http"
        host, port = figures["Server Hostname"], figures["Server Port"]
        seconds = milliseconds(float(figures["Time taken for tests"]) * 1000, "time taken") / 1000
        url = f"{scheme}://{host}:{port}{figures['Document Path']}"
    except (KeyError, ValueError) as error:
        raise content.wrong(f"is no whole text of ab: without {error}", line=1) from error
    return _Text(url, requests, failed, seconds, levels if requests else {})


AB_TEXT: Final = ReportFormat("ab-text", "ab", _read_text, TIMED)
AB_GNUPLOT: Final = Format("ab-gnuplot", "ab", _read_gnuplot, ENDPOINT, AB_TEXT.name)
AB_PERCENTILES: Final = ReportFormat(
    "ab-percentiles", "ab", _read_percentiles, TIMED | {"requests"}, AB_TEXT.name
)
