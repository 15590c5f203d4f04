"""Step 2: parse each message once, with the C protobuf runtime."""

from __future__ import annotations

from mobius_pipeline.wire import WireError, parse
from mobius_pipeline.worker.steps import Checked, Message

__all__ = ["Validate"]


class Validate:
    """Tells what can be read from what cannot; one unreadable message would fail its whole insert."""

    def submit(self, item: Message) -> tuple[Checked]:
        """Parse one message."""
        try:
            return (Checked(item, parse(item.value), ""),)
        except WireError as error:
            return (Checked(item, None, str(error)),)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()
