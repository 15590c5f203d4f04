"""Which residency map a command works with, and the credentials that go with it.

The map is, first that applies: the ``--config`` argument; ``MOBIUS_CONFIG``; ``zones.toml`` in the
current folder; the map of the local stack that was started last (``mobius-rum up`` leaves its path in
the user's state folder).

Credentials come from the environment; what it does not name is taken from ``credentials.env`` beside
the map, where the local stack keeps the passwords that it made up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobius_instrumentation.kafka_options import check_kafka_variables
from mobius_instrumentation.zone_variables import (
    CREDENTIALS_FILE,
    VariableError,
    read_credentials_file,
)
from mobius_instrumentation.zones import Zone, Zones, ZonesError, load_zones
from mobius_pipeline.clickhouse_options import check_clickhouse_variables
from mobius_pipeline.errors import UsageError

__all__ = [
    "CREDENTIALS_FILE",
    "Credentials",
    "clickhouse_credentials",
    "current_stack_file",
    "find_zones_file",
    "load_config",
    "pick_zones",
    "read_credentials_file",
    "state_folder",
    "variables",
]

# Content of that file beside the map that this process loaded last.
_beside_the_map: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password of one zone's store. The password is kept out of ``repr``."""

    user: str
    password: str

    def __repr__(self) -> str:
        """Name the user only."""
        return f"Credentials(user={self.user!r})"


def state_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Folder of the user's own state (XDG base directory specification)."""
    values = os.environ if environment is None else environment
    base = values.get("XDG_STATE_HOME") or str(
        Path(values.get("HOME", "~")).expanduser() / ".local" / "state"
    )
    return Path(base) / "mobius-rum"


def current_stack_file(environment: Mapping[str, str] | None = None) -> Path:
    """File that holds the path of the zones.toml of the local stack started last."""
    return state_folder(environment) / "current-stack"


def find_zones_file(argument: str | Path | None = None) -> Path:
    """Path of the residency map to use, see the module's text.

    Raises
    ------
    UsageError
        There is none; says how to get one.
    """
    if argument is not None:
        return Path(argument)
    if named := os.environ.get("MOBIUS_CONFIG"):
        return Path(named)
    if (here := Path("zones.toml")).is_file():
        return here
    pointer = current_stack_file()
    if pointer.is_file() and (last := Path(pointer.read_text(encoding="utf-8").strip())).is_file():
        return last
    raise UsageError(
        "no zones.toml: start the local stack with `mobius-rum up`, or name one with --config or MOBIUS_CONFIG"
    )


def load_config(argument: str | Path | None = None) -> Zones:
    """Find and read the residency map, and remember the credentials beside it.

    Raises
    ------
    UsageError
        There is no map, or it is wrong (names file and key); or a zone's variable is (names it).
    """
    file = find_zones_file(argument)
    try:
        zones = load_zones(file)
    except ZonesError as error:
        raise UsageError(error.problem, file=error.file, field=error.key) from error
    _beside_the_map.clear()
    _beside_the_map.update(read_credentials_file(file.parent / CREDENTIALS_FILE))
    try:
        for zone in zones:
            check_kafka_variables(zone, variables())
        for store in (*zones, *([zones.hub] if zones.hub else [])):
            check_clickhouse_variables(store, variables())
    except VariableError as error:
        raise UsageError(error.problem, field=error.variable) from None
    return zones


def variables() -> Mapping[str, str]:
    """Every variable that may hold an address's credentials: the environment's, then those beside the map."""
    return _beside_the_map | dict(os.environ)


def pick_zones(zones: Zones, name: str | None) -> tuple[Zone, ...]:
    """Return the zone called ``name``, or all of them for None.

    Raises
    ------
    UsageError
        The map has no zone of that name.
    """
    if name is None:
        return tuple(zones)
    if name not in zones.zones:
        raise UsageError(
            f"no zone {name!r} in {zones.file}; known: {', '.join(zones.zones)}", field="--zone"
        )
    return (zones.zones[name],)


def clickhouse_credentials(zone: str, environment: Mapping[str, str] | None = None) -> Credentials:
    """Credentials for the store of ``zone`` ("hub" for the hub): ``MOBIUS_<ZONE>_CLICKHOUSE_USER`` and ``_PASSWORD``.

    Looked up in the environment, then in the file beside the map that :func:`load_config` read.
    """
    values = variables() if environment is None else environment
    prefix = f"MOBIUS_{zone.upper()}_CLICKHOUSE"
    return Credentials(
        values.get(f"{prefix}_USER", "default"), values.get(f"{prefix}_PASSWORD", "")
    )
