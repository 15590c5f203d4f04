"""Makes structure out of a fuzzer's bytes: the same bytes always make the same thing, no bytes make zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Draw"]

_Item = TypeVar("_Item")


class Draw:
    """Reads decisions from the bytes of one input, front to back; ends with zeros, so what is drawn is finite."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def is_empty(self) -> bool:
        return self._place >= len(self._data)

    def take(self, count: int) -> bytes:
        """Up to ``count`` bytes, fewer at the end."""
        part = self._data[self._place : self._place + count]
        self._place += len(part)
        return part

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def number(self, size: int) -> int:
        """A whole number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def below(self, end: int) -> int:
        """A whole number of 0 to ``end`` - 1; 0 when the input is used up."""
        return self.number(1 if end <= 256 else 2 if end <= 65_536 else 4) % end

    def one_in(self, many: int) -> bool:
        """Whether a rare thing happens; never when the input is used up."""
        return self.below(many) == many - 1

    def pick(self, items: Sequence[_Item]) -> _Item:
        return items[self.below(len(items))]

    def blob(self, longest: int = 40) -> bytes:
        return self.take(self.below(longest + 1))

    def text(self, longest: int = 40) -> str:
        return self.blob(longest).decode("utf-8", "replace")
