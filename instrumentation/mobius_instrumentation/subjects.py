"""Who a request is for, as a pseudonym: an HMAC of the person's id, made in the service, with a key that rotates.

The rollup counts distinct pseudonyms, so that sums of few people stay in their zone. One person has one pseudonym in a
zone for a month (UTC), another in the next, and another in each zone: nobody is followed over borders or for long, and
without the zone's secret no pseudonym leads back to an id.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from datetime import UTC, datetime
from typing import Final

from opentelemetry import trace

from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.request import CURRENT

__all__ = ["SUBJECT", "Pseudonyms", "identify", "pseudonym", "use_subject_key"]

SUBJECT: Final = "enduser.pseudo.id"
"""The span attribute that holds the pseudonym (OpenTelemetry's semantic conventions)."""

_LEAST_KEY_BYTES: Final = 16
_DIGITS: Final = 32

_log: Final = logging.getLogger("mobius_instrumentation")


def pseudonym(key: str, zone: str, person: str, at: datetime) -> str:
    """Return the pseudonym of ``person`` in ``zone`` at a time: 32 hexadecimal digits.

    The month's key is HMAC-SHA256 of zone and month under the secret, the pseudonym that of the person's id under the
    month's key, cut to 128 bits.
    """
    secret = key.encode("utf-8", "surrogateescape")
    month = f"{zone}/{at.astimezone(UTC):%Y-%m}".encode()
    of_month = hmac.digest(secret, month, hashlib.sha256)
    found = hmac.digest(of_month, person.encode("utf-8", "surrogateescape"), hashlib.sha256)
    return found.hex()[:_DIGITS]


class Pseudonyms:
    """Makes the pseudonyms of one zone.

    Raises
    ------
    ConfigurationError
        The key is shorter than 16 bytes: ids could be tried out.
    """

    def __init__(self, key: str, zone: str) -> None:
        if len(key.encode("utf-8", "surrogateescape")) < _LEAST_KEY_BYTES:
            raise ConfigurationError(
                "subject_key",
                f"is shorter than {_LEAST_KEY_BYTES} bytes; make one: openssl rand -hex 32",
            )
        self._key = key
        self._zone = zone

    def of(self, person: str, at: datetime | None = None) -> str:
        """Return the pseudonym of ``person``, by default now."""
        return pseudonym(self._key, self._zone, person, at or datetime.now(UTC))


_in_use: Pseudonyms | None = None
_warned = False


def use_subject_key(key: str | None, zone: str) -> None:
    """Set what :func:`identify` makes pseudonyms with, for this process and what it forks; None for nothing.

    Raises
    ------
    ConfigurationError
        The key is too short.
    """
    global _in_use  # noqa: PLW0603  # one a process, as OpenTelemetry's own provider
    _in_use = None if key is None else Pseudonyms(key, zone)


def identify(person: str) -> None:
    """Say whom the present request is for, by whatever id the service knows them by; only a pseudonym leaves.

    For a handler, a dependency or a middleware, in the event loop or in a thread. Without ``subject_key``, outside of a
    request, or for an empty id nothing happens: a request of nobody is counted as nobody's.

    Examples
    --------
    >>> from mobius_instrumentation import identify
    >>> identify("user-4711")
    """
    global _warned  # noqa: PLW0603  # as above
    if _in_use is None:
        if not _warned:
            _warned = True
            _log.warning(
                "identify() does nothing without subject_key (MOBIUS_SUBJECT_KEY): "
                "no request is counted for a person"
            )
        return
    if not person:
        return
    request = CURRENT.get()
    if request is not None:
        request.subject = _in_use.of(person)
        return
    # OpenTelemetry's own middleware traces: its span is the present one, unless a client's is open.
    trace.get_current_span().set_attribute(SUBJECT, _in_use.of(person))
