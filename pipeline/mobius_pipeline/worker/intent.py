"""Step 5: claim the range in the ledger before anything of it is stored."""

from __future__ import annotations

from mobius_pipeline.failpoints import reach
from mobius_pipeline.ledger import Ledger
from mobius_pipeline.worker.assign import Fence, unfenced
from mobius_pipeline.worker.steps import Batch

__all__ = ["Intent"]


class Intent:
    """Writes intents; a repeated range has its own already."""

    def __init__(self, ledger: Ledger, fence: Fence = unfenced) -> None:
        self._ledger = ledger
        self._fence = fence

    def submit(self, item: Batch) -> tuple[Batch]:
        """Claim the batch's range.

        Raises
        ------
        OvertakenError
            Another writer went on with the partition.
        LeaseLostError
            The partition is not ours any more.
        """
        reach("before_intent")
        if not item.repeated:
            end = self._fence(item.partition)
            self._ledger.claim(item.partition, item.first, item.last, item.spans, end)
        reach("after_intent")
        return (item,)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()
