"""Brings the next release of the demo shop out, one region after the other, while users shop on."""

from __future__ import annotations

from collections.abc import Callable

from mobius_infra.stack.demo_parts import RELEASES, DemoParts
from mobius_infra.stack.options import SERVICES
from mobius_infra.stack.supervisor import Supervisor

__all__ = ["Rollout"]


class Rollout:
    """One release, service after service, region after region."""

    def __init__(self, demo: DemoParts, supervisor: Supervisor, say: Callable[[str], None]) -> None:
        self._demo = demo
        self._supervisor = supervisor
        self._say = say
        self._left = [(service, region) for region in demo.regions for service in SERVICES]
        self._current: str | None = None

    def step(self) -> None:
        """Begin to replace the next service if the last one is replaced; to be called again and again."""
        if not self._left or (
            self._current is not None and not self._supervisor.settled(self._current)
        ):
            return
        service, region = self._left.pop(0)
        part = self._demo.service(service, region, RELEASES[1])
        self._current = part.name
        self._say(f"{part.name}: release {RELEASES[1]} follows {RELEASES[0]}")
        self._supervisor.replace(part)
