"""Why a broker cannot be reached: one connection, and the error that ended it.

kafka-python's clients try again until their time is up and then say so, whatever the cause; a wrong password or an
expired certificate stand in its log alone. And while they try, they knock ten times where once is enough.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from kafka.errors import (
    KafkaError,
    KafkaProtocolError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from mobius_instrumentation.tls import certificate_remedy
from mobius_instrumentation.zone_variables import prefix

__all__ = ["cause_of", "connection_remedy", "knock", "reason_of"]

# What kafka-python makes of a refused connection.
_NUMBER: Final = re.compile(r"^(?:unable to connect: )?(\d+) E[A-Z]+$")


def knock(settings: Mapping[str, Any], seconds: float) -> None:
    """Connect to each bootstrap address in turn until one takes us, password and all; then hang up.

    Parameters
    ----------
    settings
        Those of a client, see :func:`mobius_instrumentation.kafka_options.kafka_settings`.
    seconds
        Longest time for each address.

    Raises
    ------
    KafkaError, OSError
        What the last address answered, where none took us.
    """
    net = NetworkSelector()
    manager = KafkaConnectionManager(net, **settings)

    async def connect(node: Any) -> None:
        connection = manager.get_connection(
            node, timeout_ms=seconds * 1000, pop_on_close=False, refresh_metadata_on_err=False
        )
        await manager.wait_for(connection.init_future, seconds * 1000)

    try:
        problem: Exception = OSError("no bootstrap address")
        for broker in manager.cluster.bootstrap_brokers():
            try:
                manager.run(connect, broker.node_id)
            except (KafkaError, OSError) as error:
                problem = error
            else:
                return
        raise problem
    finally:
        manager.close()
        net.close()


def cause_of(error: BaseException) -> BaseException:
    """Return the error behind kafka-python's: what TLS or the socket said."""
    if not isinstance(error, KafkaError):
        return error
    below = (*error.args, error.__cause__, error.__context__)
    return next((each for each in below if isinstance(each, OSError)), error)


def reason_of(error: BaseException) -> str:
    """Say in one line what went wrong; as the system says it where it was the system."""
    cause = cause_of(error)
    text = (str(cause).splitlines() or [""])[0].removeprefix(f"{type(cause).__name__}: ")
    if number := _NUMBER.search(text):
        return os.strerror(int(number[1]))
    return text[:200] or type(cause).__name__


def connection_remedy(zone: str, error: BaseException) -> str:
    """Say which variable to look at; "" where none is to blame."""
    begin = prefix(zone, "KAFKA")
    if isinstance(error, SaslAuthenticationFailedError):
        return f"correct {begin}SASL_USERNAME and {begin}SASL_PASSWORD"
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"choose another {begin}SASL_MECHANISM"
    remedy = certificate_remedy(
        cause_of(error),
        ca=f"{begin}SSL_CA_FILE",
        cert=f"{begin}SSL_CERT_FILE",
        host=f"set {begin}SSL_CHECK_HOSTNAME=false",
    )
    if remedy:
        return remedy
    # What TLS answers to Kafka's protocol looks like a frame of an absurd length, or comes with the end.
    if isinstance(error, KafkaProtocolError) or "disconnected" in str(error):
        return (
            f"it did not understand us: see {begin}SECURITY_PROTOCOL if it wants TLS or a password, and "
            f"{begin}SASL_USERNAME and {begin}SASL_PASSWORD if it has one; else its log"
        )
    return ""
