"""How to reach a zone's ClickHouse: one table of variables, for every part that opens a client.

Whether it is TLS says the address in the residency map (``https://``). There is no way to switch off the check of the
server's certificate: naming the file of a self-signed one is as easy, and checks it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mobius_instrumentation.zone_variables import (
    Secret,
    VariableError,
    ZoneVariable,
    existing_file,
    is_loopback,
    prefix,
    read_variables,
)

if TYPE_CHECKING:
    from mobius_instrumentation.zones import Hub, Zone

__all__ = ["CLICKHOUSE_VARIABLES", "check_clickhouse_variables"]

_log: Final = logging.getLogger("mobius_pipeline")

CLICKHOUSE_VARIABLES: Final[tuple[ZoneVariable, ...]] = (
    ZoneVariable("USER", "default", str, "User."),
    ZoneVariable(
        "PASSWORD",
        Secret(""),
        Secret,
        "Its password. Without one, a certificate of our own identifies the user. Secret.",
    ),
    ZoneVariable(
        "CA_FILE",
        None,
        existing_file,
        "Certificates (PEM) of the authorities that may sign the store's; the system's when left out.",
    ),
    ZoneVariable(
        "CERT_FILE",
        None,
        existing_file,
        "Our own certificate and its chain (PEM), where the store wants one.",
    ),
    ZoneVariable(
        "KEY_FILE",
        None,
        existing_file,
        "The key of that certificate (PEM); left out when it is in the same file.",
    ),
    ZoneVariable("KEY_PASSWORD", Secret(""), Secret, "Password of that key. Secret."),
    ZoneVariable(
        "SERVER_NAME",
        None,
        str,
        "Name that the store's certificate must have, where zones.toml reaches it by another (a tunnel, an IP address).",
    ),
)

_TLS_ONLY: Final = ("CA_FILE", "CERT_FILE", "KEY_FILE", "KEY_PASSWORD", "SERVER_NAME")
_warned: Final[set[str]] = set()


def check_clickhouse_variables(zone: Zone | Hub, values: Mapping[str, str]) -> dict[str, Any]:
    """Read the variables of a zone (or the hub) and make sure that they fit each other; by their names in the table.

    Raises
    ------
    VariableError
        One is unknown, cannot be read, or has no effect with the others.
    """
    found = read_variables(zone.name, "CLICKHOUSE", CLICKHOUSE_VARIABLES, values)
    begin = prefix(zone.name, "CLICKHOUSE")
    address = urlsplit(zone.clickhouse)
    for name in _TLS_ONLY:
        if found[name] and address.scheme != "https":
            raise VariableError(
                begin + name,
                f"has no effect, because zones.toml has {zone.clickhouse}: give an address with https://",
            )
    for name in ("KEY_FILE", "KEY_PASSWORD"):
        if found[name] and not found["CERT_FILE"]:
            raise VariableError(begin + name, f"has no effect without {begin}CERT_FILE")
    clear = address.scheme != "https" and not is_loopback(address.hostname or "")
    if clear and found["PASSWORD"] and zone.name not in _warned:
        _warned.add(zone.name)
        _log.warning(
            "%s is reached without TLS: the password and the spans are readable by everyone on the way; give an "
            "address with https://",
            zone.clickhouse,
        )
    return found
