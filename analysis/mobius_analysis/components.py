"""Where a request's time goes: the spans below it, and what the service measured itself, adding up to its duration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

__all__ = ["OWN", "SpanRow", "label_of", "parts_of_request"]

OWN: Final = "own time"
"""What is left of the endpoint's own service after everything that is known."""

_MOST_SPANS: Final = 400
_WAITING: Final = {
    "mobius.queue.proxy.duration": "waiting at the proxy",
    "mobius.queue.duration": "waiting before the handler",
    "mobius.loop.gc.duration": "garbage collection",
    "mobius.loop.lag.duration": "waiting for the event loop",
}
"""Measures of the endpoint's span that part its own time, whatever spans there are (seconds)."""

_CALLS: Final = {
    "mobius.client.database.duration": "database calls",
    "mobius.client.cache.duration": "cache calls",
    "mobius.client.http.duration": "HTTP calls",
    "mobius.client.other.duration": "other calls",
}
"""Measures that stand in for the spans of calls where these were not kept."""


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A stored span: ids in hex, times in nanoseconds since 1970, numeric attributes in seconds."""

    span_id: str
    parent: str
    service: str
    name: str
    kind: str
    database: str
    start_ns: int
    end_ns: int


def label_of(span: SpanRow) -> str:
    """Name the part of a request that a span's own time stands for."""
    if span.database:
        return f"{span.service}: {span.database} {span.name}"
    if span.kind in ("Client", "Producer"):
        return (
            f"{span.service}: {span.name}"
            if span.name.startswith("call ")
            else f"{span.service}: call {span.name}"
        )
    return f"{span.service}: {span.name}"


def parts_of_request(
    root: SpanRow, spans: Sequence[SpanRow], measures: Mapping[str, float]
) -> dict[str, float]:
    """Part the duration of ``root`` (seconds) among it and the spans below it.

    At each moment the deepest active spans share the time evenly, so that the parts add up to the
    duration whatever ran at the same time, and time is counted where it was spent.

    Parameters
    ----------
    root
        The endpoint's server span.
    spans
        Spans of its trace; those that do not descend from it are ignored. What lies outside of it in
        time is cut off.
    measures
        Numeric ``mobius.*.duration`` attributes of ``root``, in seconds.
    """
    below = _descendants(root, spans)
    parts: dict[str, float] = {}
    for span, seconds in zip((root, *below), _own_seconds(root, below), strict=True):
        if span is not root and seconds > 0:
            label = label_of(span)
            parts[label] = parts.get(label, 0.0) + seconds
    rest = (root.end_ns - root.start_ns) / 1e9 - sum(parts.values())
    known = _WAITING if below else {**_WAITING, **_CALLS}
    for name, label in known.items():
        seconds = min(max(measures.get(name, 0.0), 0.0), max(rest, 0.0))
        if seconds > 0:
            parts[label] = seconds
            rest -= seconds
    parts[OWN] = max(0.0, rest)
    return parts


def _descendants(root: SpanRow, spans: Iterable[SpanRow]) -> list[SpanRow]:
    """Spans below ``root`` that overlap it, parents before children, at most 400."""
    children: dict[str, list[SpanRow]] = {}
    for span in spans:
        children.setdefault(span.parent, []).append(span)
    found: list[SpanRow] = []
    queue, seen = [root.span_id], {root.span_id}
    while queue and len(found) < _MOST_SPANS:
        for span in children.get(queue.pop(0), ()):
            if span.span_id in seen:  # a parent that is its own descendant, or an id stored twice
                continue
            seen.add(span.span_id)
            if span.start_ns < root.end_ns and span.end_ns > root.start_ns:
                found.append(span)
                queue.append(span.span_id)
    return found[:_MOST_SPANS]


def _own_seconds(root: SpanRow, below: Sequence[SpanRow]) -> list[float]:
    """Time in which each of ``root`` and ``below`` is a deepest active span, shared among equals."""
    spans = (root, *below)
    place = {span.span_id: i for i, span in enumerate(spans)}
    starts = np.asarray([max(span.start_ns, root.start_ns) for span in spans], np.int64)
    ends = np.asarray([min(span.end_ns, root.end_ns) for span in spans], np.int64)
    moments = np.unique(np.concatenate([starts, ends]))
    lengths = np.diff(moments)
    active = (starts[:, None] <= moments[:-1]) & (ends[:, None] >= moments[1:])
    covered = np.zeros_like(active)
    for i, span in enumerate(spans[1:], start=1):
        above: Any = place.get(span.parent)
        while above is not None:
            covered[above] |= active[i]
            above = place.get(spans[above].parent) if above else None
    deepest = active & ~covered
    share = deepest / np.maximum(1, deepest.sum(axis=0))
    return [float(seconds) for seconds in share @ lengths / 1e9]
