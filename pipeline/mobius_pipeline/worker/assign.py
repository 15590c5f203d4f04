"""Which partitions are this worker's: holds leases, renews them, takes what is free and gives up what is too much."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from clickhouse_connect.driver.exceptions import DatabaseError

from mobius_pipeline.leases import Lease, Leases, OustedError, Roster
from mobius_pipeline.worker.share import share

__all__ = [
    "Assignment",
    "Fence",
    "LeaseLostError",
    "insert_timeout_seconds",
    "lease_errors",
    "unfenced",
]

_VIOLATED_CONSTRAINT: Final = 469
# How often to look who works. Short, so that a worker that comes or goes is noticed soon; one look is two small reads.
_LOOK_SECONDS: Final = 2.0

Fence = Callable[[int], int]
"""Gives the end of a partition's lease (milliseconds since 1970 by the store's clock), far enough away for one insert;
0 where there are no leases. Raises LeaseLostError."""


def unfenced(_partition: int) -> int:
    """Never refuse: for one-off inserts without leases."""
    return 0


def insert_timeout_seconds(lease_seconds: float) -> float:
    """Longest that an insert may take: it begins with more than half of its lease left, and must not outlive it."""
    return lease_seconds / 2


class LeaseLostError(Exception):
    """A lease of ours has ended, or another worker has it: begin again at the ledger."""

    def __init__(self, partition: int | None = None, by: str = "") -> None:
        self.partition = partition
        self.by = by
        super().__init__(
            "the store refused what came after it"
            if partition is None
            else f"partition {partition} is with {by or 'nobody'}"
        )


@contextmanager
def lease_errors() -> Iterator[None]:
    """Tell the engine's refusal of what comes after a lease's end from its other refusals.

    Raises
    ------
    LeaseLostError
        The engine refused it.
    """
    try:
        yield
    except DatabaseError as error:
        if error.code != _VIOLATED_CONSTRAINT:
            raise
        raise LeaseLostError from error


class Assignment:
    """The leases of one worker. To be asked in every turn of the loop; it knows by itself when something is due."""

    def __init__(self, leases: Leases, partitions: Collection[int]) -> None:
        self._leases = leases
        self._partitions = frozenset(partitions)
        self._clock = leases._clock  # noqa: SLF001 - one worker, one clock
        self._held: dict[int, Lease] = {}
        self._roster: Roster | None = None
        self._looked = float("-inf")
        self._announced = float("-inf")

    @property
    def held(self) -> frozenset[int]:
        """Partitions that are ours."""
        return frozenset(self._held)

    @property
    def due(self) -> bool:
        """Whether it is time to look again."""
        return self._clock() - self._looked >= min(_LOOK_SECONDS, self._leases.seconds / 8)

    def look(self) -> frozenset[int]:
        """Show that we live, see who else does; give the partitions of ours that should be another's.

        1. Announce ourselves and renew what we hold, where a quarter of the time has gone.
        2. Ask who works, and who has what.
        3. What we hold must still be ours.

        Raises
        ------
        LeaseLostError
            Something of ours is another's now.
        OustedError
            It is a newer worker's of our own name.
        """
        began = self._clock()
        if began - self._announced >= self._leases.seconds / 4:  # 1
            self._leases.announce()
            self._announced = began
            self._renew()
        roster = self._ask()  # 2
        self._check(roster)  # 3
        wanted = self._shares(roster)
        return frozenset(number for number in self._held if wanted[number] != self._leases.writer)

    def gain(self) -> frozenset[int]:
        """Take what should be ours and is free; give the partitions that became ours.

        What another worker of our own name still holds counts as free: that worker is what we replace.
        """
        roster = self._roster
        if roster is None:
            return frozenset()
        own = [number for number, writer in self._shares(roster).items() if writer == self._me]
        missing = [number for number in own if number not in self._held]
        taken = False
        for number in missing:
            lease = roster.leases.get(number)
            if lease is None or self._free(lease):
                self._leases.take(number, lease.epoch + 1 if lease else 1)
                taken = True
        if taken:
            roster = self._ask()
        gained = {
            number: lease
            for number in missing
            if (lease := roster.leases.get(number)) and lease.writer == self._me and not lease.over
        }
        self._held |= gained
        return frozenset(gained)

    def release(self, partitions: Collection[int]) -> None:
        """Give partitions back; nothing of theirs may be under way."""
        self._leases.release([self._held.pop(number) for number in partitions])

    def leave(self) -> None:
        """Give everything back, and say that we are gone."""
        self.release(self.held)
        self._leases.leave()

    def until_ms(self, partition: int) -> int:
        """Return the end of the partition's lease, renewed first if less than half of it is left (a ``Fence``).

        Raises
        ------
        LeaseLostError
            It is not ours any more.
        """
        if self._left_seconds(partition) < insert_timeout_seconds(self._leases.seconds):
            self._renew()
            self._check(self._ask())
        if partition not in self._held:
            raise LeaseLostError(partition)
        return self._held[partition].end_ms

    @property
    def _me(self) -> str:
        return self._leases.writer

    def _left_seconds(self, partition: int) -> float:
        lease = self._held.get(partition)
        if lease is None or self._roster is None:
            return float("-inf")
        return self._roster.asked + lease.left_ms / 1000 - self._clock()

    def _renew(self) -> None:
        with lease_errors():
            self._leases.renew(self._held.values())

    def _ask(self) -> Roster:
        self._roster = self._leases.roster()
        self._looked = self._clock()
        return self._roster

    def _check(self, roster: Roster) -> None:
        """Take over the new ends of what we hold; raise if something is not ours."""
        for number, lease in self._held.items():
            newest = roster.leases[number]
            if newest.writer == self._me and newest.epoch == lease.epoch:
                self._held[number] = newest
                continue
            if newest.name and newest.name == self._leases.name:
                raise OustedError(newest.name, newest.writer)
            raise LeaseLostError(number, newest.writer)

    def _shares(self, roster: Roster) -> dict[int, str]:
        workers = {*roster.workers, self._me}
        holders = {
            number: lease.writer for number, lease in roster.leases.items() if not lease.over
        }
        return share(self._partitions, workers, holders)

    def _free(self, lease: Lease) -> bool:
        replaced = bool(lease.name) and lease.name == self._leases.name
        return lease.over or (replaced and lease.writer != self._me)
