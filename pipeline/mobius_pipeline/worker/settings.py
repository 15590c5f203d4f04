"""How one worker works: its name, its limits, its times."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from uuid import uuid4

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_pipeline.wire import WireLimits
from mobius_pipeline.worker.batch import BatchLimits
from mobius_pipeline.worker.poison import PoisonLimits

__all__ = ["WorkerOptions"]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How to work.

    Attributes
    ----------
    attributes
        What is stored of spans that are not of our own package.
    writer
        Names this process in the ledger; no two processes may share one.
    name
        Names the place of this worker over restarts: a new worker takes the partitions of an older one of the same
        name at once, where others wait for its leases to end. "" for none.
    lease_seconds
        How long a worker that stands still keeps its partitions; half of it is what one insert may take.
    health_port
        0 answers nowhere.
    """

    limits: BatchLimits = field(default_factory=BatchLimits)
    wire: WireLimits = field(default_factory=WireLimits)
    poison: PoisonLimits = field(default_factory=PoisonLimits)
    attributes: AttributePolicy = field(default_factory=AttributePolicy)
    writer: str = field(
        default_factory=lambda: f"{socket.gethostname()}/{os.getpid()}/{uuid4().hex[:8]}"
    )
    name: str = ""
    lease_seconds: float = 30.0
    health_host: str = "127.0.0.1"
    health_port: int = 0
