"""What formats share whose file is about one URL: who says which, and a run of one endpoint of which percentiles are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mobius_pipeline.imports.formats.given import Option
from mobius_pipeline.imports.formats.model import Facts, LoadModel, milliseconds
from mobius_pipeline.imports.formats.reported import ReportedEndpoint, ReportedRun

__all__ = ["ENDPOINT", "TIMED", "closed", "count_of", "one_endpoint", "seconds_ms"]

ENDPOINT: Final[frozenset[Option]] = frozenset({"url", "method", "name"})
TIMED: Final[frozenset[Option]] = ENDPOINT | {"started"}
_MOST: Final = 10**12


def closed(facts: Facts, tool: str, model: LoadModel = "closed") -> None:
    """Note that a tool's connections each wait for an answer before they send the next request."""
    facts.load = model
    facts.load_evidence = (
        f"{tool}'s connections wait for each answer before they send the next request"
    )


def count_of(text: object) -> int:
    """Read a count of requests.

    Raises
    ------
    ValueError, TypeError
        It is no whole number from 0 on.
    """
    number = int(text)  # type: ignore[call-overload]  # whatever else it is raises TypeError, as it should
    if not 0 <= number <= _MOST:
        raise ValueError(f"{str(number)[:40]} is no count of requests")
    return int(number)


def seconds_ms(value: object, what: str) -> float:
    """Read a latency in seconds as milliseconds, without the noise of the multiplication.

    Raises
    ------
    ValueError, TypeError
        It is none.
    """
    return milliseconds(round(float(value) * 1000, 6), what)  # type: ignore[arg-type]  # as above


def one_endpoint(
    endpoint: tuple[str, str],
    counts: tuple[int, int],
    levels: Mapping[float, float],
    span_us: tuple[int, int],
    *,
    errors: Mapping[str, int] | None = None,
    statuses: Mapping[str, int] | None = None,
    warnings: tuple[str, ...] = (),
) -> ReportedRun:
    """Make a run of one endpoint; ``counts`` are requests and failures, ``levels`` percentiles in ms by share.

    A run without one answer has no latencies, whatever zeros its tool writes.
    """
    requests, failed = counts
    return ReportedRun(
        endpoints=(ReportedEndpoint.of(endpoint, requests, failed, levels),),
        start_us=span_us[0],
        end_us=span_us[1],
        errors=tuple(
            {"method": endpoint[0], "name": endpoint[1], "error": error, "requests": count}
            for error, count in (errors or {}).items()
        ),
        warnings=warnings,
        statuses=statuses or {},
    )
