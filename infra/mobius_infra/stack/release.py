"""Brings the next release of the demo shop out, one region after the other, while users shop on."""

from __future__ import annotations

from collections.abc import Callable

from mobius_infra.stack.demo_parts import RELEASES, DemoParts
from mobius_infra.stack.options import SERVICES
from mobius_infra.stack.supervisor import Supervisor

__all__ = ["Rollout"]


class Rollout:
    """One release; each :meth:`step` replaces one service in one region."""

    def __init__(self, demo: DemoParts, supervisor: Supervisor, say: Callable[[str], None]) -> None:
        self._demo = demo
        self._supervisor = supervisor
        self._say = say
        self._left = [(service, region) for region in demo.regions for service in SERVICES]

    def step(self) -> None:
        """Replace the next service; nothing when all are replaced."""
        if not self._left:
            return
        service, region = self._left.pop(0)
        self._say(f"{service}-{region}: release {RELEASES[0]} becomes {RELEASES[1]}")
        self._supervisor.replace(self._demo.service(service, region, RELEASES[1]), overlap=True)
