"""Pseudonyms of people: the same for one person, zone and month, and no way back; only they leave the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from mobius_instrumentation import ConfigurationError, identify, subjects
from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.subjects import SUBJECT, Pseudonyms, pseudonym, use_subject_key
from mobius_instrumentation.testing import record_spans

KEY = "a secret of the zone, long enough"
JUNE, JULY = datetime(2026, 6, 30, 23, 59, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
PERSON = "Ana.Müller@example.com"


@pytest.fixture(autouse=True)
def _no_key_left() -> Iterator[None]:
    yield
    use_subject_key(None, "")


@given(st.text(min_size=1), st.text(min_size=1))
def test_people_are_told_apart_and_hidden(one: str, other: str) -> None:
    found = pseudonym(KEY, "eu", one, JUNE)
    assert len(found) == 32
    assert set(found) <= set("0123456789abcdef")
    assert found == pseudonym(KEY, "eu", one, datetime(2026, 6, 1, tzinfo=UTC))
    assert (found == pseudonym(KEY, "eu", other, JUNE)) == (one == other)


def test_month_zone_and_key_change_it() -> None:
    found = {
        pseudonym(KEY, "eu", PERSON, JUNE),
        pseudonym(KEY, "eu", PERSON, JULY),
        pseudonym(KEY, "us", PERSON, JUNE),
        pseudonym(KEY + "!", "eu", PERSON, JUNE),
    }
    assert len(found) == 4


def test_a_value_from_elsewhere() -> None:
    """The same by `openssl dgst -sha256 -hmac`: what is documented can be made by services in other languages."""
    assert pseudonym("0123456789abcdef", "eu", "user-1", JUNE) == "18fa38ea0eb7dc9041baa04007580dc0"


@pytest.mark.parametrize("key", ["", "short", "fifteen bytes.."])
def test_a_short_key_is_refused(key: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"subject_key: is shorter than 16 bytes.*openssl rand"
    ):
        Pseudonyms(key, "eu")


def shop() -> FastAPI:
    app = FastAPI()

    async def whom(user: str = "") -> None:
        identify(user)

    @app.get("/loop", dependencies=[Depends(whom)])
    async def loop() -> str:
        await asyncio.sleep(0)
        return "ok"

    @app.get("/thread")
    def thread(user: str = "") -> str:
        identify(user)
        return "ok"

    return app


def test_only_the_pseudonym_of_whom_a_request_is_for_is_on_its_span() -> None:
    use_subject_key(KEY, "eu")
    app = shop()
    with record_spans(app) as spans, TestClient(app) as client:
        for path in ("/loop", "/thread"):
            assert client.get(path, params={"user": PERSON}).status_code == 200
            assert client.get(path).status_code == 200
    found = [span.attributes.get(SUBJECT) for span in spans.spans]
    own = Pseudonyms(KEY, "eu").of(PERSON)
    assert found == [own, None, own, None]
    assert "Ana" not in repr(spans.spans)


def test_without_a_key_nothing_happens_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "_warned", False)
    app = shop()
    with record_spans(app) as spans, TestClient(app) as client, caplog.at_level(logging.WARNING):
        client.get("/loop", params={"user": PERSON})
        client.get("/thread", params={"user": PERSON})
    assert [SUBJECT in span.attributes for span in spans.spans] == [False, False]
    assert [record.message.count("MOBIUS_SUBJECT_KEY") for record in caplog.records] == [1]
    assert PERSON not in caplog.text


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("0123456789abcdef" * 2, "0123456789abcdef" * 2),
        ("4111111111111111", "[card]"),
        ("ana@example.com", "[e-mail]"),
        ("user-1", "user-1"),
    ],
)
def test_what_a_service_calls_a_pseudonym_is_cleaned_unless_it_is_a_hash(
    value: str, sent: str
) -> None:
    assert AttributePolicy().clean(SUBJECT, value) == sent


def test_outside_of_a_request_nothing_breaks() -> None:
    use_subject_key(KEY, "eu")
    identify(PERSON)
