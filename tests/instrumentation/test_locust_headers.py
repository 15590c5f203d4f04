"""Headers alone: Locust itself changes the whole process when it is imported, see test_real_server.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobius_instrumentation import ConfigurationError
from mobius_instrumentation.locust import Listener
from mobius_instrumentation.marker import Marker, verify

KEY = "secret"


def listener(key: str = KEY, now: float = 1000.0) -> Listener:
    return Listener(path=Path("x.jsonl"), test="smoke", run="r-1", key=key, now=lambda: now)


def test_each_request_gets_ids_of_its_own_and_the_marker() -> None:
    own = listener()
    ids = set()
    for _ in range(100):
        headers, (trace_id, span_id) = own._headers({"accept": "x"})
        assert headers["accept"] == "x"
        assert headers["traceparent"] == f"00-{trace_id}-{span_id}-01"
        ids.add((trace_id, span_id))
        name, _, token = headers["baggage"].partition("=")
        assert name == "mobius-synthetic"
        assert verify(token, key=KEY, now=1000) == Marker("r-1", "smoke", 4600)
    assert len(ids) == 100


def test_what_the_test_set_itself_stays() -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    headers, ids = listener()._headers({"Traceparent": parent, "Baggage": b"mine=1"})
    assert ids == ("a" * 32, "b" * 16)
    assert headers["Traceparent"] == parent
    assert headers["Baggage"].startswith("mine=1,mobius-synthetic=v1.")
    assert set(headers) == {"Traceparent", "Baggage"}


def test_a_header_that_is_no_parent_is_replaced() -> None:
    headers, (trace_id, _) = listener()._headers({"traceparent": "nonsense"})
    assert headers["traceparent"].split("-")[1] == trace_id


def test_without_a_key_requests_are_traced_but_not_marked() -> None:
    headers, _ = listener(key="")._headers({})
    assert set(headers) == {"traceparent"}


def test_a_long_run_gets_fresh_tokens_before_the_old_ones_expire() -> None:
    now = 0.0
    own = Listener(path=Path("x"), test="t", run="r", key=KEY, now=lambda: now)
    for step in range(200):
        now = step * 120.0
        marker = verify(own._marker(), key=KEY, now=now)
        assert marker is not None
        assert marker.expires - now >= 1800


def test_a_name_that_no_token_can_carry_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a b"):
        Listener(path=Path("x"), test="a b", run="r", key=KEY)
