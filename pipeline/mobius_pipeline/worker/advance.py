"""Step 7: write that a range is stored, and let monitors of the consumer group see it."""

from __future__ import annotations

from collections.abc import Callable

from mobius_pipeline.ledger import Ledger
from mobius_pipeline.worker.steps import Batch

__all__ = ["Advance"]


class Advance:
    """Finishes ranges. The commit is for lag monitors alone: nothing ever reads it back."""

    def __init__(self, ledger: Ledger, commit: Callable[[int, int], None]) -> None:
        self._ledger = ledger
        self._commit = commit

    def submit(self, item: Batch) -> tuple[Batch]:
        """Finish the batch's range."""
        self._ledger.finish(item.partition, item.first, item.last, item.spans)
        self._commit(item.partition, item.last + 1)
        return (item,)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()
