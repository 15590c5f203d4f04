from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_instrumentation.marker import Marker, sign, verify

KEY = "the key of the test runners"
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(run=NAMES, test=NAMES, expires=st.integers(0, 10**11), key=st.text(min_size=1))
def test_what_was_signed_verifies_until_it_expires(
    run: str, test: str, expires: int, key: str
) -> None:
    token = sign(run, test, key=key, expires=expires)
    assert verify(token, key=key, now=expires) == Marker(run, test, expires)
    assert verify(token, key=key, now=expires + 1) is None


@given(st.data())
def test_any_change_to_a_token_voids_it(data: st.DataObject) -> None:
    token = sign("run-1", "checkout", key=KEY, expires=2_000_000_000)
    position = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.characters(codec="utf-8").filter(lambda c: c != token[position]))
    changed = token[:position] + character + token[position + 1 :]
    assert verify(changed, key=KEY, now=0) is None


def test_another_key_signs_nothing_for_us() -> None:
    assert verify(sign("r", "t", key="guess", expires=9e9), key=KEY, now=0) is None


def test_a_key_that_is_no_utf_8_in_the_environment_is_its_bytes() -> None:
    token = sign("r", "t", key="k\udcff", expires=9e9)
    assert verify(token, key="k\udcff", now=0) == Marker("r", "t", 9_000_000_000)
    assert verify(token, key="k", now=0) is None


def test_without_a_key_nothing_verifies() -> None:
    with pytest.raises(ValueError, match="MOBIUS_SYNTHETIC_KEY"):
        sign("r", "t", key="", expires=9e9)
    assert verify(sign("r", "t", key=KEY, expires=9e9), key="", now=0) is None


def test_a_later_expiry_cannot_be_put_into_a_token() -> None:
    old, new = (sign("r", "t", key=KEY, expires=expires) for expires in (100, 200))
    forged = new.rsplit(".", 1)[0] + "." + old.rsplit(".", 1)[1]
    assert verify(forged, key=KEY, now=150) is None


@pytest.mark.parametrize(
    "token", ["", "v1", "v1.r.t.5", "v2.r.t.5." + "0" * 64, "v1.r.t.x." + "0" * 64]
)
def test_what_is_no_token_is_rejected(token: str) -> None:
    assert verify(token, key=KEY, now=0) is None


@pytest.mark.parametrize("name", ["", "a.b", "ü", "a b", "x" * 65])
def test_names_that_would_break_the_token_are_refused(name: str) -> None:
    for run, test in ((name, "t"), ("r", name)):
        with pytest.raises(ValueError, match="1 to 64"):
            sign(run, test, key=KEY, expires=1)
