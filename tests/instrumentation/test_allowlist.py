from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from mobius_instrumentation.allowlist import (
    DEFAULT_ATTRIBUTES,
    LIST_APPLIED,
    AttributePolicy,
)
from mobius_instrumentation.redaction import MAX_VALUE_CHARACTERS, clean_text
from mobius_instrumentation.testing import decode_request
from mobius_instrumentation.wire import SpanEncoder, build_request

SECRET = "qjzxvwkq"  # in no name of the list
NAMES = st.one_of(
    st.sampled_from(sorted(DEFAULT_ATTRIBUTES)),
    st.sampled_from(["url.full", "client.address", "enduser.id", "http.request.header.cookie"]),
    st.text(min_size=1, max_size=20).map(lambda name: f"x.{name}"),
)
ATTRIBUTES = st.dictionaries(
    NAMES, st.one_of(st.integers(0, 9), st.just(SECRET), st.just((SECRET, SECRET))), max_size=8
)


def encode(policy: AttributePolicy, **parts: Any) -> tuple[bytes, int]:
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    span = ReadableSpan(
        "name",
        context,
        **{"resource": Resource({}), "start_time": 1, "end_time": 2, **parts},
    )
    encoded, removed = SpanEncoder(policy).span(span)
    return build_request([encoded]), removed


@given(own=ATTRIBUTES, resource=ATTRIBUTES, event=ATTRIBUTES, link=ATTRIBUTES)
def test_only_listed_names_leave_and_every_other_is_counted(
    own: dict[str, Any], resource: dict[str, Any], event: dict[str, Any], link: dict[str, Any]
) -> None:
    target = SpanContext(3, 4, is_remote=True)
    payload, removed = encode(
        AttributePolicy(),
        attributes=own,
        resource=Resource(resource),
        events=(Event("e", event, timestamp=1),),
        links=(Link(target, link),),
    )
    (found,) = decode_request(payload)
    assert found.resource.pop(LIST_APPLIED[0]) == LIST_APPLIED[1]
    groups = [own, resource, event, link]
    left = [found.attributes, found.resource, found.events[0][1], found.links[0][2]]
    for given_, kept in zip(groups, left, strict=True):
        assert set(kept) == {name for name in given_ if name in DEFAULT_ATTRIBUTES}
    assert removed == sum(name not in DEFAULT_ATTRIBUTES for names in groups for name in names)
    for names in groups:
        for name in set(names) - DEFAULT_ATTRIBUTES:
            assert name.encode() not in payload
    if not any(SECRET in str(v) for names in left for v in names.values()):
        assert SECRET.encode() not in payload


def test_values_of_unknown_shape_are_removed_even_under_an_allowed_name() -> None:
    policy = AttributePolicy.with_extra(["a", "b", "c"])
    payload, removed = encode(policy, attributes={"a": b"raw", "b": {"user": "Jane"}, "c": 2**70})
    assert removed == 3
    assert decode_request(payload)[0].attributes == {}
    assert b"Jane" not in payload


def test_texts_of_exceptions_leave_only_when_allowed() -> None:
    status = Status(StatusCode.ERROR, "ValueError: Jane owes 5")
    event = Event(
        "exception",
        {"exception.type": "ValueError", "exception.message": "Jane owes 5"},
        timestamp=1,
    )
    payload, _ = encode(AttributePolicy(), status=status, events=(event,))
    assert b"Jane" not in payload
    assert decode_request(payload)[0].events == (("exception", {"exception.type": "ValueError"}),)
    payload, _ = encode(
        AttributePolicy.with_extra(["exception.message"]), status=status, events=(event,)
    )
    (found,) = decode_request(payload)
    assert found.status_message == "ValueError: Jane owes 5"
    assert found.events[0][1]["exception.message"] == "Jane owes 5"


@pytest.mark.parametrize(
    "name",
    [
        *("url.path", "url.full", "url.query", "http.target", "http.url"),
        *("client.address", "net.peer.ip", "user_agent.original", "enduser.id"),
        *("db.query.text", "db.statement", "exception.message", "exception.stacktrace"),
    ],
)
def test_names_whose_values_are_personal_are_not_on_the_list(name: str) -> None:
    assert name not in DEFAULT_ATTRIBUTES


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("url.full", "https://shop/a?token=1#top", "https://shop/a"),
        ("url.full", "https://jane:pw@shop/a", "https://shop/a"),
        ("url.path", "/users/jane@example.org/x", "/users/[e-mail]/x"),
        ("url.path", "/a#b", "/a"),
        ("url.query", "q=1", ""),
        ("http.target", "/a?b=1", "/a"),
        ("server.address", "shop.example.org", "shop.example.org"),
        ("http.route", "/orders/{order_id}", "/orders/{order_id}"),
        ("note", "see https://shop/a?q=jane now", "see https://shop/a now"),
        ("note", "Authorization: Bearer abc.def", "Authorization: [credential]"),
        ("note", "eyJhbGciOi.eyJzdWIi.c2ln is it", "[credential] is it"),
        ("note", "what? nothing", "what? nothing"),
        (
            "note",
            "from 203.0.113.9:443 to 2001:db8::7, at 10:15:30",
            "from [ip]:443 to [ip], at 10:15:30",
        ),
        (
            "note",
            "card 4111 1111 1111 1111, not 4111 1111 1111 1112",
            "card [card], not 4111 1111 1111 1112",
        ),
        ("note", "password=hunter2&x=1", "password=[credential]&x=1"),
        ("note", "key sk_live_4eC39HqLyjWDarjtT1zdp7dc", "key [credential]"),
        ("note", "3f786850e387550fdab836ed7e6dc881de23001b", "[token]"),
        (
            "note",
            "std::bad_alloc in v1.2.3, release 2024.10.1",
            "std::bad_alloc in v1.2.3, release 2024.10.1",
        ),
        (
            "http.route",
            "/v2/export_2024_10/{shipping_method_id}",
            "/v2/export_2024_10/{shipping_method_id}",
        ),
        ("service.version", "1.2.3.4", "1.2.3.4"),
        (
            "service.version",
            "3f786850e387550fdab836ed7e6dc881de23001b",
            "3f786850e387550fdab836ed7e6dc881de23001b",
        ),
        (
            "service.instance.id",
            "0d4bd2a7-6d0c-4f5f-8c1e-1f0a7b9c2d3e",
            "0d4bd2a7-6d0c-4f5f-8c1e-1f0a7b9c2d3e",
        ),
        ("server.address", "10.1.2.3", "10.1.2.3"),
        ("server.address", "8.8.8.8", "[ip]"),
    ],
)
def test_values_are_cleaned(name: str, value: str, left: str) -> None:
    assert AttributePolicy().clean(name, value) == left


@given(
    st.from_regex(r"[a-z0-9.+-]{1,12}@[a-z0-9-]{1,10}\.[a-z]{2,4}", fullmatch=True),
    st.text(alphabet="ab /:;,\n", max_size=10),
)
def test_an_address_is_found_wherever_it_stands(address: str, around: str) -> None:
    assert address not in clean_text(f"{around} {address} {around}")


@given(st.text(alphabet="a@.:/?eyJ ", max_size=60))
def test_cleaning_twice_changes_nothing_more(value: str) -> None:
    once = clean_text(value)
    assert clean_text(once) == once


def test_long_text_is_cut() -> None:
    assert len(AttributePolicy().clean("a", "x" * 10_000)) == MAX_VALUE_CHARACTERS
