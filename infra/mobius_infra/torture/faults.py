"""The faults of a campaign, each with its meaning, and what a campaign is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from mobius_pipeline.errors import UsageError

__all__ = ["FAILPOINTS", "KILLS", "NAMED", "BrokerKind", "Fault", "TortureOptions", "read_faults"]

BrokerKind = Literal["tansu", "kafka"]

Fault = Literal[
    "worker_kill",  # SIGKILL to a worker at a random moment
    "before_intent",  # a worker kills itself with a range cut and not claimed
    "after_intent",  # ... with a range claimed and nothing of it stored
    "after_insert",  # ... with a range stored and the ledger not knowing it
    "while_revoking",  # ... while it gives a partition back because another worker came
    "during_migration",  # `mobius-rum migrate` kills itself between two statements, and is run again
    "store_kill",  # SIGKILL to the store at a random moment; it starts again over its folder
    "between_blocks",  # SIGKILL to the store when an insert has reached one of its tables and not the next
    "broker_kill",  # SIGKILL to Apache Kafka; it starts again over its log
    "pause",  # SIGSTOP to a worker until another one has gone on with its partitions, then SIGCONT
    "pause_after_intent",  # a worker stops itself so with a range claimed and nothing of it stored
    "pause_after_insert",  # ... with a range stored and the ledger not knowing it
    "join",  # a further worker comes
    "leave",  # a worker goes, by SIGTERM and by SIGKILL in turn
    "store_away",  # the store is killed and stays away for a set time
]

# Faults that a worker does to itself (mobius_pipeline.failpoints), and with which signal.
FAILPOINTS: Final[Mapping[Fault, str]] = {
    "before_intent": "before_intent:{visit}=kill",
    "after_intent": "after_intent:{visit}=kill",
    "after_insert": "after_insert:{visit}=kill",
    "while_revoking": "while_revoking:{visit}=kill",
    "pause_after_intent": "after_intent:{visit}=stop",
    "pause_after_insert": "after_insert:{visit}=stop",
}
# Faults that are kills; the first six are made once each before any is made again.
NAMED: Final[tuple[Fault, ...]] = (
    "before_intent",
    "after_intent",
    "after_insert",
    "between_blocks",
    "while_revoking",
    "during_migration",
)
KILLS: Final[tuple[Fault, ...]] = (*NAMED, "worker_kill", "store_kill", "broker_kill")


@dataclass(frozen=True, slots=True)
class TortureOptions:
    """What to do to whom.

    Attributes
    ----------
    kills
        Kills in all, those of ``broker_kills`` and ``store_away`` included; killed leaves come on top.
    faults
        Kinds to choose from.
    joins
        How often a worker comes; as often one leaves.
    broker_kills
        How many of the kills hit the broker; None: by chance. More than 0 needs a broker that keeps its data.
    store_away_seconds
        How long the store stays away, once, in the middle of the run; 0: never.
    pauses
        Of each kind of pause that ``faults`` has.
    lease_seconds, batch_spans, batch_ms
        As of `mobius-rum ingest`: short and small, so that there are many leases and ranges to break.
    """

    kills: int
    spans: int
    broker: BrokerKind
    workers: int
    seed: int
    faults: frozenset[Fault]
    joins: int = 0
    broker_kills: int | None = None
    store_away_seconds: float = 0.0
    pauses: int = 1
    partitions: int = 6
    lease_seconds: float = 5.0
    batch_spans: int = 2000
    batch_ms: int = 200
    replay: bool = True
    keep: Path | None = None


def read_faults(text: str | None) -> frozenset[Fault]:
    """Read a comma-separated list of faults; all for None.

    Raises
    ------
    UsageError
        One of them does not exist.
    """
    known: tuple[Fault, ...] = get_args(Fault)
    if text is None:
        return frozenset(known)
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise UsageError(f"no fault {name!r}; known: {', '.join(known)}", field="--faults")
    return frozenset(fault for fault in known if fault in wanted)
