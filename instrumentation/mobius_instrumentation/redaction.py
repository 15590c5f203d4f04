"""Finds what must not leave the process inside a text: addresses of people and machines, credentials, card numbers.

It would rather replace too much: a number of 13 to 19 digits that passes the check of card numbers is taken for one, which
one in ten does by chance. What looks like no known secret passes; so free text is not sent at all unless it is allowed.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Final

__all__ = ["MAX_VALUE_CHARACTERS", "clean_identifier", "clean_text", "is_own_network"]

MAX_VALUE_CHARACTERS: Final = 4096
"""Longer text is cut: one attribute must not fill the buffer."""

_MARGIN: Final = (
    1024  # looked at beyond the cut, so that no secret loses the part by which it is known
)
_WORD: Final = r"[^\s@/?&=:;,<>\"'()\[\]{}|]"
# Bounded (RFC 5321: 64 and 255 octets), so that no value can make the search take long.
_EMAIL: Final = re.compile(f"{_WORD}{{1,64}}@{_WORD}{{1,255}}")
_CREDENTIAL: Final = re.compile(
    r"\beyJ[\w-]{4,}\.[\w.-]*"  # JSON web tokens
    r"|\b(?:bearer|basic)\s+[\w.~+/=-]+"  # credentials of an Authorization header
    r"|://[^\s/@:]{1,64}:[^\s/@]{0,255}@"  # user and password in an address
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # keys of clouds and services that say what they are
    r"|\b(?:gh[oprsu]_|github_pat_|glpat-|xox[a-z]-|[rs]k_(?:live|test)_|AIza|npm_|pypi-)[\w-]{10,}",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(
    r"\b((?:pass(?:word|wd|phrase)?|pwd|secret|client_secret|(?:access|refresh|id|auth|csrf)?_?token|api[_-]?key"
    r"|sessionid|session_id|sid|otp|pin)[\"']?\s{0,3}[=:]\s{0,3})[\"']?(?!\[credential\])[^\s,;&\"'<>\[\]]{1,255}",
    re.IGNORECASE,
)
# Letters and digits mixed without a break: names of things have breaks, or no digits in their midst.
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9+]{20,}={0,2}")
_CARD: Final = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]?\d)")
_IPV4: Final = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w]|\.\d)"
)
_IPV6: Final = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?![\w:]|\.\d)"
)

# Not Python's `is_private`, which also holds for reserved addresses.
_OWN_NETWORKS: Final = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "::1/128", "fc00::/7"),
    )
)


def clean_text(text: str) -> str:
    """Return ``text`` with what must not leave replaced, cut at :data:`MAX_VALUE_CHARACTERS`.

    Replaced are e-mail addresses, credentials and long tokens, card numbers, IPv4 and IPv6 addresses, and query strings of
    addresses.
    """
    text = _clean_people(text[: MAX_VALUE_CHARACTERS + _MARGIN])
    if any(map(str.isdigit, text)):
        text = _CARD.sub(_card, text)
        text = _TOKEN.sub("[token]", text)
        text = _IPV4.sub("[ip]", text)
    if text.count(":") > 1:
        text = _IPV6.sub(_ipv6, text)
    return text[:MAX_VALUE_CHARACTERS]


def clean_identifier(text: str) -> str:
    """Clean a version or an id, which may well look like an address or a token: e-mail addresses and credentials only."""
    return _clean_people(text[: MAX_VALUE_CHARACTERS + _MARGIN])[:MAX_VALUE_CHARACTERS]


def is_own_network(text: str) -> bool:
    """Whether a text is an address of a private network or of this machine, which is no user's."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return False
    return any(address.version == own.version and address in own for own in _OWN_NETWORKS)


def _clean_people(text: str) -> str:
    if "?" in text and "://" in text:
        text = re.sub(r"(://[^\s?]*)\?\S*", r"\1", text)
    if _CREDENTIAL.search(text):
        text = _CREDENTIAL.sub(
            lambda found: "://" if found[0].startswith("://") else "[credential]", text
        )
    if "=" in text or ":" in text:
        text = _NAMED.sub(r"\1[credential]", text)
    if "@" in text:
        text = _EMAIL.sub("[e-mail]", text)
    return text


def _card(found: re.Match[str]) -> str:
    digits = [int(character) for character in found[0] if character.isdigit()]
    doubled = [d if place % 2 == 0 else d * 2 - 9 * (d > 4) for place, d in enumerate(digits[::-1])]
    return found[0] if sum(doubled) % 10 else "[card]"


def _ipv6(found: re.Match[str]) -> str:
    try:
        ip_address(found[0])
    except ValueError:
        return found[0]
    return "[ip]"
