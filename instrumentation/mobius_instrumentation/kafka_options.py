"""How to reach a zone's Kafka: one table of variables, the same for services, workers and commands.

``MOBIUS_<ZONE>_KAFKA_*`` come from the environment; what it does not name, from ``credentials.env`` beside the
residency map. Whatever contradicts itself is refused before anything is sent: what was meant to be encrypted is never
sent in the clear.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from mobius_instrumentation.tls import context_from
from mobius_instrumentation.zone_variables import (
    Secret,
    VariableError,
    ZoneVariable,
    existing_file,
    is_loopback,
    one_of,
    prefix,
    read_variables,
    true_or_false,
)
from mobius_instrumentation.zones import Zone

__all__ = ["KAFKA_VARIABLES", "check_kafka_variables", "kafka_settings"]

_log: Final = logging.getLogger("mobius_instrumentation")

KAFKA_VARIABLES: Final[tuple[ZoneVariable, ...]] = (
    ZoneVariable(
        "SECURITY_PROTOCOL",
        "PLAINTEXT",
        one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        "`PLAINTEXT`, `SSL` (TLS), `SASL_SSL` (TLS and a password) or `SASL_PLAINTEXT` (a password without TLS). "
        "`SASL_PLAINTEXT` with `PLAIN` is refused unless the broker is on this machine.",
    ),
    ZoneVariable(
        "SSL_CA_FILE",
        None,
        existing_file,
        "Certificates (PEM) of the authorities that may sign the broker's; the system's when left out.",
    ),
    ZoneVariable(
        "SSL_CERT_FILE",
        None,
        existing_file,
        "Our own certificate and its chain (PEM), where the broker wants one.",
    ),
    ZoneVariable(
        "SSL_KEY_FILE",
        None,
        existing_file,
        "The key of that certificate (PEM); left out when it is in the same file.",
    ),
    ZoneVariable("SSL_KEY_PASSWORD", Secret(""), Secret, "Password of that key. Secret."),
    ZoneVariable(
        "SSL_CHECK_HOSTNAME",
        True,  # noqa: FBT003  # a default value
        true_or_false,
        "`false`: the certificate may name another host than zones.toml. Its signature is checked in any case.",
    ),
    ZoneVariable(
        "SASL_MECHANISM",
        None,
        one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        "How the password is shown: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. Required with `SASL_...`.",
    ),
    ZoneVariable("SASL_USERNAME", None, str, "User. Required with `SASL_...`."),
    ZoneVariable(
        "SASL_PASSWORD", Secret(""), Secret, "Its password. Required with `SASL_...`. Secret."
    ),
)

_SSL_ONLY: Final = ("SSL_CA_FILE", "SSL_CERT_FILE", "SSL_KEY_FILE", "SSL_KEY_PASSWORD")
_SASL_ONLY: Final = ("SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD")
_warned: Final[set[str]] = set()


def check_kafka_variables(zone: Zone, values: Mapping[str, str]) -> dict[str, Any]:
    """Read a zone's variables and make sure that they fit each other; by their names in the table.

    Raises
    ------
    VariableError
        One is unknown, cannot be read, is missing, or has no effect with the others.
    """
    found = read_variables(zone.name, "KAFKA", KAFKA_VARIABLES, values)
    begin = prefix(zone.name, "KAFKA")
    protocol = found["SECURITY_PROTOCOL"]
    for name in _SSL_ONLY:
        if found[name] and "SSL" not in protocol:
            raise VariableError(
                begin + name,
                f"has no effect while {begin}SECURITY_PROTOCOL is {protocol}: make that SSL or SASL_SSL",
            )
    for name in _SASL_ONLY:
        if found[name] and "SASL" not in protocol:
            raise VariableError(
                begin + name,
                f"has no effect while {begin}SECURITY_PROTOCOL is {protocol}: make that SASL_SSL",
            )
        if not found[name] and "SASL" in protocol:
            raise VariableError(
                begin + name, f"is needed where {begin}SECURITY_PROTOCOL is {protocol}"
            )
    for name in ("SSL_KEY_FILE", "SSL_KEY_PASSWORD"):
        if found[name] and not found["SSL_CERT_FILE"]:
            raise VariableError(begin + name, f"has no effect without {begin}SSL_CERT_FILE")
    if protocol == "SASL_PLAINTEXT":
        _check_clear_text(zone, found["SASL_MECHANISM"], begin)
    return found


def kafka_settings(zone: Zone, values: Mapping[str, str]) -> dict[str, Any]:
    """Settings of kafka-python's clients for the zone's brokers, addresses included.

    Files are read anew each time, so that a client made after a certificate was renewed has the new one.

    Raises
    ------
    VariableError
        As :func:`check_kafka_variables`; or a file is not what it should be.
    """
    found = check_kafka_variables(zone, values)
    protocol = found["SECURITY_PROTOCOL"]
    settings: dict[str, Any] = {
        "bootstrap_servers": list(zone.kafka),
        "security_protocol": protocol,
    }
    if "SSL" in protocol:
        settings["ssl_context"] = context_from(
            prefix(zone.name, "KAFKA") + "SSL_",
            {name.removeprefix("SSL_"): value for name, value in found.items()},
            check_hostname=found["SSL_CHECK_HOSTNAME"],
        )
    if "SASL" in protocol:
        _hide_passwords_from_debug_logs()
        settings |= {
            "sasl_mechanism": found["SASL_MECHANISM"],
            "sasl_plain_username": found["SASL_USERNAME"],
            "sasl_plain_password": found["SASL_PASSWORD"],
        }
    return settings


def _check_clear_text(zone: Zone, mechanism: str, begin: str) -> None:
    """Refuse to send a password in the clear; warn where only what is made of it can be overheard."""
    away = [address for address in zone.kafka if not is_loopback(address.rpartition(":")[0])]
    if not away:
        return
    if mechanism == "PLAIN":
        raise VariableError(
            f"{begin}SECURITY_PROTOCOL",
            f"SASL_PLAINTEXT with PLAIN would send the password to {away[0]} readable by everyone on the way: make it "
            "SASL_SSL, or use SCRAM-SHA-512",
        )
    if zone.name not in _warned:
        _warned.add(zone.name)
        _log.warning(
            "%sSECURITY_PROTOCOL is SASL_PLAINTEXT: the spans travel unencrypted to %s, and who listens can guess at the "
            "password at leisure; SASL_SSL prevents both",
            begin,
            away[0],
        )


class _NoBytes(logging.Filter):
    """Takes out of kafka-python's own log what was made of a password.

    At DEBUG it writes out each request, and then the very bytes that it sends; with PLAIN both hold the password.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; changes the record."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(_shown, record.args))
        return True


def _shown(argument: object) -> object:
    if isinstance(argument, bytes | bytearray | memoryview):
        return f"<{len(argument)} bytes>"
    return "SaslAuthenticate(***)" if type(argument).__name__.startswith("Sasl") else argument


_NO_BYTES: Final = _NoBytes()


def _hide_passwords_from_debug_logs() -> None:
    # A filter acts on its own logger only, and each is added once.
    import kafka  # noqa: F401  # makes the loggers

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("kafka."):
            logging.getLogger(name).addFilter(_NO_BYTES)
