"""Locust's `--json` output: per endpoint a histogram of rounded latencies, and requests and failures a second.

The histogram says neither when a request was made nor which requests failed. Its requests are therefore dealt
out over the minutes, and over failed and not, in proportion to what the file counts there. Counts are exact
in every minute and the distribution is the file's own; how latency changed during the run is not in the file.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import (
    Facts,
    Format,
    Request,
    checked,
    milliseconds,
    possible_time,
)

__all__ = ["LOCUST_JSON", "deal"]

_Cell = TypeVar("_Cell")
_MOST_REQUESTS: Final = 10**12
# Locust rounds to two digits, so a run of a week has some 600 latencies in 10,000 minutes.
_MOST_PAIRS: Final = 20_000_000


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    try:
        entries = json.loads(content.rest())
    except json.JSONDecodeError as error:
        raise content.wrong(f"is not JSON ({error.msg})", line=error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise content.wrong(f"is not JSON ({error})", line=1) from error
    if not isinstance(entries, list):
        raise content.wrong("is no output of locust --json: a list was expected", line=1)
    facts.percentiles = "all_requests"
    failures = False
    for number, entry in enumerate(entries, 1):
        try:
            failures |= bool(entry["num_failures"])
            yield from _entry(entry, facts)
        except KeyError as error:
            raise content.wrong(f"entry {number}: without {error}", line=1) from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise content.wrong(f"entry {number} is no Locust entry ({error})", line=1) from error
    facts.warnings.append(
        "Locust gives one histogram for the whole run: change of latency within the run cannot be seen"
        + (", and failed requests are in the percentiles" if failures else "")
        + "; mobius_instrumentation.locust.listen() writes every request"
    )


def _entry(entry: Mapping[str, Any], facts: Facts) -> Iterator[Request]:
    total, failed = int(entry["num_requests"]), int(entry["num_failures"])
    histogram: list[tuple[float | None, int]] = sorted(
        (milliseconds(ms, "a response time"), int(count))
        for ms, count in entry["response_times"].items()
    )
    if without := int(entry.get("num_none_requests") or 0):
        histogram.append((None, without))
    if sum(count for _, count in histogram) != total or not 0 <= failed <= total:
        raise ValueError("histogram and number of requests differ")
    if any(count < 0 for _, count in histogram) or total > _MOST_REQUESTS:
        raise ValueError(f"a number of requests is negative, or over {_MOST_REQUESTS:,}")
    if not total:
        return
    start, end = (
        possible_time(round(float(entry[key]) * 1e6))
        for key in ("start_time", "last_request_timestamp")
    )
    facts.start_us = start if facts.start_us is None else min(facts.start_us, start)
    facts.end_us = end if facts.end_us is None else max(facts.end_us, end)
    cells = _cells(entry, total, failed, start)
    if len(histogram) * len(cells) > _MOST_PAIRS:
        raise ValueError(
            f"{len(histogram):,} latencies in {len(cells):,} minutes are more than can be dealt out"
        )
    for ((minute, failing), ms), count in deal(histogram, cells).items():
        begin = max(start, minute)
        yield checked(
            Request(
                start_us=begin,
                end_us=begin,
                duration_ms=ms,
                method=str(entry["method"] or ""),
                name=str(entry["name"]),
                status=0,
                failed=failing,
                requests=count,
            )
        )


def _cells(
    entry: Mapping[str, Any], total: int, failed: int, start: int
) -> list[tuple[tuple[int, bool], int]]:
    """Requests by minute and by failed or not: ((minute's begin in us, failed), count)."""
    requests = _by_minute(entry["num_reqs_per_sec"])
    failures = _by_minute(entry["num_fail_per_sec"])
    fits = sum(requests.values()) == total and sum(failures.values()) == failed
    if not fits or any(failures[minute] > requests[minute] for minute in failures):
        # The seconds are of some requests only: all of them go to the begin, which is certain.
        minute = start // 60_000_000 * 60_000_000
        requests, failures = Counter({minute: total}), Counter({minute: failed})
    cells = [((minute, True), failures[minute]) for minute in sorted(requests)]
    cells += [((minute, False), requests[minute] - failures[minute]) for minute in sorted(requests)]
    return [cell for cell in cells if cell[1]]


def _by_minute(per_second: Mapping[str, Any]) -> Counter[int]:
    minutes: Counter[int] = Counter()
    for second, count in per_second.items():
        minutes[int(second) // 60 * 60_000_000] += int(count)
    return +minutes


def deal(
    histogram: Sequence[tuple[float | None, int]], cells: Sequence[tuple[_Cell, int]]
) -> Counter[tuple[_Cell, float | None]]:
    """Deal the values of ``histogram`` out over ``cells``; both keep their counts exactly.

    Request number k of a cell of n is due at (k + 1/2) / n of the way through the sorted values, so every
    cell gets the whole distribution to within one request (systematic sampling). Takes time by the product of
    values and cells, however many requests they stand for.
    """
    sizes = [size for _, size in cells]
    total = sum(sizes)
    dealt: Counter[tuple[_Cell, float | None]] = Counter()
    before = [0] * len(cells)
    through = 0
    for value, count in histogram:
        if not count:
            continue
        through = min(through + count, total)
        after = _first_due(sizes, total, through)
        for (cell, _), done, now in zip(cells, before, after, strict=True):
            if now > done:
                dealt[cell, value] += now - done
        before = after
    return dealt


def _first_due(sizes: Sequence[int], total: int, count: int) -> list[int]:
    """How many requests of each cell are among the ``count`` that are due first; the first cell goes first of equals.

    Due before ``count / total`` are, of a cell of n, n * count / total rounded to the nearest. All cells together, that
    is too many or too few by less than the number of cells; it is made up for at this boundary, by what is due last
    of those, or first of the others.
    """
    found = [(2 * size * count + total) // (2 * total) for size in sizes]
    excess = sum(found) - count
    heap = [
        _latest(n, size, i) if excess > 0 else _next(n, size, i)
        for i, (n, size) in enumerate(zip(found, sizes, strict=True))
        if (n if excess > 0 else n < size)
    ]
    heapq.heapify(heap)
    # One cell may have several of them: after each its next one takes part.
    for _ in range(abs(excess)):
        i = abs(heap[0][1])
        found[i] += -1 if excess > 0 else 1
        if excess > 0 and found[i]:
            heapq.heapreplace(heap, _latest(found[i], sizes[i], i))
        elif excess < 0 and found[i] < sizes[i]:
            heapq.heapreplace(heap, _next(found[i], sizes[i], i))
        else:
            heapq.heappop(heap)
    return found


def _latest(taken: int, size: int, index: int) -> tuple[float, int]:
    """When the last request of a cell that is taken was due, so that the latest of all cells is the least."""
    return -(taken - 0.5) / size, -index


def _next(taken: int, size: int, index: int) -> tuple[float, int]:
    """When the next request of a cell is due."""
    return (taken + 0.5) / size, index


LOCUST_JSON: Final = Format("locust-json", "locust", _read)
