"""From a login's claims to a person: every claim that bounds it is checked, at every rendering.

Streamlit checks a token's signature and issuer once, at the login, and keeps the claims in a signed cookie for 30 days;
it looks neither at ``exp`` afterwards nor at ``aud`` at all. The rules are those of OpenID Connect Core 1.0, 3.1.3.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mobius_dashboards.oidc_options import OidcOptions
from mobius_pipeline.errors import MobiusError

__all__ = ["LEEWAY", "Identity", "LoginError", "identity_from"]

LEEWAY: Final = timedelta(seconds=5)
"""So far may the clocks of provider and dashboard differ."""

_MOST_GROUPS: Final = 1_000
_LONGEST: Final = 255
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC).timestamp()


class LoginError(MobiusError):
    """A login counts for nothing (any more): the person has to log in again, and sees nothing before."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has logged in. ``until`` is when the login ends."""

    name: str
    subject: str
    groups: tuple[str, ...]
    until: datetime


def identity_from(claims: Mapping[str, Any], options: OidcOptions, now: datetime) -> Identity:
    """Return whom the claims of a checked ID token name.

    1. Issued by our provider. 2. Issued for us. 3. Valid now: ``exp``, ``iat``, ``nbf``. 4. Not older than we allow.

    Raises
    ------
    LoginError
        One of these does not hold, or a claim is missing or of another kind than it has to be.
    """
    if claims.get("iss") != options.issuer:  # 1
        raise LoginError("This login is from another provider (iss).")
    _check_audience(claims, options.client_id)  # 2
    issued = _moment(claims, "iat")  # 3
    ends = _moment(claims, "exp")
    begins = _moment(claims, "nbf") if claims.get("nbf") is not None else issued
    if max(issued, begins) > now + LEEWAY:
        raise LoginError("This login is not valid yet (nbf, iat): is a clock wrong?")
    until = min(ends, issued + options.max_age)  # 4
    if now >= until + LEEWAY:
        raise LoginError("Your login has expired.")
    subject = _text(claims.get("sub"))
    if not subject:
        raise LoginError("This login names nobody (sub).")
    return Identity(_name(claims, options, subject), subject, _groups(claims, options), until)


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or client_id not in named:
        raise LoginError("This login is for another application (aud).")
    party = claims.get("azp")
    if party != client_id and (party is not None or len(named) > 1):
        raise LoginError("This login was given to another application (azp).")


def _moment(claims: Mapping[str, Any], name: str) -> datetime:
    value = claims.get(name)
    # What is no number lies in no interval either.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LATEST:
        raise LoginError(f"This login does not say when it is valid ({name}).")
    return datetime.fromtimestamp(value, UTC)


def _name(claims: Mapping[str, Any], options: OidcOptions, subject: str) -> str:
    """Return the name to show; an e-mail address that nobody has verified may be somebody else's."""
    if options.name_claim == "email" and claims.get("email_verified") is False:
        return subject
    return _text(claims.get(options.name_claim)) or subject


def _text(value: object) -> str:
    fits = isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()
    return str(value).strip() if fits else ""


def _groups(claims: Mapping[str, Any], options: OidcOptions) -> tuple[str, ...]:
    """Return the names of the groups; no claim is no group."""
    value = claims.get(options.groups_claim)
    if value is None:
        return ()
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise LoginError(f"This login's groups are no list of names ({options.groups_claim}).")
    return tuple(named[:_MOST_GROUPS])
