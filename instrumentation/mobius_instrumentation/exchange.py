"""One request and its answer, from the arrival of the one to the last byte of the other."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.propagators import get_global_response_propagator
from opentelemetry.propagators.textmap import Setter
from opentelemetry.trace import Span, StatusCode

from mobius_instrumentation.headers import Found, proxy_wait_seconds
from mobius_instrumentation.http_attributes import HttpAttributes, route_of
from mobius_instrumentation.loop_monitor import GC, LoopMonitor
from mobius_instrumentation.request import Request
from mobius_instrumentation.subjects import SUBJECT

__all__ = ["Exchange"]

_log: Final = logging.getLogger("mobius_instrumentation")
_Message = MutableMapping[str, Any]

_BLOCKED_NS: Final = 100_000_000  # as asyncio's own slow_callback_duration
_LEAST_NS: Final = 1_000  # below a microsecond a duration is nothing
_NANO: Final = 1e-9


class _HeaderSetter(Setter[_Message]):
    def set(self, carrier: _Message, key: str, value: str) -> None:
        headers = list(carrier.get("headers") or ())
        headers.append((key.lower().encode("latin-1"), value.encode("latin-1")))
        carrier["headers"] = headers


class Exchange:
    """A traced request. Its span ends with the last byte of the answer.

    An answer with a status of 500 or more ends it later, with its application: the exception which explains it is
    raised only after the answer was sent.
    """

    __slots__ = (
        "_attributes",
        "_began",
        "_collected",
        "_ended_ns",
        "_error",
        "_finished",
        "_found",
        "_in_flight",
        "_late",
        "_monitor",
        "_root_path",
        "_scope",
        "_send",
        "_span",
        "_status",
        "_trailers",
        "context",
        "request",
    )

    def __init__(
        self,
        scope: _Message,
        send: Callable[[_Message], Awaitable[None]],
        *,
        span: Span,
        request: Request,
        attributes: HttpAttributes,
        monitor: LoopMonitor,
        context: Context,
        began: int,
        found: Found,
    ) -> None:
        self.context = context
        self.request = request
        self._scope = scope
        self._send = send
        self._span = span
        self._attributes = attributes
        self._monitor = monitor
        self._began = began
        self._found = found
        self._root_path = str(scope.get("root_path", ""))
        self._collected = GC.total_ns
        self._late = monitor.enter(began)
        self._in_flight = monitor.in_flight
        self._status: int | None = None
        self._trailers = False
        self._error: BaseException | None = None
        self._ended_ns = 0  # since the epoch; when the last byte was sent
        self._finished = False

    async def send(self, message: _Message) -> None:
        """Send a part of the answer."""
        kind = message["type"]
        if kind == "http.response.start":
            self._answered(message)
        elif kind == "websocket.accept":
            self._status = 101
        await self._send(message)
        if kind == "http.response.body":
            last = not message.get("more_body", False) and not self._trailers
        elif kind == "http.response.trailers":
            last = not message.get("more_trailers", False)
        else:
            last = kind == "http.response.pathsend"
        if last:
            self._ended_ns = time.time_ns()
            if self._status is None or self._status < 500:
                self.end()

    def _answered(self, message: _Message) -> None:
        self._status = message["status"]
        self._trailers = bool(message.get("trailers", False))
        try:
            captured = self._attributes.of_answer(message)
            if captured:
                self._span.set_attributes(captured)
            propagator = get_global_response_propagator()  # type: ignore[no-untyped-call]  # has no types
            if propagator:
                own = trace.set_span_in_context(self._span, Context())
                propagator.inject(message, context=own, setter=_HeaderSetter())
        except Exception:  # noqa: BLE001  # nothing in here may cost a request
            _log.exception("the headers of an answer cannot be read")

    def failed(self, error: BaseException) -> None:
        """Note what the application raised; the cancellation of a request that its client gave up, too."""
        self._error = error

    def end(self) -> None:
        """End the span, once."""
        if self._finished:
            return
        self._finished = True
        self._monitor.leave()
        span = self._span
        try:
            if span.is_recording():
                self._write(span)
        except Exception:  # noqa: BLE001  # as above
            _log.exception("a request's measures cannot be written")
        span.end(self._ended_ns or None)

    def _write(self, span: Span) -> None:
        attributes = self._measures()
        route = route_of(self._scope, self._root_path)
        if route:
            attributes["http.route"] = route
            method = self._scope.get("method")
            # The name so far is the method, HTTP for an unknown one.
            span.update_name(f"{getattr(span, 'name', method)} {route}" if method else route)
        error, status = self._error, self._status
        if isinstance(error, Exception):
            if status is None:
                status = 500  # what the server answers in the application's stead
            self._write_error(span, error, attributes)
        elif status is not None and status >= 500:
            attributes["error.type"] = str(status)
            span.set_status(StatusCode.ERROR)
        if status is not None:
            attributes["http.response.status_code"] = status
        span.set_attributes(attributes)

    def _measures(self) -> dict[str, Any]:
        now, request = time.monotonic_ns(), self.request
        step = now - request.step_at if request.step_at else 0
        held, blocked = request.held_ns + step, max(request.blocked_ns, step)
        collected = GC.total_ns - self._collected
        late = self._monitor.late_ns(now) - self._late - held - collected
        measures: dict[str, Any] = {"mobius.requests.in_flight": self._in_flight}
        if request.handler_at:
            measures["mobius.queue.duration"] = (request.handler_at - self._began) * _NANO
        if request.thread_wait_ns >= _LEAST_NS:
            measures["mobius.queue.thread.duration"] = request.thread_wait_ns * _NANO
        proxy = proxy_wait_seconds(self._found, now - self._began)
        if proxy is not None:
            measures["mobius.queue.proxy.duration"] = proxy
        measures["mobius.loop.held.duration"] = held * _NANO
        if late >= _LEAST_NS:
            measures["mobius.loop.lag.duration"] = late * _NANO
        if collected >= _LEAST_NS:
            measures["mobius.loop.gc.duration"] = collected * _NANO
        if blocked >= _BLOCKED_NS:
            measures["mobius.loop.blocked.duration"] = blocked * _NANO
            if request.stack:
                measures["mobius.loop.blocked.stack"] = request.stack
        if request.connection_wait_ns >= _LEAST_NS:
            measures["mobius.client.connection.duration"] = request.connection_wait_ns * _NANO
        if request.calls is not None:
            measures.update(request.client_measures())
        if request.subject:
            measures[SUBJECT] = request.subject
        return measures

    def _write_error(self, span: Span, error: Exception, attributes: dict[str, Any]) -> None:
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        name = f"{module}{kind.__qualname__}"
        event = {"exception.type": name, "exception.escaped": "True"}
        keeps = self._attributes
        if keeps.keeps_messages:
            event["exception.message"] = str(error)
        if keeps.keeps_stack_traces:
            event["exception.stacktrace"] = "".join(traceback.format_exception(error))
        span.add_event("exception", event)
        description = f"{name}: {error}" if keeps.keeps_messages else name
        span.set_status(StatusCode.ERROR, description)
        attributes["error.type"] = name
