"""Spans of the SDK's kind that cost a third: recording, propagation, limits and processors are the same.

The SDK's own span makes a bounded mapping, two bounded lists and a lock when it starts, takes the lock for each
attribute, and copies itself when it ends. Nearly all spans have few plain attributes and no events. ``LightSpan``
is an ``opentelemetry.sdk.trace.Span`` which keeps a dictionary, makes the rest when it is used, and hands itself to
the processors. Where an SDK of another make would not bear it, its own spans are used: see :func:`bears`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes, AttributeValue

from mobius_instrumentation.query_summary import query_summary
from mobius_instrumentation.request import Request

__all__ = ["LightSpan", "LightTracer", "LightTracerProvider", "bears"]

_log: Final = logging.getLogger("mobius_instrumentation")
_PLAIN: Final = frozenset({str, int, float, bool})
_UNSET: Final = Status(StatusCode.UNSET)
# Both flags as the SDK sets them: sampled, and that the trace id is random (W3C trace context, level 2).
_FLAGS: Final = tuple(TraceFlags(bits) for bits in range(4))
_SAMPLED: Final = 1
_RANDOM: Final = 2


class LightSpan(sdk.Span):
    """A recording span. Made by :class:`LightTracer` only.

    Attributes
    ----------
    request
        The request that it belongs to, or None outside of requests.
    parent_span
        The local span that it was started in, if that is one of ours.
    """

    request: Request | None
    parent_span: LightSpan | None

    def __init__(
        self,
        tracer: LightTracer,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        *,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> None:
        # Not the base's: that is what costs. These are all the fields which its methods read.
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._resource = tracer.resource
        self._instrumentation_info = tracer.instrumentation_info
        self._instrumentation_scope = tracer._instrumentation_scope  # noqa: SLF001  # has no public name
        self._span_processor = tracer.span_processor
        self._limits = tracer._span_limits  # noqa: SLF001  # has no public name
        self._sampler = tracer.sampler
        self._record_exception = record_exception
        self._set_status_on_exception = set_status_on_exception
        self._lock = threading.Lock()
        self._attributes: dict[str, Any] = {}  # the base has a bounded mapping
        self._events: Sequence[Any] = ()  # a list once there is one
        self._links: Sequence[Any] = ()  # as events
        self._status = _UNSET
        self._start_time: int | None = None
        self._end_time: int | None = None
        self._dropped = 0
        self.request = None
        self.parent_span = None

    @property
    def attributes(self) -> Attributes:
        """The attributes, read only."""
        return MappingProxyType(self._attributes)

    @property
    def dropped_attributes(self) -> int:
        """Attributes beyond the limit."""
        return self._dropped

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one attribute; see the base."""
        if self._end_time is not None:
            _log.warning("Setting attribute on ended span.")
            return
        self._set(key, value)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set several attributes; see the base."""
        if self._end_time is not None:
            _log.warning("Setting attribute on ended span.")
            return
        limits, own = self._limits, self._attributes
        most = limits.max_span_attributes
        roomy = most is None or len(own) + len(attributes) <= most
        if roomy and limits.max_span_attribute_length is None:
            for key, value in attributes.items():
                if type(value) in _PLAIN and type(key) is str and key and key not in own:
                    own[key] = value
                else:
                    self._set(key, value)
            return
        for key, value in attributes.items():
            self._set(key, value)

    def _set(self, key: str, value: Any) -> None:
        limits, own = self._limits, self._attributes
        longest, most = limits.max_span_attribute_length, limits.max_span_attributes
        if most == 0:
            self._dropped += 1
            return
        if type(value) not in _PLAIN or longest is not None or not key or type(key) is not str:
            # The API's own cleaning: lists become tuples, too long texts are cut, what is impossible goes.
            cleaned = BoundedAttributes(None, {key: value}, max_value_len=longest)
            if key not in cleaned:
                self._dropped += 1
                return
            value = cleaned[key]
        if key in own:
            del own[key]  # the newest is last, as in the SDK: the oldest goes first
        elif most is not None and len(own) >= most:
            self._dropped += 1
            del own[next(iter(own))]
        own[key] = value

    def _add_event(self, event: Any) -> None:
        if type(self._events) is tuple:
            self._events = BoundedList(self._limits.max_events)
        super()._add_event(event)

    def _add_link(self, link: Link) -> None:
        if type(self._links) is tuple:
            self._links = BoundedList(self._limits.max_links)
        super()._add_link(link)

    def start(self, start_time: int | None = None, parent_context: Context | None = None) -> None:
        """Begin; see the base."""
        self._start_time = time.time_ns() if start_time is None else start_time
        self._span_processor.on_start(self, parent_context=parent_context)

    def end(self, end_time: int | None = None) -> None:
        """End, and hand the span to the processors; see the base."""
        if self._end_time is not None:
            _log.warning("Calling end() on an ended span.")
            return
        ended = time.time_ns() if end_time is None else end_time
        if self._kind is SpanKind.CLIENT:
            self._called(ended)
        self._span_processor._on_ending(self)  # noqa: SLF001  # the SDK's own protocol between span and processor
        self._end_time = ended
        self._span_processor.on_end(self)

    def _called(self, ended: int) -> None:
        """Tell the request of a call, and the span what its statement does."""
        own, request, outer = self._attributes, self.request, self.parent_span
        statement = own.get("db.query.text") or own.get("db.statement")
        if type(statement) is str and "db.query.summary" not in own:
            summary = query_summary(statement)
            if summary is not None:
                own["db.query.summary"] = summary
        if request is not None and self._start_time is not None:
            # Getting a connection takes time, but asks the database nothing.
            nested = self._name == "connect" or (
                outer is not None and outer.kind is SpanKind.CLIENT
            )
            request.called(own, self._start_time, ended, nested=nested)


class LightTracer(sdk.Tracer):
    """The SDK's tracer with light spans. Every other method and field is the SDK's."""

    def start_span(  # noqa: PLR0917  # the base's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002  # the API's signature
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002  # the API's signature
    ) -> trace.Span:
        """Start a span; see the base."""
        outer = trace.get_current_span(context)
        parent: SpanContext | None = outer.get_span_context()
        if not self._is_enabled():
            return trace.NonRecordingSpan(parent or trace.INVALID_SPAN_CONTEXT)
        ids = self.id_generator
        if parent is None or not parent.is_valid:
            parent = None
            trace_id = ids.generate_trace_id()
            random = _RANDOM if ids.is_trace_id_random() else 0
        else:
            trace_id = parent.trace_id
            random = parent.trace_flags & _RANDOM
        result = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
        decision = result.decision
        own = SpanContext(
            trace_id,
            ids.generate_span_id(),
            is_remote=False,
            trace_flags=_FLAGS[
                random | (_SAMPLED if decision is Decision.RECORD_AND_SAMPLE else 0)
            ],
            trace_state=result.trace_state,
        )
        if decision is Decision.DROP:
            return trace.NonRecordingSpan(own)
        span = LightSpan(
            self,
            name,
            own,
            parent,
            kind,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        )
        if result.attributes:
            span.set_attributes(result.attributes)
        for link in links or ():
            span.add_link(link.context, link.attributes)
        if type(outer) is LightSpan:
            span.parent_span = outer
            span.request = outer.request
        span.start(start_time, context)
        return span


class LightTracerProvider(sdk.TracerProvider):
    """The SDK's provider whose tracers make light spans, where the SDK bears them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._light = bears()

    def get_tracer(self, *arguments: Any, **options: Any) -> trace.Tracer:
        """Return a tracer; see the base."""
        tracer = super().get_tracer(*arguments, **options)
        if self._light and type(tracer) is sdk.Tracer:
            # The same object, so that whatever the SDK keeps up to date in it (its resource after a fork) stays so.
            tracer.__class__ = LightTracer
        return tracer


