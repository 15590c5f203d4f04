"""What contradicts in a policy whose keys are right one by one: each rule is one function that yields problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from os import PathLike
from typing import Final
from urllib.parse import urlsplit

from mobius_pipeline.residency.policy import (
    HUB,
    Policy,
    PolicyError,
    Problem,
    read_policy,
    toml_key,
)
from mobius_pipeline.residency.tables import (
    CROSSING_COLUMNS,
    CROSSING_TABLES,
    is_personal,
)

__all__ = ["contradictions", "load_policy", "remarks"]

# A folder, or an address without user and password.
_PLACE: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?[^\s@\x00-\x1f]{1,400}")
# Attributes of OpenTelemetry's conventions whose values are people's by nature.
_OF_USERS: Final = re.compile(
    r"enduser\.(?!pseudo\.id$)|user\.|client\.|source\.address|db\.(?:statement|query\.text|query\.parameter)"
    r"|exception\.(?:message|stacktrace)|http\.(?:url|target|client_ip|user_agent|request\.header|response\.header)"
    r"|url\.(?:full|path|query)|user_agent\.original|net\.(?:sock\.)?peer"
)
# Their rows are what the rollup adds up.
_ADDED_UP: Final = ("spans", "synthetic_results", "joined_spans")
_LEVELS: Final = ("spans", "aggregates")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def load_policy(path: str | PathLike[str]) -> Policy:
    """Read a policy that holds together.

    Raises
    ------
    PolicyError
        A key is unknown or wrong, or two contradict; names each with file and key.
    """
    policy = read_policy(path)
    if found := contradictions(policy):
        raise PolicyError(str(path), found)
    return policy


def contradictions(policy: Policy) -> tuple[Problem, ...]:
    """Everything in ``policy`` that cannot hold at once, in the order of the rules."""
    return tuple(problem for rule in _RULES for problem in rule(policy))


def remarks(policy: Policy) -> tuple[Problem, ...]:
    """What holds together and is still worth a look; nothing of it is an error."""
    looks = (_shared_brokers, _kept_for_ever, _let_across_and_not_sent, _holds_what_users_wrote)
    return tuple(problem for look in looks for problem in look(policy))


def _reserved_name(policy: Policy) -> Iterator[Problem]:
    if HUB in policy.zones:
        yield Problem(
            key=toml_key("zones", HUB), problem="this name is the hub's: call the zone otherwise"
        )


def _one_store_a_zone(policy: Policy) -> Iterator[Problem]:
    owner: dict[tuple[str | None, int | None, str], str] = {}
    stores = [
        (f"zones.{name}", zone.clickhouse, zone.database) for name, zone in policy.zones.items()
    ]
    if policy.hub:
        stores.append((HUB, policy.hub.clickhouse, policy.hub.database))
    for key, url, database in stores:
        address = urlsplit(url)
        store = (address.hostname, address.port or _DEFAULT_PORTS.get(address.scheme), database)
        if store in owner:
            yield Problem(
                key=f"{key}.database",
                problem=f"same store and database as {owner[store]}: give each its own",
            )
        owner.setdefault(store, key)


def _own_backups(policy: Policy) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    for name, zone in policy.zones.items():
        for place in zone.backups:
            key = toml_key("zones", name, "backups")
            if not _PLACE.fullmatch(place):
                yield Problem(
                    key=key,
                    problem="a place is a folder or an address such as s3://bucket/folder, without credentials",
                )
            elif (plain := place.rstrip("/")) in owner:
                said = "twice in it" if owner[plain] == name else f"also of zone {owner[plain]!r}"
                yield Problem(key=key, problem=f"{place!r} is {said}: a zone's backups are its own")
            else:
                owner[plain] = name


def _cell_sizes(policy: Policy) -> Iterator[Problem]:
    for name, zone in policy.zones.items():
        if zone.to_hub.least_subjects < zone.least_subjects:
            yield Problem(
                key=toml_key("zones", name, "to_hub", "least_subjects"),
                problem=f"{zone.to_hub.least_subjects} is less than the {zone.least_subjects} asked for inside the zone: "
                "what crosses a border may not be finer",
            )


def _retention(policy: Policy) -> Iterator[Problem]:
    for name, zone in policy.zones.items():
        days = zone.retention.days()
        rollup = days["latency_minute"]
        for table in _ADDED_UP:
            kept = days[table]
            if rollup is not None and (kept is None or kept > rollup):
                yield Problem(
                    key=toml_key("zones", name, "retention", table),
                    problem=f"rows kept {_days(kept)}, the rollup {_days(rollup)}: rows may not outlive what they add up to",
                )
        joined, spans = days["joined_spans"], days["spans"]
        if joined is not None and (spans is None or joined < spans):
            yield Problem(
                key=toml_key("zones", name, "retention", "joined_spans"),
                problem=f"kept {_days(joined)}, spans {_days(spans)}: "
                "a span that is still there would be counted out of production a second time",
            )


def _crossing(policy: Policy) -> Iterator[Problem]:
    for name, zone in policy.zones.items():
        key = toml_key("zones", name, "to_hub")
        if policy.hub is None and "to_hub" in zone.model_fields_set:
            yield Problem(key=key, problem="there is no [hub] that anything could cross to")
        for table in zone.to_hub.tables:
            if table not in CROSSING_TABLES:
                yield Problem(
                    key=f"{key}.tables",
                    problem=f"{table!r} never leaves its zone; what may: {', '.join(CROSSING_TABLES)}",
                )
        for column in zone.to_hub.columns:
            if is_personal(column):
                yield Problem(
                    key=f"{key}.columns",
                    problem=f"{column!r} can tell one person or request from others: it never leaves its zone",
                )
            elif column not in CROSSING_COLUMNS:
                yield Problem(
                    key=f"{key}.columns",
                    problem=f"no column {column!r} of the rollup; what may cross: {', '.join(CROSSING_COLUMNS)}",
                )


def _groups(policy: Policy) -> Iterator[Problem]:
    roles = {f"{zone.database}_{level}" for zone in policy.zones.values() for level in _LEVELS}
    for name, group in policy.groups.items():
        key = toml_key("groups", name)
        if name in roles:
            yield Problem(key=key, problem="is the name of a role of our own in the store")
        if not group.spans and not group.aggregates:
            yield Problem(
                key=key, problem="has no zone: give it spans = [...] or aggregates = [...]"
            )
        for level, zones in (("spans", group.spans), ("aggregates", group.aggregates)):
            if level in group.model_fields_set and not zones:
                yield Problem(
                    key=f"{key}.{level}",
                    problem="a level without a zone: name one, or leave it out",
                )
            for zone in zones:
                if zone not in policy.places:
                    known = ", ".join(policy.places)
                    yield Problem(key=f"{key}.{level}", problem=f"no zone {zone!r}; known: {known}")
        for zone in group.spans:
            if zone == HUB and policy.hub:
                yield Problem(
                    key=f"{key}.spans", problem="the hub has no spans: name it under aggregates"
                )
            if zone in group.aggregates:
                yield Problem(
                    key=f"{key}.aggregates",
                    problem=f"{zone!r} stands under spans too, which includes aggregates: name it once",
                )


def _viewers(policy: Policy) -> Iterator[Problem]:
    for name, groups in policy.viewers.items():
        for group in groups:
            if group not in policy.groups:
                known = ", ".join(policy.groups) or "none"
                yield Problem(
                    key=toml_key("viewers", name), problem=f"no group {group!r}; known: {known}"
                )


def _shared_brokers(policy: Policy) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    for name, zone in policy.zones.items():
        for address in zone.kafka:
            if owner.setdefault(address, name) != name:
                yield Problem(
                    key=toml_key("zones", name, "kafka"),
                    problem=f"{address} is also the broker of {owner[address]!r}: the zones are apart by topic only",
                )


def _kept_for_ever(policy: Policy) -> Iterator[Problem]:
    for name, zone in policy.zones.items():
        if zone.retention.spans is None:
            yield Problem(
                key=toml_key("zones", name, "retention", "spans"), problem="spans are kept for ever"
            )


def _let_across_and_not_sent(policy: Policy) -> Iterator[Problem]:
    for name, zone in policy.zones.items():
        if "findings" in zone.to_hub.tables:
            yield Problem(
                key=toml_key("zones", name, "to_hub", "tables"),
                problem="findings are not exported yet: they stay in their zone",
            )


def _holds_what_users_wrote(policy: Policy) -> Iterator[Problem]:
    for name, zone in policy.zones.items():
        for attribute in zone.attributes:
            if _OF_USERS.match(attribute):
                yield Problem(
                    key=toml_key("zones", name, "attributes"),
                    problem=f"{attribute} holds what users are or wrote: it is cleaned, not emptied, before it is stored",
                )


def _days(days: int | None) -> str:
    return "for ever" if days is None else f"{days} days"


_RULES: Final[tuple[Callable[[Policy], Iterator[Problem]], ...]] = (
    _reserved_name,
    _one_store_a_zone,
    _own_backups,
    _cell_sizes,
    _retention,
    _crossing,
    _groups,
    _viewers,
)
