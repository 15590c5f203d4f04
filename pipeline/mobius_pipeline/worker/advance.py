"""Step 7: write that a range is stored, and let monitors of the consumer group see it."""

from __future__ import annotations

from collections.abc import Callable

from mobius_pipeline.failpoints import reach
from mobius_pipeline.ledger import Ledger
from mobius_pipeline.worker.assign import Fence, unfenced
from mobius_pipeline.worker.steps import Batch

__all__ = ["Advance"]


class Advance:
    """Finishes ranges. The commit is for lag monitors alone: nothing ever reads it back."""

    def __init__(
        self, ledger: Ledger, commit: Callable[[int, int], None], fence: Fence = unfenced
    ) -> None:
        self._ledger = ledger
        self._commit = commit
        self._fence = fence

    def submit(self, item: Batch) -> tuple[Batch]:
        """Finish the batch's range.

        Raises
        ------
        LeaseLostError
            The partition is not ours any more; its new owner repeats the range, which changes nothing.
        """
        reach("after_insert")
        end = self._fence(item.partition)
        self._ledger.finish(item.partition, item.first, item.last, item.spans, end)
        self._commit(item.partition, item.last + 1)
        return (item,)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()
