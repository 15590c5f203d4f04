"""Step 2: parse each message once, with the C protobuf runtime."""

from __future__ import annotations

from mobius_pipeline.wire import WireError, WireLimits, decode, parse
from mobius_pipeline.worker.poison import PoisonGuard
from mobius_pipeline.worker.steps import Checked, Message

__all__ = ["Validate"]


class Validate:
    """Tells what can be read from what cannot; one unreadable message would fail its whole insert."""

    def __init__(self, limits: WireLimits | None = None, guard: PoisonGuard | None = None) -> None:
        self._limits = limits or WireLimits()
        self._guard = guard or PoisonGuard()

    def submit(self, item: Message) -> tuple[Checked]:
        """Parse one message.

        Raises
        ------
        PoisonedError
            More than the set share of the last messages cannot be read. Nothing of this one was passed on.
        """
        try:
            payload = decode(item.value, item.encoding, self._limits)
            checked = Checked(item, parse(payload, self._limits), "", payload)
        except WireError as error:
            where = f"partition {item.partition}, offset {item.offset}: {error}"
            self._guard.add(1, 1, where)
            return (Checked(item, None, str(error)),)
        self._guard.add(0, 1)
        return (checked,)

    def poll(self) -> tuple[()]:
        """Nothing waits here."""
        return ()

    def close(self) -> tuple[()]:
        """Nothing waits here."""
        return ()