def bears() -> bool:
    """Whether this SDK bears light spans: one is made, used in every way, and read back.

    They use fields of the SDK's span that have no public name. A release that renamed them makes requests cost more,
    and a warning says so; no span is lost.
    """
    try:
        provider = sdk.TracerProvider(
            resource=Resource({}), shutdown_on_exit=False, sampler=sdk.sampling.ALWAYS_ON
        )
        tracer = provider.get_tracer("mobius")
        if type(tracer) is not sdk.Tracer:
            return False
        tracer.__class__ = LightTracer
        with tracer.start_as_current_span("outer"), tracer.start_as_current_span("probe") as span:
            span.set_attribute("a", 1)
            span.add_event("e", {"b": "c"})
            span.record_exception(ValueError("v"))
            span.add_link(SpanContext(1, 1, is_remote=False))
            span.set_status(StatusCode.ERROR, "d")
            span.update_name("named")
        read = span if isinstance(span, LightSpan) else None
        good = (
            read is not None
            and (read.name, dict(read.attributes or {}), len(read.events), len(read.links))
            == ("named", {"a": 1}, 2, 1)
            and read.status.status_code is StatusCode.ERROR
            and read.parent is not None
            and bool(read.to_json())
        )
    except Exception:  # noqa: BLE001  # whatever another SDK makes of it: its own spans work
        good = False
    if not good:
        _log.warning(
            "this OpenTelemetry SDK is not known: requests are traced with its slower spans"
        )
    return good
