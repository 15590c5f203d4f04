"""A trace as rows of a waterfall: order, depth, self time and critical path. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Row", "Span", "Waterfall", "arrange"]


@dataclass(frozen=True, slots=True)
class Span:
    """One span of a trace. Times are nanoseconds since 1970 (``start_ns``) and of duration."""

    span_id: str
    parent_id: str
    name: str
    service: str
    kind: str
    start_ns: int
    duration_ns: int
    region: str = ""
    version: str = ""
    instance: str = ""
    source: str = "real"
    error: bool = False
    status_message: str = ""
    http_status: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    resource: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[tuple[int, str, Mapping[str, str]]] = ()

    @property
    def end_ns(self) -> int:
        """End, in nanoseconds since 1970."""
        return self.start_ns + self.duration_ns


@dataclass(frozen=True, slots=True)
class Row:
    """A span at its place: depth below the root, time of its own, and its parts of the critical path."""

    span: Span
    depth: int
    self_ns: int
    critical: tuple[tuple[int, int], ...]
    orphan: bool

    @property
    def critical_ns(self) -> int:
        """Time of the critical path that is spent in this span itself."""
        return sum(end - start for start, end in self.critical)


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Rows from the first root down, and the time that they span."""

    rows: tuple[Row, ...]
    start_ns: int
    end_ns: int
    repeated: int

    @property
    def duration_ns(self) -> int:
        """From the first start to the last end."""
        return self.end_ns - self.start_ns


def arrange(spans: Sequence[Span]) -> Waterfall:
    """Order the spans of one trace by tree and time.

    A span whose parent is missing (it was sampled away, or has not arrived) stands at the top, marked as an
    orphan. A span that came twice counts once. Parents that form a circle are cut at the earliest span.
    """
    unique: dict[str, Span] = {}
    for span in spans:
        unique.setdefault(span.span_id, span)
    children: dict[str, list[Span]] = defaultdict(list)
    roots: list[tuple[Span, bool]] = []
    for span in sorted(unique.values(), key=lambda s: (s.start_ns, -s.duration_ns, s.span_id)):
        if span.parent_id in unique and span.parent_id != span.span_id:
            children[span.parent_id].append(span)
        else:
            roots.append((span, bool(span.parent_id)))
    rows: list[Row] = []
    placed: set[str] = set()
    critical = (
        _critical(max((r for r, _ in roots), key=lambda s: s.duration_ns), children)
        if roots
        else {}
    )

    def place(top: Span, *, orphan: bool) -> None:
        stack = [(top, 0)]
        while stack:
            span, depth = stack.pop()
            if span.span_id in placed:
                continue
            placed.add(span.span_id)
            below = children[span.span_id]
            own = _self_time(span, below)
            path = tuple(critical.get(span.span_id, ()))
            rows.append(Row(span, depth, own, path, orphan and depth == 0))
            stack.extend((child, depth + 1) for child in reversed(below))

    for root, orphan in roots:
        place(root, orphan=orphan)
    for span in sorted(unique.values(), key=lambda s: s.start_ns):
        if span.span_id not in placed:  # only a circle of parents is left
            place(span, orphan=True)
    start = min((s.start_ns for s in unique.values()), default=0)
    end = max((s.end_ns for s in unique.values()), default=0)
    return Waterfall(tuple(rows), start, end, len(spans) - len(unique))


def _self_time(span: Span, children: Sequence[Span]) -> int:
    """Duration of ``span`` less the time in which at least one child ran; children that overlap count once."""
    covered = 0
    reach = span.start_ns
    for child in children:  # sorted by start
        begin, end = max(child.start_ns, reach), min(child.end_ns, span.end_ns)
        if end > begin:
            covered += end - begin
            reach = end
    return span.duration_ns - covered


def _critical(
    root: Span, children: Mapping[str, Sequence[Span]]
) -> dict[str, list[tuple[int, int]]]:
    """Return the pieces of time, per span id, whose shortening would shorten the whole trace.

    Walks back from the root's end: the child that ended last is what the parent waited for; before that child
    began, the child that ended last by then; the time between belongs to the parent itself (the method of
    Yang and Miller, "Critical path analysis for the execution of parallel and distributed programs", 1988,
    on a tree).
    """
    pieces: dict[str, list[tuple[int, int]]] = defaultdict(list)
    stack = [(root, root.start_ns, root.end_ns)]
    seen: set[str] = set()
    while stack:
        span, begin, end = stack.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        cursor = end
        for child in sorted(children.get(span.span_id, ()), key=lambda s: -s.end_ns):
            child_end = min(child.end_ns, end)
            child_begin = max(child.start_ns, begin)
            if child_end > cursor or child_end <= child_begin:
                continue  # ran beside a later one: nothing waited for it
            if child_end < cursor:
                pieces[span.span_id].append((child_end, cursor))
            stack.append((child, child_begin, child_end))
            cursor = child_begin
        if cursor > begin:
            pieces[span.span_id].append((begin, cursor))
    return {name: sorted(parts) for name, parts in pieces.items()}
