"""Step 5: claim the range in the ledger before anything of it is stored."""

from __future__ import annotations

from mobius_pipeline.ledger import Ledger
from mobius_pipeline.worker.steps import Batch

__all__ = ["Intent"]


class Intent:
    """Writes intents; a repeated range has its own already."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def submit(self, item: Batch) -> tuple[Batch]:
        """Claim the batch's range.

        Raises
        ------
        OvertakenError
            Another worker went on with the partition.
        """
        if not item.repeated:
            self._ledger.claim(item.partition, item.first, item.last, item.spans)
        return (item,)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()
