"""Recognises synthetic traffic on the server's side.

A request with a valid signed marker belongs to a test run: its server span gets
``user_agent.synthetic.type = "test"`` and ``mobius.test.run``. A wrong or expired marker is counted and
ignored. Traffic that merely looks like a tool gets ``user_agent.synthetic.type`` alone: it is shown
apart as suspected, and the baggage entry ``synthetic_request=true`` tells services behind this one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry import baggage, context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace import Span

from mobius_instrumentation.marker import BAGGAGE_KEY, Marker, verify

__all__ = ["SYNTHETIC_TYPE", "TEST_RUN", "SyntheticTraffic", "type_of_user_agent"]

SYNTHETIC_TYPE: Final = "user_agent.synthetic.type"
TEST_RUN: Final = "mobius.test.run"
_SUSPECTED_KEY: Final = "synthetic_request"  # as the OpenTelemetry demo's load generator says it

_TESTS: Final = re.compile(
    r"\bk6/|grafana-k6|grafana-synthetic|\blocust|gevent-http-client|jmeter|gatling|artillery"
    r"|checkly|datadog/?synthetics|datadogsynthetics|elastic/synthetics|dynatracesynthetic|ruxitsynthetic"
    r"|newrelic(?:pinger|synthetics)|cloudwatchsynthetics|pingdom|uptimerobot|statuscake|site24x7"
    r"|blackbox exporter|apachebench|\bab/\d|\bhey/\d|\boha/\d|autocannon|\bsiege/|vegeta|tsung"
    r"|kube-probe|elb-healthchecker|googlehc|headlesschrome|alwayson",
    re.IGNORECASE,
)
_BOTS: Final = re.compile(r"bot\b|crawler|spider|slurp", re.IGNORECASE)
# Elastic's agents write "es=s:<rate>" for users' traffic too, so that entry says nothing.
_TRACE_STATE: Final = re.compile(r"(?:^|,)\s*checkly=true", re.IGNORECASE)


@lru_cache(maxsize=1024)
def type_of_user_agent(user_agent: str) -> str | None:
    """Return "test" or "bot" for the user agent of a known tool, None for anything else."""
    if _TESTS.search(user_agent):
        return "test"
    return "bot" if _BOTS.search(user_agent) else None


class SyntheticTraffic:
    """Marks server spans; counts what it rejects.

    Parameters
    ----------
    key
        The shared secret of the signed markers; without one every marker is rejected.
    now
        Seconds since the epoch.
    """

    def __init__(self, key: str | None, now: Callable[[], float] = time.time) -> None:
        self._key = key or ""
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, Marker] = {}
        self.rejected = 0
        self.unsampled = 0

    def on_request(self, span: Span, scope: MutableMapping[str, Any]) -> None:
        """Mark ``span`` by the headers of ``scope``: a ``server_request_hook`` of OpenTelemetry's middleware."""
        found: dict[bytes, bytes] = {}
        for name, value in scope.get("headers") or ():
            found[name] = found[name] + b"," + value if name in found else value
        now = context.get_current()
        marked = self.mark(span, now, found)
        if marked is not now:
            # Not detached: the middleware restores the context that it began with after the request.
            context.attach(marked)

    def mark(
        self, span: Span, current: context.Context, found: Mapping[bytes, bytes]
    ) -> context.Context:
        """Mark ``span`` by the headers ``found``; return ``current``, or what services behind are to be told in.

        Never raises for what a client sent.
        """
        if not span.is_recording():
            with self._lock:
                self.unsampled += 1
            return current
        header = found.get(b"baggage")
        entries = _baggage(header, current) if header else {}
        token = entries.get(BAGGAGE_KEY)
        if token is not None and self._marked(span, str(token)):
            return current
        agent = found.get(b"user-agent")
        state = found.get(b"tracestate")
        kind = type_of_user_agent(agent.decode("latin-1")) if agent else None
        if kind is None and (
            b"x-dynatrace-test" in found
            or entries.get(_SUSPECTED_KEY) == "true"
            or (state and _TRACE_STATE.search(state.decode("latin-1")))
        ):
            kind = "test"
        if kind is None:
            return current
        span.set_attribute(SYNTHETIC_TYPE, kind)
        return baggage.set_baggage(_SUSPECTED_KEY, "true", current)

    def _marked(self, span: Span, token: str) -> bool:
        marker = self._verify(token)
        if marker is None:
            with self._lock:
                self.rejected += 1
            return False
        span.set_attribute(SYNTHETIC_TYPE, "test")
        span.set_attribute(TEST_RUN, marker.run)
        return True

    def _verify(self, token: str) -> Marker | None:
        now = self._now()
        known = self._known.get(token)  # a run sends one token with each request
        if known is not None and known.expires >= now:
            return known
        marker = verify(token, key=self._key, now=now)
        if marker is not None:
            if len(self._known) >= 64:
                self._known.clear()
            self._known[token] = marker
        return marker


def _baggage(header: bytes, current: context.Context | None = None) -> Mapping[str, object]:
    """Entries of the request's baggage, also where OTEL_PROPAGATORS leaves baggage out."""
    entries = baggage.get_all(current)
    if not entries:
        carrier = {"baggage": header.decode("latin-1")}
        entries = baggage.get_all(W3CBaggagePropagator().extract(carrier, context.Context()))
    return entries
