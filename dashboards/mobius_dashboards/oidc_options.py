"""How people log in: one table of variables, read strictly. Any of them set means that nobody looks without a login."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from mobius_instrumentation.zone_variables import (
    Secret,
    VariableError,
    ZoneVariable,
    is_loopback,
    read_table,
)
from mobius_pipeline.errors import UsageError

__all__ = ["OIDC_VARIABLES", "OidcOptions", "oidc_options", "oidc_secrets"]

_BEGIN: Final = "MOBIUS_OIDC_"
_CALLBACK: Final = "/oauth2callback"
# Shorter ones make Streamlit's own signature of the cookie guessable.
_LEAST_SECRET: Final = 32


def _address(text: str) -> str:
    """Read an address that nobody on the way can read or change."""
    address = text.strip()
    parts = urlsplit(address)
    clear = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not parts.hostname or not (parts.scheme == "https" or clear):
        raise ValueError("must be an address with https:// (http:// for this machine alone)")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must be an address without user, password, ? and #")
    return address


def _callback(text: str) -> str:
    address = _address(text)
    if not address.endswith(_CALLBACK):
        raise ValueError(f"must end with {_CALLBACK}")
    return address


def _seconds(text: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit() or not 0 < int(text) <= 30 * 86_400:
        raise ValueError("must be a whole number of seconds, at most 30 days")
    return int(text)


def _cookie_secret(text: str) -> Secret:
    if len(text) < _LEAST_SECRET:
        raise ValueError(f"must have at least {_LEAST_SECRET} characters")
    return Secret(text)


OIDC_VARIABLES: Final[tuple[ZoneVariable, ...]] = (
    ZoneVariable("ISSUER", "", _address, "The provider, as its tokens name it. Needed."),
    ZoneVariable("CLIENT_ID", "", str, "Our name there. Needed."),
    ZoneVariable("CLIENT_SECRET", Secret(""), Secret, "Our password there. Needed. Secret."),
    ZoneVariable(
        "REDIRECT_URI",
        f"http://127.0.0.1:{{port}}{_CALLBACK}",
        _callback,
        "Where browsers reach this dashboard, then `/oauth2callback`, as registered at the provider.",
    ),
    ZoneVariable("GROUPS_CLAIM", "groups", str, "Claim with the names of a person's groups."),
    ZoneVariable("NAME_CLAIM", "email", str, "Claim with the name to show; `sub` without it."),
    ZoneVariable("SCOPE", "openid profile email", str, "What is asked for; some need `groups`."),
    ZoneVariable(
        "MAX_AGE_SECONDS",
        28_800,
        _seconds,
        "A login older than this, or than the token's `exp`, has ended: so long may a revoked group be seen.",
    ),
    ZoneVariable(
        "COOKIE_SECRET",
        Secret(""),
        _cookie_secret,
        "Signs the cookie; made up at each start when left out, which ends all logins. Secret.",
    ),
)


@dataclass(frozen=True, slots=True)
class OidcOptions:
    """What a login is checked against; no secrets."""

    issuer: str
    client_id: str
    redirect_uri: str
    groups_claim: str
    name_claim: str
    scope: str
    max_age: timedelta


def oidc_options(environment: Mapping[str, str]) -> OidcOptions | None:
    """Return how people log in, or None where no variable asks for it.

    Raises
    ------
    UsageError
        A variable is wrong, unknown or missing; names it. Nobody may look then.
    """
    found = _read(environment)
    if found is None:
        return None
    return OidcOptions(
        issuer=found["ISSUER"],
        client_id=found["CLIENT_ID"],
        redirect_uri=found["REDIRECT_URI"],
        groups_claim=found["GROUPS_CLAIM"],
        name_claim=found["NAME_CLAIM"],
        scope=found["SCOPE"],
        max_age=timedelta(seconds=found["MAX_AGE_SECONDS"]),
    )


def oidc_secrets(environment: Mapping[str, str]) -> tuple[Secret, Secret]:
    """Return the client's secret, and the cookie's (empty where it is to be made up).

    Raises
    ------
    UsageError
        As :func:`oidc_options`, or the client's secret is missing.
    """
    found = _read(environment)
    if found is None or not found["CLIENT_SECRET"]:
        raise UsageError("is missing", field=f"{_BEGIN}CLIENT_SECRET")
    return found["CLIENT_SECRET"], found["COOKIE_SECRET"]


def _read(environment: Mapping[str, str]) -> dict[str, Any] | None:
    if not any(name.startswith(_BEGIN) for name in environment):
        return None
    try:
        found = read_table(_BEGIN, OIDC_VARIABLES, environment)
    except VariableError as error:
        raise UsageError(error.problem, field=error.variable) from None
    for name in ("ISSUER", "CLIENT_ID"):
        if not found[name]:
            raise UsageError("is missing: a login needs it", field=_BEGIN + name)
    return found
