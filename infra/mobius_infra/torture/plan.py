"""Spreads the faults over a run, by progress and not by time, so that each falls while there is work. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from mobius_infra.torture.faults import KILLS, NAMED, Fault, TortureOptions
from mobius_pipeline.errors import UsageError

__all__ = ["Event", "make_plan"]

# What falls on a kill beyond the named ones: mostly on workers, which die most often in production too.
_WEIGHTS: Final[dict[Fault, float]] = {
    "worker_kill": 50.0,
    "before_intent": 5.0,
    "after_intent": 8.0,
    "after_insert": 8.0,
    "between_blocks": 4.0,
    "store_kill": 15.0,
    "broker_kill": 10.0,
}
_PAUSES: Final[tuple[Fault, ...]] = ("pause", "pause_after_intent", "pause_after_insert")
_FIRST_SHARE: Final = 0.02
_LAST_SHARE: Final = 0.85
_MOST_VISITS: Final = 3


@dataclass(frozen=True, slots=True)
class Event:
    """One fault, due when ``share`` (0 to 1) of the spans are stored.

    ``worker`` is the number of the worker that it hits, ``visit`` the time that a failpoint is reached, from 1.
    """

    share: float
    fault: Fault
    worker: int
    visit: int


def make_plan(options: TortureOptions) -> tuple[Event, ...]:
    """Return the faults of a campaign in their order; the same options give the same plan.

    Raises
    ------
    UsageError
        The options contradict each other.
    """
    rng = random.Random(f"plan/{options.seed}")
    _check(options)
    kills = _kills(options, rng)
    others = [fault for fault in _PAUSES if fault in options.faults for _ in range(options.pauses)]
    spread = kills + others
    rng.shuffle(spread)
    width = _LAST_SHARE - _FIRST_SHARE
    shares = sorted(_FIRST_SHARE + width * rng.random() for _ in spread)
    events = [
        _event(share, fault, options, rng) for share, fault in zip(shares, spread, strict=True)
    ]
    # Comings and goings take turns, evenly over the run.
    turns: list[Fault] = ["join", "leave"] * options.joins
    for number, turn in enumerate(turns):
        share = _FIRST_SHARE + width * (number + 0.5) / len(turns)
        events.append(_event(share, turn, options, rng))
    if options.store_away_seconds:
        events.append(_event(0.5, "store_away", options, rng))
    migrations = [event for event in events if event.fault == "during_migration"]
    rest = sorted(
        (event for event in events if event not in migrations), key=lambda event: event.share
    )
    return (*(Event(0.0, e.fault, e.worker, rng.randint(1, 30)) for e in migrations), *rest)


def _check(options: TortureOptions) -> None:
    if options.broker == "tansu" and options.broker_kills:
        raise UsageError(
            "the embedded broker keeps its data in memory and loses them when it is killed: use --broker kafka",
            field="--broker-kills",
        )
    fixed = (options.broker_kills or 0) + bool(options.store_away_seconds)
    if fixed > options.kills:
        raise UsageError(
            f"{options.kills} kills are fewer than the {fixed} that other options ask for",
            field="--kills",
        )


def _kills(options: TortureOptions, rng: random.Random) -> list[Fault]:
    possible = [fault for fault in KILLS if fault in options.faults]
    if options.broker == "tansu" or options.broker_kills is not None:
        possible = [fault for fault in possible if fault != "broker_kill"]
    chosen: list[Fault] = ["broker_kill"] * (options.broker_kills or 0)
    left = options.kills - len(chosen) - bool(options.store_away_seconds)
    chosen += [fault for fault in possible if fault in NAMED][: max(0, left)]
    left = options.kills - len(chosen) - bool(options.store_away_seconds)
    again = [fault for fault in possible if fault in _WEIGHTS]
    if left > 0 and not again:
        raise UsageError(
            f"no kind of kill is left for {left} of {options.kills} kills: allow more faults, or fewer kills",
            field="--faults",
        )
    missing = [fault for fault in again if fault not in chosen][: max(0, left)]
    weights = [_WEIGHTS[fault] for fault in again]
    drawn = rng.choices(again, weights, k=max(0, left - len(missing))) if again else []
    return chosen + missing + drawn


def _event(share: float, fault: Fault, options: TortureOptions, rng: random.Random) -> Event:
    return Event(share, fault, rng.randrange(options.workers), rng.randint(1, _MOST_VISITS))
