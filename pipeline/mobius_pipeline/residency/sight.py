"""What a viewer sees, and why: the policy's answer for one name and the groups that come with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mobius_pipeline.residency.policy import HUB, Policy
from mobius_pipeline.residency.tables import AGGREGATE_TABLES, HUB_TABLES, ROW_TABLES

__all__ = ["Level", "PlaceSight", "Sight", "see"]

Level = Literal["spans", "aggregates"]


@dataclass(frozen=True, slots=True)
class PlaceSight:
    """One zone (or the hub) as a viewer sees it; ``level`` None: not at all.

    ``because`` are the rules that led there, as texts with the keys of the file. ``least_subjects`` is how
    many people a cell must have to be shown there; None where single requests are seen anyway.
    """

    place: str
    level: Level | None
    because: tuple[str, ...]
    tables: tuple[str, ...]
    hidden: tuple[str, ...]
    least_subjects: int | None
    reason_for_rows: bool


@dataclass(frozen=True, slots=True)
class Sight:
    """All that a viewer sees and does not see. ``unknown_groups`` grant nothing."""

    viewer: str
    groups: tuple[str, ...]
    unknown_groups: tuple[str, ...]
    places: tuple[PlaceSight, ...]


def see(policy: Policy, viewer: str, groups: Iterable[str] = ()) -> Sight:
    """Say what ``viewer`` sees with ``groups`` (as a login would bring them) and those of ``[viewers]``.

    The highest level of all groups counts. Nothing is seen without a group, but for a file without any:
    that is a single user's, who sees all zones.
    """
    named = dict.fromkeys((*policy.viewers.get(viewer, ()), *groups))
    known = tuple(group for group in named if group in policy.groups)
    unknown = tuple(group for group in named if group not in policy.groups)
    places = tuple(_place(policy, place, known) for place in policy.places)
    return Sight(viewer, known, unknown, places)


def _place(policy: Policy, place: str, groups: tuple[str, ...]) -> PlaceSight:
    level, because = _level(policy, place, groups)
    everything = HUB_TABLES if place == HUB else (*AGGREGATE_TABLES, *ROW_TABLES)
    seen = {
        "spans": everything,
        "aggregates": tuple(each for each in everything if each not in ROW_TABLES),
        None: (),
    }[level]
    zone = policy.zones.get(place)
    return PlaceSight(
        place=place,
        level=level,
        because=because,
        tables=seen,
        hidden=tuple(each for each in everything if each not in seen),
        least_subjects=_least_subjects(policy, place) if level != "spans" else None,
        reason_for_rows=zone is not None and zone.reason_for_rows and level == "spans",
    )


def _level(
    policy: Policy, place: str, groups: tuple[str, ...]
) -> tuple[Level | None, tuple[str, ...]]:
    if not policy.groups:
        level: Level = "aggregates" if place == HUB else "spans"
        return level, ("the file declares no [groups]: whoever runs the dashboard sees all of it",)
    found: dict[Level, list[str]] = {"spans": [], "aggregates": []}
    for group in groups:
        if place in policy.groups[group].spans:
            found["spans"].append(f"group {group!r} has spans of it")
        if place in policy.groups[group].aggregates:
            found["aggregates"].append(f"group {group!r} has aggregates of it")
    because = (*found["spans"], *found["aggregates"])
    if found["spans"]:
        return "spans", because
    if found["aggregates"]:
        return "aggregates", because
    if not groups:
        return None, ("the viewer is in no group of the file",)
    return None, (f"none of the viewer's groups ({', '.join(groups)}) names it",)


def _least_subjects(policy: Policy, place: str) -> int:
    zone = policy.zones.get(place)
    return zone.least_subjects if zone else _least_of_hub(policy)


def _least_of_hub(policy: Policy) -> int:
    """Cells of different zones lie beside each other there; what all of them have is the least."""
    return min(zone.to_hub.least_subjects for zone in policy.zones.values())
