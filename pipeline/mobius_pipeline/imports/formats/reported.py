"""Runs of which a file gives only the tool's own figures: counts and percentiles, no requests, no histogram.

Nothing of them can go into the rollup. Their percentiles are compared as they are, without an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.given import Option
from mobius_pipeline.imports.formats.model import Facts

__all__ = ["ReportFormat", "ReportedEndpoint", "ReportedRun"]


@dataclass(frozen=True, slots=True)
class ReportedEndpoint:
    """One endpoint; percentiles in ms are the tool's own, None where it gives none of that level.

    ``requests`` is None where the file gives percentiles of a name without its count. ``levels`` holds every
    percentile that the file gives, by share (0.975) in ms.
    """

    method: str
    name: str
    requests: int | None
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    levels: Mapping[float, float] = field(default_factory=dict, kw_only=True)

    @classmethod
    def of(
        cls,
        endpoint: tuple[str, str],
        requests: int | None,
        failed: int,
        levels: Mapping[float, float],
    ) -> ReportedEndpoint:
        """Make one from its percentiles by share."""
        p50, p95, p99 = (levels.get(share) for share in (0.5, 0.95, 0.99))
        return cls(*endpoint, requests, failed, p50, p95, p99, levels=levels)


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """A run of which only the tool's own figures are known. Times are microseconds since 1970.

    ``requests`` and ``failed`` are the run's own totals where its endpoints do not add up to them (hops of
    redirects, requests without a name), and None where they do.
    """

    endpoints: tuple[ReportedEndpoint, ...]
    start_us: int
    end_us: int
    errors: tuple[dict[str, str | int], ...] = ()
    exceptions: int = 0
    warnings: tuple[str, ...] = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    requests: int | None = None
    failed: int | None = None
    beside: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """A kind of result file that holds a tool's own figures: its name, its tool, and how to read it."""

    name: str
    tool: str
    read: Callable[[Content, Facts], ReportedRun]
    takes: frozenset[Option] = frozenset()
    companion: str | None = None
