"""Remote parties of the live services: each call waits as long as its model says, under a client span."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from opentelemetry.trace import SpanKind, Tracer

from mobius_infra.demo.latency_models import FAILURE_SHARE, Party, draw_ms, load_factor_now

__all__ = ["RemoteParties", "RemotePartyError"]


class RemotePartyError(Exception):
    """A remote party gave no usable answer."""

    def __init__(self, party: str) -> None:
        self.party = party
        super().__init__(f"{party} does not answer")


class RemoteParties:
    """Callable models of the payment provider, the warehouse, the image CDN and the others."""

    def __init__(self, region: str, tracer: Tracer, rng: np.random.Generator) -> None:
        self._region = region
        self._tracer = tracer
        self._rng = rng

    async def call(self, party: Party, units: int = 0) -> None:
        """Wait for one answer to a request of ``units`` (see the model).

        Raises
        ------
        RemotePartyError
            As rarely as real providers fail.
        """
        load = load_factor_now(self._region, time.time())
        answer_ms = float(draw_ms(party, self._region, self._rng, units=units, load=load))
        attributes = {"server.address": party.address, "peer.service": party.name}
        with self._tracer.start_as_current_span(
            f"call {party.name}", kind=SpanKind.CLIENT, attributes=attributes
        ):
            await asyncio.sleep(answer_ms / 1e3)
            if self._rng.random() < FAILURE_SHARE:
                raise RemotePartyError(party.name)
