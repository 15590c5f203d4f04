"""ASGI middleware: one server span a request, with what its latency was made of.

In place of OpenTelemetry's own, which matches the route a second time, fills several dictionaries of attributes for
metrics that nobody reads, and looks through all headers for each one that it needs. The spans are the SDK's, the
context is OpenTelemetry's, so that every other instrumentation nests inside.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.trace import SpanKind
from opentelemetry.util.http import ExcludeList, get_excluded_urls

from mobius_instrumentation.exchange import Exchange
from mobius_instrumentation.headers import HeaderReader
from mobius_instrumentation.http_attributes import HttpAttributes
from mobius_instrumentation.request import CURRENT, Request
from mobius_instrumentation.spans import LightSpan
from mobius_instrumentation.stepping import measured

if TYPE_CHECKING:
    from mobius_instrumentation.loop_monitor import LoopMonitor
    from mobius_instrumentation.runtime import RuntimeReporter
    from mobius_instrumentation.synthetic import SyntheticTraffic

__all__ = ["RequestTracing"]

_log: Final = logging.getLogger("mobius_instrumentation")
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Any]

_TRACED: Final = "mobius_instrumentation.traced"  # in a scope, which mounts copy
_EXCLUDED: Final = ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")


class RequestTracing:
    """Traces the requests of ``app``, which is the whole stack of a FastAPI or Starlette application.

    Parameters
    ----------
    tracer
        Makes the spans.
    synthetic
        Marks those of synthetic traffic.
    monitor
        Counts requests in flight and knows how late the loop is.
    allowed
        The allow-list: attributes that are not on it are not even looked up.
    runtime
        Tells how the process fares.
    """

    def __init__(
        self,
        app: _App,
        *,
        tracer: trace.Tracer,
        synthetic: SyntheticTraffic,
        monitor: LoopMonitor,
        allowed: frozenset[str],
        runtime: RuntimeReporter | None = None,
    ) -> None:
        self.app = app
        self._tracer = tracer
        self._synthetic = synthetic
        self._monitor = monitor
        self._runtime = runtime
        self._attributes = HttpAttributes(allowed)
        self._headers = HeaderReader()
        self._excluded: ExcludeList | None = None
        if any(os.environ.get(name) for name in _EXCLUDED):
            self._excluded = get_excluded_urls("FASTAPI")

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve one connection."""
        exchange = None
        if scope["type"] in ("http", "websocket"):
            try:
                exchange = self._begin(scope, send)
            except Exception:  # noqa: BLE001  # nothing in here may cost a request: it is served untraced
                _log.exception("a request cannot be traced")
        if exchange is None:
            await self.app(scope, receive, send)
            return
        token = otel.attach(exchange.context)
        current = CURRENT.set(exchange.request)
        try:
            await measured(self.app(scope, receive, exchange.send), exchange.request)
        except BaseException as error:
            exchange.failed(error)
            raise
        finally:
            CURRENT.reset(current)
            otel.detach(token)
            exchange.end()

    def _begin(self, scope: _Message, send: _Send) -> Exchange | None:
        if _TRACED in scope:
            return None  # an application that is mounted in a traced one
        scope[_TRACED] = True
        if self._excluded is not None and self._excluded.url_disabled(_url(scope)):
            return None
        began, began_at = time.monotonic_ns(), time.time_ns()
        if self._runtime is not None and not self._runtime.started():
            self._runtime.start()
        parent = otel.get_current()
        kind = SpanKind.SERVER
        if parent:  # called in-process: usually there is nothing
            if not is_http_instrumentation_enabled():
                return None
            if trace.get_current_span(parent).get_span_context().is_valid:
                kind = SpanKind.INTERNAL
        found = self._headers.read(scope.get("headers") or ())
        if kind is SpanKind.SERVER:
            parent = self._headers.extract(found, parent)
        # FastAPI's own tracing would make a second span for a mounted application.
        scope.setdefault("fastapi.telemetry", None)
        method = self._attributes.method(scope)
        name = "HTTP" if method == "_OTHER" else method or "WS"
        attributes = self._attributes.of_request(scope, method, found)
        span = self._tracer.start_span(name, parent, kind, attributes, None, began_at)
        request = Request()
        if isinstance(span, LightSpan):
            span.request = request
            span.parent_span = None
        context = trace.set_span_in_context(span, parent)
        context = self._synthetic.mark(span, context, found)
        return Exchange(
            scope,
            send,
            span=span,
            request=request,
            attributes=self._attributes,
            monitor=self._monitor,
            context=context,
            began=began,
            found=found,
        )


def _url(scope: _Message) -> str:
    """Return what ``OTEL_PYTHON_FASTAPI_EXCLUDED_URLS`` is searched in: the address without its query."""
    host, port = scope.get("server") or ("0.0.0.0", 80)  # noqa: S104  # as OpenTelemetry writes an unknown one
    return f"{scope.get('scheme', 'http')}://{host}:{port}{scope.get('path', '')}"
