"""Which rows of JMeter's CSV are samples that hold others: redirects, pages with their embedded resources.

Rows come depth first, each parent before what it holds, in the parent's thread; what was fetched beside it comes without a
thread or from one of a pool, between rows of other threads. A row holds those after it that lie in its time and

- are called like it with -0, -1 at the end (JMeter's default), or
- begin with it, and whose bytes, received and sent, add up to its own (whatever they are called).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from mobius_pipeline.imports.formats.model import Request

__all__ = ["Families", "Node"]

# Threads of a thread group are called "name 1-7"; samples of others belong to one of theirs.
_OWN_THREAD: Final = re.compile(r".* \d+-\d+", re.DOTALL)
# Threads whose last row may still turn out to be a parent.
_OPEN_THREADS: Final = 5_000
# Families that a row without a thread of its own may belong to, the latest first.
_NEAR: Final = 64
# Start and length are whole ms, each rounded by itself.
_TICK_US: Final = 1_000
_MOST_PARTS: Final = 10_000


@dataclass(slots=True)
class Node:
    """A row, and what may be inside it. Sizes in bytes are None where the file has not got them."""

    request: Request
    received: int | None
    sent: int | None
    children: list[Node] = field(default_factory=list)
    named: int = 0
    received_inside: int = 0
    sent_inside: int = 0

    def may_hold(self, other: Node) -> bool:
        """Whether ``other``, which comes after it, can be a part of it."""
        mine, its = self.request, other.request
        if not (mine.start_us - _TICK_US <= its.start_us and its.end_us <= mine.end_us + _TICK_US):
            return False
        if self._names(other):
            return True
        sizes = (self.received, self.sent, other.received, other.sent)
        if any(size is None for size in sizes) or len(self.children) >= _MOST_PARTS:
            return False
        if not self.children and its.start_us > mine.start_us + _TICK_US:
            return False
        room = (self.received or 0) - self.received_inside, (self.sent or 0) - self.sent_inside
        return any(room) and (other.received or 0) <= room[0] and (other.sent or 0) <= room[1]

    def take(self, other: Node) -> None:
        """Put ``other`` inside, until it shows whether it is."""
        self.children.append(other)
        self.named += self._names(other)
        self.received_inside += other.received or 0
        self.sent_inside += other.sent or 0

    @property
    def holds(self) -> bool:
        """Whether it is sure that it holds what is inside it."""
        if self.named:
            return True
        adds_up = (self.received, self.sent) == (self.received_inside, self.sent_inside)
        return len(self.children) > 1 and adds_up

    def _names(self, other: Node) -> bool:
        begin, _, number = other.request.name.rpartition("-")
        return begin == self.request.name and number.isdecimal()


class Families:
    """Takes the rows in their order and gives back those that hold no others, family by family."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, list[Node]] = OrderedDict()
        self.parents = 0

    def enter(self, thread: str, node: Node) -> Iterator[Request]:
        """Take the next row; yield the requests of a family that it shows to be complete."""
        line = self._line_of(thread, node)
        if line is None:
            if before := self._open.pop(thread, None):
                yield from self._settled(before[0])
            self._open[thread] = [node]
            if len(self._open) > _OPEN_THREADS:
                _, eldest = self._open.popitem(last=False)
                yield from self._settled(eldest[0])
            return
        line[-1].take(node)
        line.append(node)

    def rest(self) -> Iterator[Request]:
        """Yield what is still held back."""
        for line in self._open.values():
            yield from self._settled(line[0])
        self._open.clear()

    def _line_of(self, thread: str, node: Node) -> list[Node] | None:
        """Find the line of rows, each inside the one before, that ``node`` is the next of; cut it to there."""
        lines = [self._open[thread]] if thread in self._open else []
        if not _OWN_THREAD.fullmatch(thread):
            latest = reversed(self._open.values())
            lines += [line for line, _ in zip(latest, range(_NEAR), strict=False)]
        for line in lines:
            for depth in range(len(line), 0, -1):
                if line[depth - 1].may_hold(node):
                    del line[depth:]
                    return line
        return None

    def _settled(self, node: Node) -> list[Request]:
        """Return the requests that a row is or holds; where it failed and none of those did, the last one fails."""
        inside = [request for child in node.children for request in self._settled(child)]
        if not node.holds:
            return [node.request, *inside]
        self.parents += 1
        if node.request.failed and not any(request.failed for request in inside):
            last = inside[-1]
            inside[-1] = last._replace(failed=True, error=last.error or node.request.error)
        return inside
