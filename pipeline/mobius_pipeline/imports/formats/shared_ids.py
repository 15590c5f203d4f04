"""Trace ids that several rows of one file carry: they say of none of them which trace it is, so they are dropped."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Final

from mobius_pipeline.imports.formats.model import Facts, Request

__all__ = ["drop_shared_ids"]

# Rows that share an id are saved together. Both bounds keep memory at some 50 MB, however long the file is.
_NEAR: Final = 20_000
_REMEMBERED: Final = 200_000


def drop_shared_ids(
    requests: Iterable[Request], facts: Facts, *, near: int = _NEAR, remembered: int = _REMEMBERED
) -> Iterator[Request]:
    """Yield ``requests`` in their order, without the trace ids that several of them carry.

    A request waits until ``near`` more have come, so that all of a group lose the id. One that comes back
    within ``remembered`` ids loses it too, though the first kept it: that is said in a warning.
    """
    ids = _Ids(remembered)
    waiting: deque[Request] = deque()
    for request in requests:
        waiting.append(request)
        ids.enter(request.trace_id)
        if len(waiting) > near:
            yield ids.settled(waiting.popleft())
    while waiting:
        yield ids.settled(waiting.popleft())
    if ids.dropped:
        facts.warnings.append(
            f"{ids.dropped:,} rows carry a trace id that others carry too: JMeter reads variables when a sample is "
            "saved, so such an id says nothing; it was dropped. The XML form with request headers has the right ones"
        )
    if ids.late:
        facts.warnings.append(
            f"{ids.late:,} of those came long after the row that had the id first, which kept it"
        )


class _Ids:
    """The ids of the requests that wait, and of those that went before."""

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self._waiting: Counter[str] = Counter()
        self._shared: set[str] = set()
        self._gone: OrderedDict[str, None] = OrderedDict()
        self.dropped = self.late = 0

    def enter(self, key: str) -> None:
        """Take the id of a request that begins to wait."""
        if key:
            self._waiting[key] += 1
            if self._waiting[key] > 1:
                self._shared.add(key)

    def settled(self, request: Request) -> Request:
        """Return a request that has waited long enough, without its id if others have that too."""
        key = request.trace_id
        if not key:
            return request
        shared, again = key in self._shared, key in self._gone
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
            self._shared.discard(key)
        self._gone[key] = None
        self._gone.move_to_end(key)
        if len(self._gone) > self._remembered:
            self._gone.popitem(last=False)
        if not shared and not again:
            return request
        self.dropped += 1
        self.late += not shared
        return request._replace(trace_id="", named_trace_id=key)
