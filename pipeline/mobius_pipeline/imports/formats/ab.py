"""ApacheBench's results: requests (-g), percentiles (-e), and the text that it prints.

- ``-g`` has a row a request, sorted by duration: start to the second, whole ms, no status. Beside the text it is known
  how many failed; which did is not in any file, so they are taken evenly from the sorted durations.
- ``-e`` has percentiles and no count.
- "Failed requests" of the text add up what is none: answers of another length than the first ("Length"), and attempts to
  connect or to read that were repeated ("Connect", "Exceptions"). Failures are "Non-2xx responses" and "Receive", which got
  no answer (ab -r goes on then), and have a row like any other: without a first byte, so with ``wait`` 0.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
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
# Milliseconds after which a first byte that still counts as 0 ms cannot be an answer's.
_A_WHILE: Final = 2
_LOST: Final = "{:,} requests got no answer, and ab's percentiles hold them; its -g file beside this text tells them apart"
_REFUSED: Final = re.compile(r"apr_\w+: (.+)|Total of (\d+) requests completed")


@dataclass(frozen=True, slots=True)
class _Text:
    url: str
    requests: int
    refused: int
    broken: int
    length: int
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
    facts.percentiles, facts.coarse_times = "all_requests" if said is None else "answered", True
    total = 0 if said is None else (said.requests or 0)
    refused = 0 if beside is None else beside.beside["non_2xx"]
    silent = _Silent(0, 0) if beside is None else _silent(content, beside.beside)
    answers = total - silent.slow - silent.fast
    facts.warnings.append(
        "ab's -g file does not say which requests failed: give the text that ab printed beside it to count them"
        if said is None
        else f"ab does not say which answers were no 2xx: the {refused:,} that were not were taken evenly from the durations"
    )
    number = answered = 0
    for start, latency, waits in _rows(content):
        number += 1
        lost = waits is not None and silent.takes(waits)
        answered += not lost
        # Number k of n is one of f when (k + 1/2) f / n passes a half.
        due = _due(answered, refused, answers) > _due(answered - 1, refused, answers)
        try:
            yield checked(
                Request(
                    start_us=start * 1_000_000,
                    end_us=start * 1_000_000 + round(latency * 1000),
                    duration_ms=None if lost else latency,
                    method=method,
                    name=name,
                    status=0,
                    failed=lost or due,
                    error="no answer" if lost else "",
                )
            )
        except ValueError as error:
            raise content.wrong(f"is no row of ab's -g file ({error})") from error
    if said is not None and number != total:
        raise content.wrong(
            f"holds {number:,} requests, the text beside it {total:,}: they are of two runs"
        )


@dataclass(slots=True)
class _Silent:
    """How many requests got no first byte, of those that took a while and of those that ended at once."""

    slow: int
    fast: int

    def takes(self, milliseconds_spent: int) -> bool:
        """Whether a request without a first byte is one of them."""
        if milliseconds_spent >= _A_WHILE:
            self.slow -= 1
            return self.slow >= 0
        self.fast -= 1
        return self.fast >= 0


def _silent(content: Content, counts: Mapping[str, int]) -> _Silent:
    """Look through the rows for those that got no first byte, where the text says that there are any.

    ``wait`` is rounded, so 0 is also an answer within half a millisecond; over ``_A_WHILE`` it is none, if the text
    counts as many that broke or were of another length.
    """
    broken, possible = counts["receive"], counts["receive"] + counts["length"]
    if not possible:
        return _Silent(0, 0)
    with Content.open(content.source) as first:
        slow = sum(waits is not None and waits >= _A_WHILE for _, _, waits in _rows(first))
    slow = min(slow, possible)
    return _Silent(slow, max(0, broken - slow))


def _rows(content: Content) -> Iterator[tuple[int, float, int | None]]:
    """Yield start in s, latency in ms, and, of requests without a first byte, what they took after connecting in ms."""
    rows = csv_rows(content, "\t")
    next(rows)
    for row in rows:
        if len(row) != 6:
            raise content.wrong(f"has {len(row)} columns, ab's -g file 6")
        try:
            start, spent, wait = (count_of(row[n]) for n in (1, 3, 5))
            latency = milliseconds(row[4], "ttime")
        except (ValueError, OverflowError) as error:
            raise content.wrong(f"is no row of ab's -g file ({error})") from error
        yield start, latency, None if wait else spent


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
    return one_endpoint(
        endpoint,
        counts,
        levels if said.levels else {},
        (began, began + beside.end_us - beside.start_us),
        statuses=beside.statuses,
        warnings=beside.warnings,
    )


def _read_text(content: Content, facts: Facts) -> ReportedRun:
    text = _parse(content)
    closed(facts, "ab")
    # As a companion it need not say when it was: the file that it stands beside does, or asks.
    began, endpoint = 0, ("", text.url)
    if facts.beside is None:
        began, endpoint = facts.given.start_and_endpoint(content, "ab's text", text.url)
    broken = min(text.broken, text.requests)
    failed = min(text.requests, text.refused + broken)
    run = one_endpoint(
        endpoint,
        (text.requests, failed),
        text.levels if broken < text.requests else {},
        (began, began + round(text.seconds * 1e6)),
        errors={"no answer": broken} if broken else {},
        statuses={"ok": text.requests - failed, "failed": failed - broken}
        | ({"0": broken} if broken else {}),
        warnings=(_LOST.format(broken),) if broken else (),
    )
    beside = {"non_2xx": failed - broken, "receive": broken, "length": text.length}
    return dataclasses.replace(run, beside=beside)


def _parse(content: Content) -> _Text:
    figures: dict[str, str] = {}
    levels: dict[float, float] = {}
    broken = length = 0
    for number, line in enumerate(text_lines(content), 1):
        try:
            if match := _FAILED_BY.match(line):
                broken, length = count_of(match[2]), count_of(match[3])
            elif match := _LEVEL.fullmatch(line):
                levels[int(match[1]) / 100] = milliseconds(match[2], "a percentile")
            elif match := _FIGURE.match(line):
                figures.setdefault(match[1], match[2])
            elif "Complete requests" not in figures and (match := _REFUSED.search(line)):
                raise content.wrong(
                    f"says that ab gave up ({match[0][:200]}): it wrote no figures, so there is no run to import"
                )
        except ValueError as error:
            raise content.wrong(str(error), line=number) from error
    try:
        requests = count_of(figures["Complete requests"])
        refused = count_of(figures.get("Non-2xx responses", "0"))
        scheme = "https" if "SSL/TLS Protocol" in figures else "http"
        host, port = figures["Server Hostname"], figures["Server Port"]
        seconds = milliseconds(float(figures["Time taken for tests"]) * 1000, "time taken") / 1000
        url = f"{scheme}://{host}:{port}{figures['Document Path']}"
    except (KeyError, ValueError) as error:
        raise content.wrong(f"is no whole text of ab: without {error}", line=1) from error
    return _Text(url, requests, refused, broken, length, seconds, levels if requests else {})


AB_TEXT: Final = ReportFormat("ab-text", "ab", _read_text, TIMED)
AB_GNUPLOT: Final = Format("ab-gnuplot", "ab", _read_gnuplot, ENDPOINT, AB_TEXT.name)
AB_PERCENTILES: Final = ReportFormat(
    "ab-percentiles", "ab", _read_percentiles, TIMED | {"requests"}, AB_TEXT.name
)
