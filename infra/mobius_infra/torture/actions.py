"""How each fault is made. An action returns when the fault is over, and tells whether it really happened."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from mobius_infra.torture.faults import FAILPOINTS, Fault
from mobius_infra.torture.plan import Event

if TYPE_CHECKING:
    from mobius_infra.torture.campaign import Campaign
    from mobius_infra.torture.crew import Worker
    from mobius_infra.torture.services import Service

__all__ = ["ACTIONS"]

_PATIENCE_SECONDS: Final = 60.0
# How long a worker that was continued is watched before its replacement may leave.
_AFTERMATH_SECONDS: Final = 3.0


def _chosen(campaign: Campaign, event: Event) -> Worker:
    return campaign.crew.workers[event.worker % len(campaign.crew.workers)]


def _rng(event: Event) -> random.Random:
    return random.Random(f"{event.share}/{event.fault}/{event.visit}")


def _works(campaign: Campaign, worker: Worker) -> bool:
    """Wait until the worker's present process has claimed something."""

    def claimed() -> bool:
        process = worker.process
        return process is not None and bool(campaign.ledger.claims_of(process.pid))

    return campaign.wait(claimed, _PATIENCE_SECONDS)


def _worker_kill(campaign: Campaign, event: Event) -> bool:
    worker = _chosen(campaign, event)
    if not _works(campaign, worker):
        return False
    time.sleep(_rng(event).random() * 0.5)
    if not worker.running():
        return False
    campaign.crew.kill(worker)
    campaign.tally.kills += 1
    return True


def _failpoint(campaign: Campaign, event: Event) -> bool:
    """Put a worker with the failpoint into the place of one, and wait until it has died there."""
    worker = _chosen(campaign, event)
    campaign.crew.stop(worker)
    campaign.crew.start(worker, FAILPOINTS[event.fault].format(visit=event.visit))
    return _dies(campaign, worker)


def _dies(campaign: Campaign, worker: Worker) -> bool:
    campaign.wait(lambda: not worker.running(), _PATIENCE_SECONDS, untouched=[worker])
    process = worker.process
    died = process is not None and process.exit_code() == -signal.SIGKILL
    if died:
        campaign.tally.kills += 1
    campaign.crew.kill(worker)
    return died


def _while_revoking(campaign: Campaign, event: Event) -> bool:
    """Let a worker with the failpoint have every partition, and then others come, so that it has to give some up.

    1. Put it into its place.
    2. Let the others go, and wait until it has all.
    3. Let them come again (or one more, where there are none), and wait until it has died.
    """
    worker = _chosen(campaign, event)
    others = [other for other in campaign.crew.workers if other is not worker]
    campaign.crew.stop(worker)
    campaign.crew.start(worker, FAILPOINTS["while_revoking"].format(visit=1))  # 1
    for other in others:
        campaign.crew.stop(other)  # 2

    def has_all() -> bool:
        process = worker.process
        held = campaign.ledger.leases_of(process.pid) if process is not None else None
        return held == campaign.options.partitions

    if not campaign.wait(has_all, _PATIENCE_SECONDS, untouched=campaign.crew.workers):
        return False
    guest = None if others else campaign.crew.add()  # 3
    died = _dies(campaign, worker)
    if guest is not None:
        campaign.crew.start(worker)
        _works(campaign, worker)
        _go(campaign, guest)
    return died


def _go(campaign: Campaign, worker: Worker) -> None:
    campaign.crew.stop(worker)
    campaign.crew.leave(worker)


def _pause(campaign: Campaign, event: Event) -> bool:
    """Stop a worker at a random moment."""
    worker = _chosen(campaign, event)
    if not _works(campaign, worker) or worker.process is None:
        return False
    time.sleep(_rng(event).random() * 0.5)
    worker.process.signal(signal.SIGSTOP)
    return _outlive(campaign, worker)


