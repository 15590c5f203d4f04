"""Who looks, and what they may see: a small, frozen answer that every page and every client asks.

What a viewer sees is what :func:`mobius_pipeline.residency.sight.see` makes of ``zones.toml`` for their name and
groups, as ``mobius-rum residency explain`` prints it. ``MOBIUS_VIEWER_ZONES`` (``eu,us``) and ``MOBIUS_VIEWER_LEVEL``
(``aggregates``) take away from it and never add; nothing in a URL does either.

Who looks is who has logged in (:mod:`mobius_dashboards.login`). Where no login is configured it is a named local user,
``MOBIUS_VIEWER`` (default ``local``), with the groups of ``[viewers]``; the environment belongs to whoever starts the
dashboard.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from mobius_pipeline.errors import MobiusError, UsageError
from mobius_pipeline.residency.policy import Policy, ZonePolicy
from mobius_pipeline.residency.sight import Level, see

__all__ = ["ForbiddenError", "Viewer", "local_viewer", "login_viewer", "require"]

_LONGEST_NAME = 64
_LEAST_PEOPLE: Final = int(ZonePolicy.model_fields["least_subjects"].default)


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
    """A person, and for each zone that they see how deep: ``aggregates``, or also single ``spans``.

    Attributes
    ----------
    asked_why
        Zones that ask for a reason before they show single requests.
    subject
        What the provider calls somebody who has logged in, which no other person ever is called; empty for a local user.
    least
        How many people a cell of a zone has at least, for those of ``levels`` that are ``aggregates``.
    """

    name: str
    levels: tuple[tuple[str, Level], ...]
    asked_why: tuple[str, ...] = ()
    subject: str = ""
    least: tuple[tuple[str, int], ...] = ()

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones that they see at all, in the order of the file."""
        return tuple(zone for zone, _ in self.levels)

    @property
    def policy(self) -> tuple[str, ...]:
        """What a cached result depends on: two viewers of one policy may share it, others never."""
        return tuple(
            f"{level} of {zone}, cells of {self.least_people(zone)} people"
            for zone, level in self.levels
        )

    @property
    def sight(self) -> str:
        """What they see, in words."""
        return " and ".join(f"{level} of {zone}" for zone, level in self.levels) or "no zone"

    def least_people(self, zone: str) -> int:
        """How many people a cell of ``zone`` must have to be shown: 1 to who sees single requests anyway."""
        if self.sees(zone, "spans"):
            return 1
        return dict(self.least).get(zone, _LEAST_PEOPLE)

    def sees(self, zone: str, level: Level = "aggregates") -> bool:
        """Whether the policy covers ``level`` of ``zone``."""
        return dict(self.levels).get(zone) in ("spans", level)


def local_viewer(policy: Policy, environment: Mapping[str, str] | None = None) -> Viewer:
    """Return the local user whom the environment names.

    Raises
    ------
    UsageError
        The environment names a zone or level that does not exist. It fails closed: no page is shown.
    """
    values = os.environ if environment is None else environment
    name = values.get("MOBIUS_VIEWER", "").strip() or "local"
    return _viewer(policy, name, policy.viewers.get(name, ()), values)


def login_viewer(
    policy: Policy, name: str, groups: Iterable[str], environment: Mapping[str, str]
) -> Viewer:
    """Return what the groups of somebody who has logged in let them see.

    Their name gives nothing: it could be chosen to be a local user's of ``[viewers]``.

    Raises
    ------
    UsageError
        The file has no groups, which means that whoever is there sees everything: not people who log in. Or the
        environment names a zone or level that does not exist.
    """
    if not policy.groups:
        raise UsageError(
            "people log in, but zones.toml declares no groups: say who sees which zone",
            field="groups",
        )
    return _viewer(policy, name, groups, environment)


def _viewer(
    policy: Policy, name: str, groups: Iterable[str], environment: Mapping[str, str]
) -> Viewer:
    """Return what ``groups`` give by the policy, narrowed by the environment."""
    narrowed = _zones(policy, environment)
    level = environment.get("MOBIUS_VIEWER_LEVEL", "spans")
    if level not in get_args(Level):
        raise UsageError(f"is {level!r}, must be aggregates or spans", field="MOBIUS_VIEWER_LEVEL")
    # The hub is a place too, of a level; it has no page, and its store is nobody's zone.
    seen = [
        place for place in see(policy, "", groups).places if place.level and place.place in narrowed
    ]
    levels: tuple[tuple[str, Level], ...] = tuple(
        (place.place, "aggregates" if level == "aggregates" or not place.level else place.level)
        for place in seen
    )
    asked = tuple(place.place for place in seen if place.reason_for_rows)
    least = tuple((name, rules.least_subjects) for name, rules in policy.zones.items())
    return Viewer(name[:_LONGEST_NAME], levels, asked, least=least)


def _zones(policy: Policy, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the zones that the environment leaves: all of them where it says nothing."""
    named = environment.get("MOBIUS_VIEWER_ZONES")
    if named is None:
        return tuple(policy.zones)
    wanted = tuple(name.strip() for name in named.split(",") if name.strip())
    for name in wanted:
        if name not in policy.zones:
            known = ", ".join(policy.zones)
            raise UsageError(f"no zone {name!r}; known: {known}", field="MOBIUS_VIEWER_ZONES")
    return wanted


def require(viewer: Viewer, zone: str, level: Level = "aggregates") -> None:
    """Refuse what the policy does not cover; every page calls it for itself before it reads.

    Raises
    ------
    ForbiddenError
        The viewer does not see ``level`` of ``zone``.
    """
    if not viewer.sees(zone, level):
        raise ForbiddenError(viewer.name, zone, level)
