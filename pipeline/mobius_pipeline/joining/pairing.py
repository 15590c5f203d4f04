"""Which server spans answered which requests of a test, within one trace. Pure.

A load tool's trace id names a trace; the trace may hold several server spans (redirects, services called by the
service), and several requests may carry one id (the hops of a redirect do, and files that lie do).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

__all__ = [
    "NO_PARENT",
    "Outcome",
    "Pair",
    "Record",
    "Span",
    "TraceJoin",
    "entries_of",
    "pair_trace",
]

SERVER: Final = "Server"
NO_PARENT: Final = "0" * 16


class Record(NamedTuple):
    """A request as the load tool saw it. Times are nanoseconds since 1970 by the tool's clock.

    ``lies`` says that the file carries the id on several rows in a way that tells nothing of any of them.
    ``duration_ms`` is None, and ``status`` 0, where no answer came.
    """

    start_ns: int
    duration_ms: float | None
    region: str
    service: str
    method: str
    route: str
    status: int
    lies: bool = False

    @property
    def end_ns(self) -> int:
        """When the answer had come; the start where none came."""
        return self.start_ns + round((self.duration_ms or 0.0) * 1e6)


class Span(NamedTuple):
    """A span as the join needs it. Ids are hexadecimal, ``parent_id`` is all zeros for none; times as in Record.

    ``queue_ms`` is how long the request waited within it for its handler, None where nobody measured it.
    """

    span_id: str
    parent_id: str
    kind: str
    start_ns: int
    duration_ns: int
    method: str
    status: int
    weight: float = 1.0
    queue_ms: float | None = None

    @property
    def end_ns(self) -> int:
        """When it ended."""
        return self.start_ns + self.duration_ns


Outcome = Literal["joined", "no_span", "ambiguous", "contradicted"]
"""What became of a request with a trace id: joined to its spans; no span is known; several requests and spans share
the id and nothing tells which is whose; or the spans are of other requests (another time, method or status)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A request and the server spans that it caused itself: one, or several where it followed redirects."""

    record: Record
    entries: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class TraceJoin:
    """What is known of one trace.

    Attributes
    ----------
    entries
        Server spans that clients outside caused, in order of time.
    pairs
        The requests that are joined.
    outcome
        Of every request of the trace, alike.
    is_test
        Whether the trace's server spans are the test's own traffic.
    """

    entries: tuple[Span, ...]
    pairs: tuple[Pair, ...]
    outcome: Outcome
    is_test: bool


def entries_of(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the server spans of a trace that were caused from outside the services, by time.

    These are the ones without a server span above them; a load tool's own span may be. Where a client span in between
    was lost, a called service's span has none either; it lies within the time of its caller's and hangs on another
    parent, which tells it apart. A span that came twice counts once.
    """
    by_id = {span.span_id: span for span in spans}
    known: dict[str, str | None] = {}
    roots = [
        (span, hook)
        for span in by_id.values()
        if span.kind == SERVER and (hook := _hook(span, by_id, known)) is not None
    ]
    found: list[Span] = []
    # The two latest ends of different hooks are enough to know whether a span of any other hook is around.
    latest: list[tuple[int, str]] = []
    for span, hook in sorted(roots, key=lambda each: (each[0].start_ns, -each[0].duration_ns)):
        if any(end >= span.end_ns for end, other in latest if other != hook):
            continue
        found.append(span)
        others = [each for each in latest if each[1] != hook]
        own = [each for each in latest if each[1] == hook]
        latest = sorted([*others, max([*own, (span.end_ns, hook)])], reverse=True)[:2]
    return tuple(found)


def _hook(span: Span, by_id: Mapping[str, Span], known: dict[str, str | None]) -> str | None:
    """Id of the parent, outside the trace, that a server span hangs on by others; None beneath another server span.

    ``known`` remembers it for the spans on the way.
    """
    way: dict[str, None] = {}
    here = span.parent_id
    while here in by_id and here not in known and here not in way and by_id[here].kind != SERVER:
        way[here] = None
        here = by_id[here].parent_id
    # A ring, or a server span, ends it without a hook.
    hook = known.get(here, None if here in by_id else here)
    known.update(dict.fromkeys(way, hook))
    return hook


def pair_trace(records: Sequence[Record], spans: Sequence[Span], slack_ns: int) -> TraceJoin:
    """Pair the requests of one trace id with the server spans of that trace.

    1. One request: all entry spans are its own, the last gave its answer.
    2. As many requests as entry spans: in order of time. As many answered ones: the same with those.
    3. Anything else is ambiguous, and so is an id that lies.
    4. A request and a span that name different methods or statuses, or lie further apart than ``slack_ns``, are not
       of each other.

    Parameters
    ----------
    slack_ns
        How far the clocks of load tool and services may be apart, nanoseconds.
    """
    entries = entries_of(spans)
    if not entries:
        return TraceJoin((), (), "no_span", is_test=False)
    records = sorted(records, key=lambda record: record.start_ns)
    if any(record.lies for record in records):
        plausible = all(any(_fit(r, e, slack_ns) for r in records) for e in entries)
        return TraceJoin(entries, (), "ambiguous" if plausible else "contradicted", plausible)
    pairs = _pairs(records, entries)
    if pairs:
        if all(_answers(pair, slack_ns) for pair in pairs):
            return TraceJoin(entries, pairs, "joined", is_test=True)
        return TraceJoin(entries, (), "contradicted", is_test=False)
    plausible = all(any(_fit(r, e, slack_ns) for r in records) for e in entries)
    return TraceJoin(entries, (), "ambiguous" if plausible else "contradicted", plausible)


def _pairs(records: Sequence[Record], entries: tuple[Span, ...]) -> tuple[Pair, ...]:
    if len(records) == 1:  # 1
        return (Pair(records[0], entries),)
    answered = [record for record in records if record.status]
    for some in (records, answered):  # 2
        if len(some) == len(entries):
            return tuple(Pair(r, (e,)) for r, e in zip(some, entries, strict=True))
    return ()  # 3


def _answers(pair: Pair, slack_ns: int) -> bool:
    *before, last = pair.entries
    return all(_near(pair.record, span, slack_ns) for span in before) and _fit(
        pair.record, last, slack_ns
    )


def _near(record: Record, span: Span, slack_ns: int) -> bool:
    return record.start_ns - slack_ns <= span.start_ns <= record.end_ns + slack_ns


def _fit(record: Record, span: Span, slack_ns: int) -> bool:
    """Whether ``span`` may have answered ``record``, by time, method and status, where these are known."""
    if not _near(record, span, slack_ns):
        return False
    if record.method and span.method and record.method.upper() != span.method.upper():
        return False
    return not (record.status and span.status and record.status != span.status)
