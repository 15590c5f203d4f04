from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_dashboards.identity import LEEWAY, Identity, LoginError, identity_from
from mobius_dashboards.login_secrets import secrets_file
from mobius_dashboards.oidc_options import OIDC_VARIABLES, oidc_options, oidc_secrets
from mobius_pipeline.errors import UsageError

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
ISSUED = int(NOW.timestamp()) - 60
ENVIRONMENT = {
    "MOBIUS_OIDC_ISSUER": "https://login.example/",
    "MOBIUS_OIDC_CLIENT_ID": "rum",
    "MOBIUS_OIDC_CLIENT_SECRET": 'a "quoted" \\ secret é',
    "MOBIUS_OIDC_MAX_AGE_SECONDS": "7200",
}
FOUND = oidc_options(ENVIRONMENT)
assert FOUND is not None
OPTIONS = FOUND
CLAIMS: dict[str, Any] = {
    "iss": "https://login.example/",
    "aud": "rum",
    "sub": "u-1",
    "iat": ISSUED,
    "exp": ISSUED + 3600,
    "email": "ana@example.org",
    "groups": ["sre-eu", "board"],
    "is_logged_in": True,
}


def test_a_good_login_names_a_person_and_their_groups() -> None:
    until = datetime.fromtimestamp(ISSUED + 3600, UTC)
    assert identity_from(CLAIMS, OPTIONS, NOW) == Identity(
        "ana@example.org", "u-1", ("sre-eu", "board"), until
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iss": "https://login.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": {"rum": 1}}, "aud"),
        ({"aud": "rum2"}, "aud"),
        ({"aud": ["rum", "other"]}, "azp"),
        ({"azp": "other"}, "azp"),
        ({"exp": ISSUED}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "4102444800"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": float("inf")}, "exp"),
        ({"exp": float("nan")}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"exp": -1}, "exp"),
        ({"iat": None}, "iat"),
        ({"iat": ISSUED + 3600}, "not valid yet"),
        ({"nbf": ISSUED + 3600}, "not valid yet"),
        ({"nbf": "soon"}, "nbf"),
        ({"iat": ISSUED - 7200}, "expired"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "a\nb"}, "sub"),
        ({"groups": {"sre-eu": True}}, "groups"),
        ({"groups": ["sre-eu", 7]}, "groups"),
        ({"groups": 7}, "groups"),
    ],
)
def test_what_is_wrong_with_a_login_is_said(change: dict[str, Any], words: str) -> None:
    with pytest.raises(LoginError, match=words):
        identity_from({**CLAIMS, **change}, OPTIONS, NOW)


def test_a_login_ends_when_the_first_of_its_bounds_is_reached() -> None:
    for change, length in (({}, 3600), ({"exp": ISSUED + 90_000}, 7200)):
        end = datetime.fromtimestamp(ISSUED + length, UTC)
        claims = {**CLAIMS, **change}
        last = end + LEEWAY - timedelta(milliseconds=1)
        assert identity_from(claims, OPTIONS, last).until == end
        with pytest.raises(LoginError, match="expired"):
            identity_from(claims, OPTIONS, end + LEEWAY)


@pytest.mark.parametrize(
    ("change", "name", "groups"),
    [
        ({"email": None}, "u-1", ("sre-eu", "board")),
        ({"email_verified": False}, "u-1", ("sre-eu", "board")),
        ({"email": "a\x1b[31m"}, "u-1", ("sre-eu", "board")),
        ({"groups": "board"}, "ana@example.org", ("board",)),
        ({"groups": None}, "ana@example.org", ()),
        ({"groups": []}, "ana@example.org", ()),
    ],
)
def test_names_and_groups(change: dict[str, Any], name: str, groups: tuple[str, ...]) -> None:
    found = identity_from({**CLAIMS, **change}, OPTIONS, NOW)
    assert (found.name, found.groups) == (name, groups)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(name=st.sampled_from(["iss", "aud", "azp", "exp", "iat", "nbf", "sub", "groups", "email"]), value=JSON)  # fmt: skip
def test_whatever_stands_in_a_claim_there_is_a_person_or_a_refusal(name: str, value: Any) -> None:
    try:
        found = identity_from({**CLAIMS, name: value}, OPTIONS, NOW)
    except LoginError:
        return
    assert found.subject
    assert found.name
    assert all(isinstance(group, str) for group in found.groups)
    assert found.until + LEEWAY > NOW


def test_without_variables_nobody_logs_in() -> None:
    assert oidc_options({"MOBIUS_VIEWER": "ana"}) is None


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"ISSUER": ""}, "MOBIUS_OIDC_ISSUER"),
        ({"ISSUER": "http://login.example"}, "MOBIUS_OIDC_ISSUER.*https"),
        ({"ISSUER": "https://u:p@login.example"}, "MOBIUS_OIDC_ISSUER"),
        ({"ISSUER": "login.example"}, "MOBIUS_OIDC_ISSUER"),
        ({"CLIENT_ID": ""}, "MOBIUS_OIDC_CLIENT_ID"),
        ({"CLIENT_SECRET": ""}, "MOBIUS_OIDC_CLIENT_SECRET"),
        ({"REDIRECT_URI": "https://rum.example/"}, "MOBIUS_OIDC_REDIRECT_URI.*oauth2callback"),
        ({"MAX_AGE_SECONDS": "0"}, "MOBIUS_OIDC_MAX_AGE_SECONDS"),
        ({"MAX_AGE_SECONDS": "8h"}, "MOBIUS_OIDC_MAX_AGE_SECONDS"),
        ({"COOKIE_SECRET": "short"}, "MOBIUS_OIDC_COOKIE_SECRET.*32"),
        ({"GROUP_CLAIM": "roles"}, "MOBIUS_OIDC_GROUP_CLAIM.*MOBIUS_OIDC_GROUPS_CLAIM"),
    ],
)
def test_a_login_that_is_configured_by_halves_is_an_error(
    change: dict[str, str], names: str
) -> None:
    wrong = {**ENVIRONMENT, **{f"MOBIUS_OIDC_{name}": value for name, value in change.items()}}
    with pytest.raises(UsageError, match=names) as caught:
        oidc_secrets(wrong)
    assert not any(len(value) > 2 and value in str(caught.value) for value in change.values())


def test_the_secrets_reach_streamlit_and_stay_nowhere_else() -> None:
    environment = dict(ENVIRONMENT)
    link = secrets_file(environment)
    found = tomllib.loads(link.read_text(encoding="utf-8"))["auth"]
    assert found["client_secret"] == ENVIRONMENT["MOBIUS_OIDC_CLIENT_SECRET"]
    assert found["server_metadata_url"] == "https://login.example/.well-known/openid-configuration"
    assert found["redirect_uri"] == "http://127.0.0.1:{port}/oauth2callback"
    assert len(found["cookie_secret"]) >= 32
    assert found["cookie_secret"] != tomllib.loads(secrets_file(dict(ENVIRONMENT)).read_text())["auth"]["cookie_secret"]  # fmt: skip
    assert link.is_symlink()
    assert link.parent.stat().st_mode & 0o077 == 0
    assert "MOBIUS_OIDC_CLIENT_SECRET" not in environment
    assert ENVIRONMENT["MOBIUS_OIDC_CLIENT_SECRET"] not in repr(oidc_secrets(ENVIRONMENT))


def test_the_page_names_every_variable() -> None:
    text = (Path(__file__).parents[2] / "docs/dashboard.md").read_text(encoding="utf-8")
    for variable in OIDC_VARIABLES:
        assert f"| `MOBIUS_OIDC_{variable.name}` |" in text
        assert variable.meaning in text