def _pause_at(campaign: Campaign, event: Event) -> bool:
    """Let a worker stop itself at a failpoint."""
    worker = _chosen(campaign, event)
    campaign.crew.stop(worker)
    campaign.crew.start(worker, FAILPOINTS[event.fault].format(visit=event.visit))
    if not campaign.wait(worker.stopped, _PATIENCE_SECONDS, untouched=[worker]):
        return False
    return _outlive(campaign, worker)


def _outlive(campaign: Campaign, worker: Worker) -> bool:
    """Continue a stopped worker when another one has gone on with a partition of its.

    1. Let a further worker come if there is no other.
    2. Wait until the lease is over and somebody else has claimed a range of one of its partitions.
    3. Continue it, and see what it does.
    4. Let the further worker go.
    """
    process = worker.process
    if process is None:
        return False
    mark = f"/{process.pid}/"
    guest = campaign.crew.add() if len(campaign.crew.workers) == 1 else None  # 1
    begun = time.monotonic()
    its = [part for part, who in (campaign.ledger.holders() or {}).items() if mark in who]

    def taken() -> bool:
        if time.monotonic() - begun <= campaign.options.lease_seconds:
            return False
        now = campaign.ledger.holders() or {}
        return any(mark not in now.get(part, mark) for part in its)

    overtaken = bool(its) and campaign.wait(taken, _PATIENCE_SECONDS, untouched=[worker])  # 2
    process.signal(signal.SIGCONT)  # 3
    campaign.wait(lambda: not worker.running(), _AFTERMATH_SECONDS, untouched=[worker])
    if guest is not None:
        _go(campaign, guest)  # 4
    if overtaken:
        campaign.tally.pauses += 1
    return overtaken


def _restart(campaign: Campaign, service: Service, seconds: float) -> bool:
    service.kill()
    campaign.tally.kills += 1
    campaign.be_without(service, seconds)
    service.start()
    return True


def _store_kill(campaign: Campaign, event: Event) -> bool:
    time.sleep(_rng(event).random() * 0.5)
    return _restart(campaign, campaign.store, _rng(event).random())


def _store_away(campaign: Campaign, _event: Event) -> bool:
    return _restart(campaign, campaign.store, campaign.options.store_away_seconds)


def _broker_kill(campaign: Campaign, event: Event) -> bool:
    time.sleep(_rng(event).random() * 0.5)
    return _restart(campaign, campaign.broker, _rng(event).random())


def _between_blocks(campaign: Campaign, _event: Event) -> bool:
    """Kill the store when an insert is in one of its tables and not in the next.

    1. Let inserts sleep between their tables.
    2. Wait until a range is seen in one table and not in another, and kill.
    3. Start again, and take the sleep away.
    """
    campaign.ledger.slow_inserts()  # 1
    between = campaign.wait(campaign.ledger.is_between, _PATIENCE_SECONDS, every=0.0)
    if between:
        _restart(campaign, campaign.store, 0.0)  # 2
    campaign.ledger.quick_inserts()  # 3
    return between


def _join(campaign: Campaign, _event: Event) -> bool:
    _works(campaign, campaign.crew.add())
    campaign.tally.joins += 1
    return True


def _leave(campaign: Campaign, event: Event) -> bool:
    if len(campaign.crew.workers) < 2:
        return False
    worker = _chosen(campaign, event)
    if event.visit % 2:
        _go(campaign, worker)
    else:
        campaign.crew.kill(worker)
        campaign.crew.leave(worker)
        campaign.tally.kills += 1
    campaign.tally.leaves += 1
    return True


ACTIONS: Final[Mapping[Fault, Callable[[Campaign, Event], bool]]] = {
    "worker_kill": _worker_kill,
    "before_intent": _failpoint,
    "after_intent": _failpoint,
    "after_insert": _failpoint,
    "while_revoking": _while_revoking,
    "store_kill": _store_kill,
    "between_blocks": _between_blocks,
    "broker_kill": _broker_kill,
    "pause": _pause,
    "pause_after_intent": _pause_at,
    "pause_after_insert": _pause_at,
    "join": _join,
    "leave": _leave,
    "store_away": _store_away,
}
