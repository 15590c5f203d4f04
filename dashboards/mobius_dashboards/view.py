"""What every page is given: who looks, at what, since when, in which colours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mobius_dashboards.state import State, Window
from mobius_dashboards.theme import Palette
from mobius_dashboards.viewer import Viewer
from mobius_instrumentation.zones import Zone, Zones

__all__ = ["View"]


@dataclass(frozen=True, slots=True)
class View:
    """One rendering of one page.

    Attributes
    ----------
    scope
        Zones that the page reads; the viewer's policy was asked for each of them.
    now
        The moment of the rendering, UTC.
    """

    viewer: Viewer
    zones: Zones
    state: State
    window: Window
    scope: tuple[Zone, ...]
    colours: Palette
    now: datetime
