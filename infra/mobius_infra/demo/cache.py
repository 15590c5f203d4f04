"""A cache with a bound on entries and on age, as a small shop would write it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Cache"]

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Least recently used entries leave first; an entry older than ``seconds`` is a miss.

    Parameters
    ----------
    entries
        Greatest number of entries.
    seconds
        Age from which an entry no longer counts, by ``clock``.
    clock
        Monotonic seconds.
    """

    def __init__(self, entries: int, seconds: float, clock: Callable[[], float]) -> None:
        self._entries = entries
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        """Entries held, those that are too old included."""
        return len(self._kept)

    def get(self, key: str) -> Value | None:
        """Value of ``key``, or None for a miss."""
        held = self._kept.get(key)
        if held is None:
            return None
        stored, value = held
        if self._clock() - stored > self._seconds:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return value

    def put(self, key: str, value: Value) -> None:
        """Keep ``value``; the entry unused for longest leaves if there are too many."""
        self._kept[key] = (self._clock(), value)
        self._kept.move_to_end(key)
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)
