"""The signed marker of synthetic traffic.

A load test marks its requests with a token that only the holder of the key can make. It travels as the
W3C baggage entry ``mobius-synthetic``, so stock baggage propagation carries it from the first service
to every service behind it. Without the key nobody can pass users' traffic off as a test, or the reverse.

Token: ``v1.<run>.<test>.<expires>.<signature>``; ``expires`` in whole seconds since the epoch, the
signature HMAC-SHA256 (RFC 2104, FIPS 180-4) in hexadecimal over everything before it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["BAGGAGE_KEY", "Marker", "sign", "verify"]

BAGGAGE_KEY: Final = "mobius-synthetic"
"""Name of the W3C baggage entry that carries the token."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN: Final = re.compile(
    r"(v1\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,64})\.([0-9]{1,12}))\.([0-9a-f]{64})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Marker:
    """A verified marker: which run of which test sent the request, and until when it is valid."""

    run: str
    test: str
    expires: int


def sign(run: str, test: str, *, key: str, expires: float) -> str:
    """Make the token of a test run.

    Parameters
    ----------
    run, test
        1 to 64 of the characters ``A-Z a-z 0-9 _ -``.
    key
        The shared secret (``MOBIUS_SYNTHETIC_KEY``).
    expires
        Seconds since the epoch after which services ignore the token. Keep it near the end of the run:
        whoever sees a request can repeat its marker until then.

    Raises
    ------
    ValueError
        A name has other characters, or the key is empty.
    """
    for name in (run, test):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} must be 1 to 64 of the characters A-Z a-z 0-9 _ -")
    if not key:
        raise ValueError("the key is empty; set MOBIUS_SYNTHETIC_KEY")
    body = f"v1.{run}.{test}.{int(expires)}"
    return f"{body}.{_signature(body, key)}"


def verify(token: str, *, key: str, now: float) -> Marker | None:
    """Check a token; None when it is malformed, wrongly signed or expired, or the key is empty.

    ``now`` is seconds since the epoch. The comparison takes the same time whatever differs.
    """
    found = _TOKEN.fullmatch(token)
    if found is None or not key:
        return None
    body, run, test, expires, signature = found.groups()
    if not hmac.compare_digest(signature, _signature(body, key)) or int(expires) < now:
        return None
    return Marker(run, test, int(expires))


def _signature(body: str, key: str) -> str:
    # What of an environment variable is not UTF-8 is in half surrogates; this gives its bytes back.
    secret = key.encode("utf-8", "surrogateescape")
    return hmac.new(secret, body.encode("ascii"), hashlib.sha256).hexdigest()
