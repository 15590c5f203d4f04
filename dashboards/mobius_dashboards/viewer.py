"""Who looks, and what they may see: a small, frozen policy that every page and every client asks.

Locally the viewer is a named local user: ``MOBIUS_VIEWER`` (default ``local``) with all zones and the level
``spans``, narrowed by ``MOBIUS_VIEWER_ZONES`` (``eu,us``) and ``MOBIUS_VIEWER_LEVEL`` (``aggregates`` or
``spans``). The environment belongs to whoever starts the dashboard; nothing in a URL can widen it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from mobius_dashboards.const import Level
from mobius_instrumentation.zones import Zones
from mobius_pipeline.errors import MobiusError, UsageError

__all__ = ["ForbiddenError", "Viewer", "current_viewer", "require"]


class ForbiddenError(MobiusError):
    """The viewer's policy does not allow what a page asked for."""

    def __init__(self, viewer: str, zone: str, level: str) -> None:
        self.viewer = viewer
        self.zone = zone
        self.level = level
        super().__init__(
            f"{viewer} may not see {level} of zone {zone or '(none)'}. "
            "Ask whoever runs this dashboard for that zone or level."
        )


@dataclass(frozen=True, slots=True)
class Viewer:
    """A person, the zones they see, and how deep: ``aggregates``, or also single ``spans``."""

    name: str
    zones: tuple[str, ...]
    level: Level

    @property
    def policy(self) -> tuple[str, ...]:
        """What a cached result depends on: two viewers of one policy may share it, others never."""
        return (self.level, *self.zones)

    def sees(self, zone: str, level: Level = "aggregates") -> bool:
        """Whether the policy covers ``level`` of ``zone``."""
        return zone in self.zones and (level == "aggregates" or self.level == "spans")


def current_viewer(zones: Zones, environment: Mapping[str, str] | None = None) -> Viewer:
    """Return the local viewer of this process.

    Raises
    ------
    UsageError
        The environment names a zone or level that does not exist. It fails closed: no page is shown.
    """
    values = os.environ if environment is None else environment
    level = values.get("MOBIUS_VIEWER_LEVEL", "spans")
    if level not in get_args(Level):
        raise UsageError(f"is {level!r}, must be aggregates or spans", field="MOBIUS_VIEWER_LEVEL")
    named = values.get("MOBIUS_VIEWER_ZONES")
    wanted = (
        tuple(zones.zones)
        if named is None
        else tuple(n.strip() for n in named.split(",") if n.strip())
    )
    for name in wanted:
        if name not in zones.zones:
            raise UsageError(f"no zone {name!r} in {zones.file}", field="MOBIUS_VIEWER_ZONES")
    return Viewer(
        name=values.get("MOBIUS_VIEWER", "").strip()[:64] or "local",
        zones=tuple(name for name in zones.zones if name in wanted),
        level=cast("Level", level),
    )


def require(viewer: Viewer, zone: str, level: Level = "aggregates") -> None:
    """Refuse what the policy does not cover; every page calls it for itself before it reads.

    Raises
    ------
    ForbiddenError
        The viewer does not see ``level`` of ``zone``.
    """
    if not viewer.sees(zone, level):
        raise ForbiddenError(viewer.name, zone, level)
