"""Named points where a process can be made to die, or to stand still, for the fault campaign.

``MOBIUS_FAILPOINT=after_insert:2=kill`` lets this process send itself SIGKILL the second time it comes there; ``=stop``
sends SIGSTOP instead, and whoever set it continues the process. Without the variable a point costs one comparison;
a malformed value is an error (exit code 2) when this module is imported.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from mobius_pipeline.errors import UsageError

__all__ = ["VARIABLE", "Failpoint", "Trap", "arm", "reach"]

VARIABLE: Final = "MOBIUS_FAILPOINT"

Failpoint = Literal[
    "before_intent",  # a range is cut and not yet claimed: the ledger does not know of it
    "after_intent",  # the ledger has the claim, the store has nothing of the range
    "after_insert",  # the store has the range, the ledger does not know that it does
    "while_revoking",  # a partition's open batch is abandoned, its lease not yet given back
    "during_migration",  # between two statements of a migration
    "before_join_claim",  # what a join moves is known, and nothing of it is written
    "after_join_claim",  # a batch of moved spans is claimed, the rollup has nothing of it
    "before_correction",  # a day of a batch is read, and not yet in the rollup
    "after_correction",  # the rollup has a day of a batch
]
_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_FORM: Final = re.compile(r"(?P<name>\w+)(?::(?P<visit>[1-9]\d{0,8}))?=(?P<what>\w+)")


@dataclass(slots=True)
class Trap:
    """What is to happen where: ``signal`` at the ``visit``-th (from 1) time that ``name`` is reached, once."""

    name: Failpoint
    visit: int
    signal: signal.Signals

    def reached(self, name: Failpoint) -> None:
        """Count a visit of ``name``; this process ends, or stands still, if it is the one."""
        if name != self.name:
            return
        self.visit -= 1
        if self.visit == 0:
            os.kill(os.getpid(), self.signal)


def arm(environment: Mapping[str, str] | None = None) -> Trap | None:
    """Read the trap of ``environment`` (this process's own for None); None where none is set.

    Raises
    ------
    UsageError
        The value is not of the form ``NAME=kill``, ``NAME:VISIT=kill`` or the same with ``stop``.
    """
    text = (os.environ if environment is None else environment).get(VARIABLE, "")
    if not text:
        return None
    known: tuple[Failpoint, ...] = get_args(Failpoint)
    found = _FORM.fullmatch(text)
    name = next((point for point in known if found and point == found["name"]), None)
    if found is None or name is None or found["what"] not in _SIGNALS:
        raise UsageError(
            f"{text!r} is no failpoint: write NAME=kill, NAME:VISIT=kill or the same with stop, "
            f"NAME one of {', '.join(known)}",
            field=VARIABLE,
        )
    return Trap(name, int(found["visit"] or 1), _SIGNALS[found["what"]])


# Read as the process starts, so that a mistake in it is told then and not when the point is reached, if ever.
_trap: Final = arm()


def reach(name: Failpoint) -> None:
    """Say that this process is at ``name`` now. Nothing happens unless the environment asked for it at the start."""
    if _trap is not None:
        _trap.reached(name)
