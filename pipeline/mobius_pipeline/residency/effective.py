"""The policy that holds, line by line, with what the file leaves out filled in and named as such."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from mobius_pipeline.residency.policy import HUB, Policy

__all__ = ["Line", "effective_lines"]


@dataclass(frozen=True, slots=True)
class Line:
    """One key of the policy; ``origin`` says whether the file gives its value or leaves it out."""

    place: str
    key: str
    value: str
    origin: str


def effective_lines(policy: Policy) -> Iterator[Line]:
    """Yield every key of every zone, then the hub's, the groups' and the viewers'."""
    for name, zone in policy.zones.items():
        for line in _lines(name, zone):
            by_name = line.key == "database" and line.value == f"rum_{name}"
            yield Line(name, line.key, line.value, "default") if by_name else line
    if policy.hub:
        yield from _lines(HUB, policy.hub)
    for name, group in policy.groups.items():
        yield from _lines(f"group {name}", group)
    for name, groups in policy.viewers.items():
        yield Line(f"viewer {name}", "groups", _text("groups", groups), "file")


def _lines(place: str, table: BaseModel, prefix: str = "") -> Iterator[Line]:
    for key in type(table).model_fields:
        value = getattr(table, key)
        if isinstance(value, BaseModel):
            yield from _lines(place, value, f"{key}.")
        else:
            origin = "file" if key in table.model_fields_set else "default"
            yield Line(place, prefix + key, _text(prefix, value), origin)


def _text(prefix: str, value: object) -> str:
    if prefix == "retention.":
        return "for ever" if value is None else f"{value} days"
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
