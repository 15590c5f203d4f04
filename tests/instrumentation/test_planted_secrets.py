"""Ten thousand generated sets of attributes (four a span) with secrets in every place that takes a text: none is in what leaves the process."""

from __future__ import annotations

import random
from ipaddress import IPv6Address
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from mobius_instrumentation.allowlist import DEFAULT_ATTRIBUTES, AttributePolicy
from mobius_instrumentation.wire import SpanEncoder, build_request

# Names that a service allowed though they hold free text: the worst that a policy can be asked for.
FREE = ("url.full", "url.path", "exception.message", "shop.note", "http.request.header.referer")
IDENTIFIERS = {
    *("http.flavor", "mobius.test.run", "network.protocol.version", "service.instance.id"),
    *("service.version", "telemetry.sdk.version"),
}
LISTED = sorted(DEFAULT_ATTRIBUTES - IDENTIFIERS)
UNLISTED = ("client.address", "enduser.id", "user_agent.original", "db.query.text", "x.anything")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(rng: random.Random, number: int, alphabet: str = LETTERS) -> str:
    return "".join(rng.choices(alphabet, k=number))


def token(rng: random.Random) -> str:
    body = letters(rng, rng.randint(22, 60), LETTERS + LETTERS.upper() + "0123456789")
    return f"a7{body}"


def card(rng: random.Random) -> str:
    digits = [4, *(rng.randrange(10) for _ in range(14))]
    total = sum(d * 2 - 9 * (d > 4) if n % 2 == 0 else d for n, d in enumerate(digits[::-1]))
    text = "".join(map(str, digits)) + str(-total % 10)
    gap = rng.choice(("", " ", "-"))
    return gap.join(text[n : n + 4] for n in range(0, 16, 4))


def secret(rng: random.Random) -> tuple[str, str]:
    """A secret, and a text that holds it as users and programs write it."""
    kind = rng.randrange(8)
    if kind == 0:
        value = f"{letters(rng, 9)}.{letters(rng, 4)}@{letters(rng, 8)}.org"
        return value, rng.choice((value, f"mail to <{value}>", f"user={value}"))
    if kind == 1:
        value = letters(rng, 14)
        return value, f"https://shop.example/{letters(rng, 4)}?q={value}#{letters(rng, 3)}"
    if kind == 2:
        value = f"eyJ{letters(rng, 20)}.eyJ{letters(rng, 30)}.{letters(rng, 25)}"
        return value, rng.choice((value, f"Authorization: Bearer {value}"))
    if kind == 3:
        value = token(rng)
        return value, rng.choice((value, f"key {value} is wrong", f"/reset/{value}/now"))
    if kind == 4:
        value = card(rng)
        return value, rng.choice((value, f"charged {value}.", f"[{value}]"))
    if kind == 5:
        value = ".".join(str(rng.randrange(11, 256)) for _ in range(4))
        if value.startswith(("127.", "10.", "172.", "192.")):
            value = f"81{value[value.index('.') :]}"
        return value, rng.choice((value, f"peer {value}:443 gone", f"({value})"))
    if kind == 6:
        value = str(IPv6Address((0x2A << 120) | rng.getrandbits(112)))
        return value, rng.choice((value, f"peer [{value}]:443 gone", f"from {value}, again"))
    value = letters(rng, 12)
    return value, rng.choice((f"password={value}", f"api_key: {value}", f"https://jo:{value}@db/x"))


def attributes(
    rng: random.Random, planted: list[str], *, listed: tuple[str, ...]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(rng.randint(1, 4)):
        value, text = secret(rng)
        name = rng.choice(rng.choice((LISTED, listed, UNLISTED)))
        if rng.random() < 0.1:
            text = "x" * rng.randint(4_060, 4_100) + " " + text  # at the cut
        found[name] = rng.choice((text, text, [text, "plain"], {"inside": text}))
        planted.append(value)
    return found


@settings(max_examples=2_500, deadline=None)
@given(st.integers(0, 1 << 62))
def test_no_planted_secret_leaves_and_every_one_is_counted(seed: int) -> None:
    rng, planted = random.Random(seed), list[str]()
    free = FREE if rng.random() < 0.5 else ()
    name, description, state, event = (secret(rng) for _ in range(4))
    planted += [name[0], description[0], state[0], event[0]]
    context = SpanContext(
        rng.getrandbits(128) or 1,
        rng.getrandbits(64) or 1,
        is_remote=False,
        trace_flags=TraceFlags(1),
        trace_state=TraceState([("ot", f"th:8;x:{letters(rng, 12)}"), ("own", letters(rng, 12))]),
    )
    planted += [entry.rpartition(":")[2] for entry in context.trace_state.values()]
    listed = free or ("url.full",)
    span = ReadableSpan(
        f"GET {name[1]}",
        context,
        attributes=attributes(rng, planted, listed=listed),
        resource=Resource(attributes(rng, planted, listed=listed)),
        events=(Event(event[1], attributes(rng, planted, listed=listed), timestamp=1),),
        links=(Link(SpanContext(3, 4, is_remote=True), attributes(rng, planted, listed=listed)),),
        status=Status(StatusCode.ERROR, description[1]),
        start_time=1,
        end_time=2,
    )
    encoder = SpanEncoder(AttributePolicy.with_extra(free))
    encoded, removed = encoder.span(span)
    payload = build_request([encoded])
    leaked = [value for value in planted if value.encode() in payload]
    assert leaked == []
    assert b"th:8" in payload
    assert removed + encoder.redacted >= 2, "the names of span and event at least"
