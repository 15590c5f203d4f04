from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from mobius_instrumentation.marker import sign
from mobius_instrumentation.synthetic import SyntheticTraffic, type_of_user_agent

KEY = "secret"
NOW = 1_800_000_000.0
TYPE, RUN = "user_agent.synthetic.type", "mobius.test.run"


def mark(traffic: SyntheticTraffic, **headers: str) -> dict[str, Any]:
    """Attributes that a request with these headers gets."""
    span: Any = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    scope = {
        "type": "http",
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
    }
    token = context.attach(context.Context())
    try:
        traffic.on_request(span, scope)
    finally:
        context.detach(token)
    return dict(span.attributes)


def traffic(key: str | None = KEY) -> SyntheticTraffic:
    return SyntheticTraffic(key, now=lambda: NOW)


def signed(key: str = KEY, expires: float = NOW + 60) -> str:
    return f"a=1,mobius-synthetic={sign('run-7', 'checkout', key=key, expires=expires)}"


def test_a_valid_marker_names_the_run() -> None:
    seen = traffic()
    for _ in range(2):
        assert mark(seen, baggage=signed()) == {TYPE: "test", RUN: "run-7"}
    assert seen.rejected == 0


@pytest.mark.parametrize(
    "header",
    [
        signed(key="guessed"),
        signed(expires=NOW - 1),
        "mobius-synthetic=",
        "mobius-synthetic=v1.run-7",
    ],
)
def test_a_wrong_or_expired_marker_is_counted_and_ignored(header: str) -> None:
    seen = traffic()
    assert mark(seen, baggage=header) == {}
    assert seen.rejected == 1


def test_a_marker_expires_also_after_it_was_accepted() -> None:
    now = NOW
    seen = SyntheticTraffic(KEY, now=lambda: now)
    assert RUN in mark(seen, baggage=signed())
    now = NOW + 61
    assert mark(seen, baggage=signed()) == {}
    assert seen.rejected == 1


def test_without_a_key_every_marker_is_rejected() -> None:
    seen = traffic(key=None)
    assert mark(seen, baggage=signed()) == {}
    assert seen.rejected == 1


def test_a_wrong_marker_of_a_known_tool_is_still_suspected() -> None:
    seen = traffic()
    assert mark(seen, baggage=signed(key="x"), user_agent="k6/1.4.0 (https://k6.io/)") == {
        TYPE: "test"
    }
    assert seen.rejected == 1


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        ("k6/0.49.0 (https://k6.io/)", "test"),
        ("python/gevent-http-client-2.6.1", "test"),
        ("Locust/2.47", "test"),
        ("Apache JMeter 5.6", "test"),
        ("Mozilla/5.0 (X11) Chrome/117 Safari Datadog/Synthetics", "test"),
        ("Mozilla/5.0 (X11) Chrome/117 Elastic/Synthetics", "test"),
        ("Mozilla/5.0 (X11; Linux) HeadlessChrome/120.0", "test"),
        ("Checkly/1.0 (https://www.checklyhq.com)", "test"),
        ("kube-probe/1.30", "test"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131 Safari/537.36",
            None,
        ),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1", None),
        ("python-requests/2.32", None),
        ("okhttp/4.12", None),
        ("monkey6/1", None),
        ("", None),
    ],
)
def test_user_agents(agent: str, kind: str | None) -> None:
    assert type_of_user_agent(agent) == kind
    assert mark(traffic(), user_agent=agent) == ({} if kind is None else {TYPE: kind})


@pytest.mark.parametrize(
    ("headers", "suspected"),
    [
        ({"x_dynatrace_test": "LSN=a;TSN=b"}, True),
        ({"tracestate": "checkly=true"}, True),
        ({"tracestate": "a=b,checkly=true"}, True),
        ({"baggage": "synthetic_request=true"}, True),
        ({"baggage": "synthetic_request=false"}, False),
        ({"tracestate": "es=s:1"}, False),
        ({"tracestate": "notcheckly=true"}, False),
        ({}, False),
    ],
)
def test_other_signs_of_tools(headers: dict[str, str], suspected: bool) -> None:
    assert mark(traffic(), **headers) == ({TYPE: "test"} if suspected else {})


def test_suspected_traffic_stays_suspected_in_the_services_behind() -> None:
    span: Any = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    token = context.attach(context.Context())
    try:
        traffic().on_request(span, {"headers": [(b"user-agent", b"k6/1.0")]})
        assert baggage.get_baggage("synthetic_request") == "true"
    finally:
        context.detach(token)


def test_requests_that_leave_no_span_are_counted() -> None:
    seen = traffic()
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("t")
    seen.on_request(tracer.start_span("s"), {"headers": []})
    assert seen.unsampled == 1
