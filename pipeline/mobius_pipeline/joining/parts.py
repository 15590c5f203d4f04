"""Where the time of a joined request went: network, queue, the service itself, what the service called. Pure.

Only durations are subtracted, never times of two clocks, so clocks that are apart change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mobius_pipeline.joining.pairing import NO_PARENT, Pair, Span

__all__ = ["JoinedRequest", "joined_request", "union_ns"]

_CALLS = frozenset({"Client", "Producer", "Server", "Consumer"})
_MILLION = 1e6


class JoinedRequest(NamedTuple):
    """One request of a test with the time of each part, milliseconds.

    ``client_ms = network_ms + (queue_ms or 0) + self_ms + downstream_ms``. ``client_ms`` and ``network_ms`` are None
    where no answer came. ``network_ms`` is everything outside the service's spans: the wire, the client's own work, waiting
    before the span began. It is negative where a span outlasted its answer. ``queue_ms`` is None where not all entries
    measured it; waiting is in ``self_ms`` then.
    ``entries`` counts the server spans (redirects followed within the request); ``weight`` is the spans' sampling weight.
    """

    minute: int
    region: str
    service: str
    method: str
    route: str
    status: int
    entries: int
    weight: float
    client_ms: float | None
    network_ms: float | None
    queue_ms: float | None
    self_ms: float
    downstream_ms: float


def joined_request(pair: Pair, spans: Sequence[Span]) -> JoinedRequest:
    """Split one request's time; ``spans`` are all spans of its trace.

    Downstream is the union of the intervals of all calls beneath the request's entry spans, so calls at the same time
    count once; it ends where the entry ends.
    """
    record, entries = pair.record, pair.entries
    server = sum(entry.duration_ns for entry in entries) / _MILLION
    beneath = _beneath(entries, spans)
    downstream = sum(union_ns(e, beneath[e.span_id]) for e in entries) / _MILLION
    queues = [entry.queue_ms for entry in entries if entry.queue_ms is not None]
    # What handlers wait for may call others itself: at most what calls leave of the entry is waiting.
    queue = min(sum(queues), server - downstream) if len(queues) == len(entries) else None
    client = record.duration_ms
    return JoinedRequest(
        minute=record.start_ns // 60_000_000_000,
        region=record.region,
        service=record.service,
        method=record.method,
        route=record.route,
        status=record.status,
        entries=len(entries),
        weight=entries[0].weight,
        client_ms=client,
        network_ms=None if client is None else client - server,
        queue_ms=queue,
        self_ms=server - downstream - (queue or 0.0),
        downstream_ms=downstream,
    )


def union_ns(entry: Span, spans: Iterable[Span]) -> int:
    """Length of the union of the spans' intervals inside that of ``entry``, nanoseconds."""
    total, reached = 0, entry.start_ns
    for start, stop in sorted((span.start_ns, span.end_ns) for span in spans):
        begin, end = max(start, reached), min(stop, entry.end_ns)
        if end > begin:
            total += end - begin
            reached = end
    return total


def _beneath(entries: Sequence[Span], spans: Sequence[Span]) -> dict[str, list[Span]]:
    """Calls of each entry, by its id. A call whose way up is broken belongs to the entry around its start, if any."""
    found: dict[str, list[Span]] = {entry.span_id: [] for entry in entries}
    parents = {span.span_id: span.parent_id for span in spans}
    tops: dict[str, str] = {entry.span_id: entry.span_id for entry in entries}
    for span in spans:
        if span.kind not in _CALLS or span.span_id in found:
            continue
        top = _top(span.span_id, parents, tops)
        if top not in found and top != NO_PARENT:
            around = (e for e in entries if e.start_ns <= span.start_ns < e.end_ns)
            top = next((entry.span_id for entry in around), "")
        if top in found:
            found[top].append(span)
    return found


def _top(span_id: str, parents: dict[str, str], tops: dict[str, str]) -> str:
    """Return the entry above a span, or the last id of a way that ends elsewhere; remembers what it finds."""
    way: list[str] = []
    seen: set[str] = set()
    here = span_id
    while here not in tops and here in parents and here not in seen:
        way.append(here)
        seen.add(here)
        here = parents[here]
    top = tops.get(here, here)
    tops.update(dict.fromkeys(way, top))
    return top
