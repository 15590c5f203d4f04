"""Step 4: cut contiguous offset ranges of one partition, big ones, because the engine's cost is per insert."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mobius_pipeline.kafka_client import Topic
from mobius_pipeline.ledger import Standing
from mobius_pipeline.worker.steps import Batch, Routed

__all__ = ["BatchLimits", "Batching"]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch is cut when it reaches one of these. At least one message is always taken.

    An insert through the views costs the engine about 0.1 s of CPU time before its first span, and 5 us a span: with
    two partitions, waiting 2 s keeps a trickle of spans at a tenth of a core, and a flood fills batches anyway.

    Attributes
    ----------
    gathered_bytes
        Of all partitions' open batches together. Above it the biggest is cut; where none may be (ranges that are
        repeated have their ends), all partitions but one are to be paused.
    """

    spans: int = 65_536
    bytes: int = 32_000_000
    seconds: float = 2.0
    gathered_bytes: int = 64_000_000


@dataclass(slots=True)
class _Open:
    """What one partition has gathered since its last batch; ``until`` is the end of a range to be repeated."""

    first: int
    until: int | None
    items: list[Routed] = field(default_factory=list)
    spans: int = 0
    bytes: int = 0
    begun: float = 0.0


class Batching:
    """Gathers messages by partition. A range that the ledger holds unfinished is gathered again, precisely."""

    def __init__(
        self,
        topic: Topic,
        limits: BatchLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._limits = limits
        self._clock = clock
        self._open: dict[int, _Open] = {}

    def add(self, standings: Mapping[int, Standing]) -> None:
        """Begin to gather these partitions, each from where it stands."""
        for partition, standing in standings.items():
            self._open[partition] = (
                _Open(*standing.unfinished)
                if standing.unfinished
                else _Open(standing.next_offset, None)
            )

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget what is gathered of these partitions: nobody has claimed it, so their next owners read it again."""
        for partition in partitions:
            del self._open[partition]

    def crowded(self) -> frozenset[int]:
        """Partitions to be paused, because too much is gathered: all but the one that has most."""
        if self._gathered() <= self._limits.gathered_bytes:
            return frozenset()
        most = max(self._open, key=lambda partition: self._open[partition].bytes)
        return frozenset(self._open) - {most}

    def submit(self, item: Routed) -> Iterator[Batch]:
        """Take one message; give the batches that it ends."""
        partition = item.message.partition
        opened = self._open[partition]
        size = len(item.body) + sum(len(foreign.payload) for foreign in item.foreign)
        if opened.until is not None and item.message.offset > opened.until:
            # Its last record is no longer there to see (a compacted or transactional topic).
            yield self._cut(partition)
        elif opened.until is None and opened.items and self._full(opened, item.spans, size):
            yield self._cut(partition)
        opened = self._open[partition]
        if not opened.items:
            opened.begun = self._clock()
        opened.items.append(item)
        opened.spans += item.spans
        opened.bytes += size
        ended = (
            opened.until == item.message.offset
            if opened.until is not None
            else self._full(opened, 0, 0)
        )
        if ended:
            yield self._cut(partition)
        while self._gathered() > self._limits.gathered_bytes:
            may = [
                number for number, each in self._open.items() if each.items and each.until is None
            ]
            if not may:
                break
            yield self._cut(max(may, key=lambda number: self._open[number].bytes))

    def poll(self) -> Iterator[Batch]:
        """Give what has waited long enough; a range to be repeated waits for all of its messages."""
        now = self._clock()
        for partition, opened in list(self._open.items()):
            if opened.items and opened.until is None and now - opened.begun >= self._limits.seconds:
                yield self._cut(partition)

    def close(self) -> Iterator[Batch]:
        """Give what is gathered, but no part of a range to be repeated: that stays for the next worker."""
        for partition, opened in list(self._open.items()):
            if opened.items and opened.until is None:
                yield self._cut(partition)

    def _gathered(self) -> int:
        return sum(opened.bytes for opened in self._open.values())

    def _full(self, opened: _Open, spans: int, size: int) -> bool:
        reached = opened.spans + spans, opened.bytes + size
        if spans or size:
            return reached[0] > self._limits.spans or reached[1] > self._limits.bytes
        return reached[0] >= self._limits.spans or reached[1] >= self._limits.bytes

    def _cut(self, partition: int) -> Batch:
        opened = self._open[partition]
        last = opened.until if opened.until is not None else opened.items[-1].message.offset
        self._open[partition] = _Open(last + 1, None)
        return Batch(
            self._topic,
            partition,
            opened.first,
            last,
            tuple(opened.items),
            opened.until is not None,
        )
