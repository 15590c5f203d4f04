"""The residency map: which region belongs to which zone, and where a zone's broker and store are.

One file, ``zones.toml``, serves every part. This module reads it with the standard library alone, so
that a service which imports the instrumentation pulls in nothing for it::

    [hub]
    clickhouse = "http://127.0.0.1:8130"
    database = "rum_hub"

    [zones.eu]
    regions = ["eu-west-1", "eu-central-1"]
    kafka = ["127.0.0.1:9092"]
    clickhouse = "http://127.0.0.1:8131"
    database = "rum_eu"

Credentials are never in the file; they come from the environment
(``MOBIUS_EU_CLICKHOUSE_USER``, ``MOBIUS_EU_CLICKHOUSE_PASSWORD``, ...).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from os import PathLike
from pathlib import Path
from typing import Any, Final

__all__ = ["Hub", "Zone", "Zones", "ZonesError", "load_zones", "parse_zones"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_HOST: Final = r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|[^/?#@:\[\]\s\\]+)"
_ADDRESS: Final = re.compile(rf"{_HOST}:(?P<port>[0-9]{{1,5}})")
_URL: Final = re.compile(rf"https?://{_HOST}(?::(?P<port>[0-9]{{1,5}}))?")
_LONGEST_TEXT: Final = 400
_ZONE_KEYS: Final = {"regions", "kafka", "clickhouse", "database"}
# The policy's, which the pipeline reads (mobius_pipeline.residency); a service has no use for them.
_POLICY_KEYS: Final = {
    "attributes",
    "backups",
    "least_subjects",
    "reason_for_rows",
    "retention",
    "to_hub",
}
_HUB_KEYS: Final = {"clickhouse", "database"}


class ZonesError(ValueError):
    """The residency map is wrong. ``file`` and ``key`` say where; the text says what to do."""

    def __init__(self, file: str, key: str, problem: str) -> None:
        self.file = file
        self.key = key[:_LONGEST_TEXT]
        self.problem = problem[:_LONGEST_TEXT]
        super().__init__(f"{file}: {self.key}: {self.problem}")


@dataclass(frozen=True, slots=True)
class Zone:
    """A legal area that holds regions, with a broker and a store of its own."""

    name: str
    regions: tuple[str, ...]
    kafka: tuple[str, ...]
    clickhouse: str
    database: str

    @property
    def spans_topic(self) -> str:
        """Kafka topic that carries this zone's spans."""
        return f"rum.spans.{self.name}"

    @property
    def dead_letters_topic(self) -> str:
        """Kafka topic, inside the zone, of messages that cannot be read."""
        return f"rum.dead-letters.{self.name}"


@dataclass(frozen=True, slots=True)
class Hub:
    """The store of what may leave the zones: exported rollups, never rows."""

    clickhouse: str
    database: str
    name: str = "hub"


@dataclass(frozen=True, slots=True)
class Zones:
    """All zones of one residency map. A region belongs to at most one of them."""

    zones: Mapping[str, Zone]
    hub: Hub | None
    file: str

    def __iter__(self) -> Iterator[Zone]:
        """Iterate over the zones in the order of the file."""
        return iter(self.zones.values())

    def zone_of(self, region: str) -> Zone | None:
        """Zone that holds ``region``, or None for a region that the map does not know."""
        return next((zone for zone in self if region in zone.regions), None)

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region of the map, in the order of the file."""
        return tuple(region for zone in self for region in zone.regions)


def load_zones(path: str | PathLike[str]) -> Zones:
    """Read and validate a residency map.

    Raises
    ------
    ZonesError
        The file cannot be read, is not TOML, or contradicts itself; names file and key.
    """
    file = str(path)
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ZonesError(file, "-", f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ZonesError(file, "-", "is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:  # also numbers too long, lists too deep
        raise ZonesError(file, "-", f"is not TOML: {error}") from error
    return parse_zones(document, file)


def parse_zones(document: Mapping[str, Any], file: str = "zones.toml") -> Zones:
    """Validate an already parsed residency map; see :func:`load_zones`."""
    tables = document.get("zones")
    if not isinstance(tables, dict) or not tables:
        raise ZonesError(file, "zones", "needs at least one table such as [zones.eu]")
    zones: dict[str, Zone] = {}
    owner: dict[str, str] = {}
    for name, table in tables.items():
        zones[name] = _zone(file, name, table)
        for region in zones[name].regions:
            if region in owner:
                raise ZonesError(
                    file,
                    f"zones.{name}.regions",
                    f"region {region!r} belongs to zone {owner[region]!r} already; a region has one zone",
                )
            owner[region] = name
    hub = document.get("hub")
    return Zones(zones, None if hub is None else _hub(file, hub), file)


def _zone(file: str, name: str, table: object) -> Zone:
    key = f"zones.{name}"
    if not _NAME.fullmatch(name):
        raise ZonesError(file, key, "a zone's name is lower-case letters, digits and _, such as eu")
    fields = _table(file, key, table, _ZONE_KEYS | _POLICY_KEYS)
    return Zone(
        name=name,
        regions=_strings(file, f"{key}.regions", fields.get("regions")),
        kafka=_addresses(file, f"{key}.kafka", fields.get("kafka")),
        clickhouse=_url(file, f"{key}.clickhouse", fields.get("clickhouse")),
        database=_database(file, f"{key}.database", fields.get("database", f"rum_{name}")),
    )


def _hub(file: str, table: object) -> Hub:
    fields = _table(file, "hub", table, _HUB_KEYS)
    return Hub(
        clickhouse=_url(file, "hub.clickhouse", fields.get("clickhouse")),
        database=_database(file, "hub.database", fields.get("database", "rum_hub")),
    )


def _table(file: str, key: str, table: object, allowed: set[str]) -> dict[str, object]:
    if not isinstance(table, dict):
        raise ZonesError(file, key, "must be a table")
    unknown = sorted(set(table) - allowed)
    if unknown:
        raise ZonesError(
            file, f"{key}.{unknown[0]}", f"unknown key; known: {', '.join(sorted(allowed))}"
        )
    return table


def _strings(file: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
        raise ZonesError(file, key, "must be a list of at least one non-empty string")
    return tuple(value)


def _addresses(file: str, key: str, value: object) -> tuple[str, ...]:
    addresses = _strings(file, key, value)
    for address in addresses:
        if not _is_address(_ADDRESS, address):
            # What stands before an @ is a password, most likely.
            shown = address.rpartition("@")[2]
            raise ZonesError(
                file,
                key,
                f"{shown!r} is no broker's address such as kafka.example:9092, without credentials",
            )
    return addresses


def _is_address(pattern: re.Pattern[str], text: str) -> bool:
    match = pattern.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 1) <= 65_535:
        return False
    try:
        return match["v6"] is None or ip_address(match["v6"]).version == 6
    except ValueError:
        return False


def _url(file: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not _is_address(_URL, value):
        raise ZonesError(
            file, key, "must be an address such as http://127.0.0.1:8123, without credentials"
        )
    return value


def _database(file: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ZonesError(
            file, key, "must be a name of lower-case letters, digits and _, such as rum_eu"
        )
    return value
