"""OpenTelemetry spans of a test as its results: OTLP as JSON lines or protobuf, one span a request.

The test's own client spans are taken: those that say so (``user_agent.synthetic.type = "test"`` or ``mobius.test.run``, on
the span or its resource), or those of the service that ``--generator`` names. Calls that a service makes while it
serves others are the service's own, whatever they are marked with. A file without client spans of a test gives its
marked server spans: what the service saw of the test.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import (
    Facts,
    Format,
    Request,
    checked,
    label,
    milliseconds,
)
from mobius_pipeline.imports.formats.texts import without_urls
from mobius_pipeline.imports.span_files import read_resource_spans

__all__ = ["OTLP_SPANS", "is_otlp_spans"]

_JSON: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(resourceSpans|resource_spans)"\s*:')
# One ExportTraceServiceRequest, or its first ResourceSpans after the length of the message.
_PROTOBUF: Final = re.compile(
    rb"(?:[\x80-\xff]{0,4}[\x01-\x7f])?\x0a[\x80-\xff]{0,4}[\x01-\x7f]\x0a", re.DOTALL
)
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_SYNTHETIC_TYPE: Final = "user_agent.synthetic.type"
_TEST_RUN: Final = "mobius.test.run"
_MOST_SERVICES: Final = 10_000
_KEYS: Final = frozenset(
    {
        _SYNTHETIC_TYPE, _TEST_RUN, "service.name", "service.version", "http.request.method", "http.method",
        "http.response.status_code", "http.status_code", "http.route", "url.template", "url.full", "http.url",
        "url.path", "http.target", "rpc.system", "rpc.service", "rpc.method", "error.type", "exception.message",
    }
)  # fmt: skip
_UNMARKED: Final = (
    "holds no span that is a request of a test: none is marked (user_agent.synthetic.type = test, or mobius.test.run). "
    "Say which service sent the test's requests (--generator NAME), or use `mobius-rum import spans` for spans of services"
)


def is_otlp_spans(head: bytes) -> bool:
    """Tell whether a file begins like OTLP spans."""
    if _JSON.match(head):
        return True
    return _PROTOBUF.match(head) is not None and _BINARY.search(head, 0, 256) is not None


@dataclass(slots=True)
class _Survey:
    """What a file holds, looked through before any of it is taken."""

    serving: set[str] = field(default_factory=set)
    clients: Counter[str] = field(default_factory=Counter)
    marked_clients: Counter[str] = field(default_factory=Counter)
    marked_servers: int = 0

    def take(self, service: str, span: Span, *, marked: bool) -> None:
        """Count one span of ``service``."""
        if span.kind == Span.SPAN_KIND_SERVER:
            self.serving.add(service)
            self.marked_servers += marked
        elif span.kind == Span.SPAN_KIND_CLIENT:
            self.clients[service] += 1
            self.marked_clients[service] += marked


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which spans are the requests: those of ``kind``, and of ``generators`` where clients are."""

    kind: int
    generators: frozenset[str]
    need_mark: bool

    def takes(self, service: str, span: Span, *, marked: bool) -> bool:
        """Whether a span is a request of the test."""
        if span.kind != self.kind or (self.need_mark and not marked):
            return False
        return self.kind == Span.SPAN_KIND_SERVER or service in self.generators


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    choice = _choice(content, facts.given.generator)
    facts.vantage = "client" if choice.kind == Span.SPAN_KIND_CLIENT else "server"
    runs: set[str] = set()
    passed = 0
    for place, item in read_resource_spans(content):
        resource = _values(item.resource.attributes)
        service = resource.get("service.name", "")
        for span in _spans(item):
            values = _values(span.attributes)
            if not choice.takes(service, span, marked=_marked(resource, values)):
                passed += 1
                continue
            runs.add(values.get(_TEST_RUN) or resource.get(_TEST_RUN, ""))
            if facts.vantage == "server" and (version := resource.get("service.version")):
                facts.releases.add(version[:200])
            try:
                yield _request(span, values)
            except (ValueError, OverflowError) as error:
                raise place.wrong(f"holds a span that is no request ({error})") from error
    _note_run(content, facts, runs - {""})
    if passed:
        facts.warnings.append(
            f"{passed:,} spans are no requests of the test and were left out: `mobius-rum import spans` takes those of services"
        )


def _note_run(content: Content, facts: Facts, runs: set[str]) -> None:
    if len(runs) > 1:
        raise content.wrong(
            f"holds spans of {len(runs):,} runs ({', '.join(sorted(runs)[:3])}, ...): give one run a file"
        )
    try:
        facts.run = label(next(iter(runs), None), _TEST_RUN)
    except ValueError as error:
        raise content.wrong(str(error)) from error


def _choice(content: Content, generator: str | None) -> _Choice:
    """Look through the file for whose spans the test's requests are."""
    survey = _Survey()
    with Content.open(content.source) as first:
        for _, item in read_resource_spans(first):
            resource = _values(item.resource.attributes)
            service = resource.get("service.name", "")
            for span in _spans(item):
                survey.take(service, span, marked=_marked(resource, _values(span.attributes)))
            if len(survey.clients) + len(survey.serving) > _MOST_SERVICES:
                raise content.wrong(f"holds spans of over {_MOST_SERVICES:,} services")
    if generator is not None:
        if generator not in survey.clients:
            known = ", ".join(sorted(survey.clients)[:20]) or "none"
            problem = (
                f"has no client spans of {generator!r}; those of these services it has: {known}"
            )
            wrong = content.wrong(problem)
            raise type(wrong)(wrong.problem, file=wrong.file, field="--generator")
        return _Choice(Span.SPAN_KIND_CLIENT, frozenset({generator}), need_mark=False)
    generators = frozenset(+survey.marked_clients) - survey.serving
    if generators:
        return _Choice(Span.SPAN_KIND_CLIENT, generators, need_mark=True)
    if survey.marked_servers:
        return _Choice(Span.SPAN_KIND_SERVER, frozenset(), need_mark=True)
    raise content.wrong(_UNMARKED)


def _spans(item: ResourceSpans) -> Iterator[Span]:
    for scope in item.scope_spans:
        yield from scope.spans


def _values(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Read the attributes that say anything here, as text."""
    found: dict[str, str] = {}
    for pair in attributes:
        if pair.key in _KEYS:
            value = pair.value
            text = value.string_value or (str(value.int_value) if value.int_value else "")
            found.setdefault(pair.key, text)
    return found


def _marked(resource: dict[str, str], values: dict[str, str]) -> bool:
    return any(
        each.get(_SYNTHETIC_TYPE) == "test" or bool(each.get(_TEST_RUN))
        for each in (resource, values)
    )


# ---------------------------------------------------------------------------- one span


def _request(span: Span, values: dict[str, str]) -> Request:
    if span.end_time_unix_nano < span.start_time_unix_nano:
        raise ValueError("it ends before it starts")
    trace_id = span.trace_id.hex()
    if len(trace_id) != 32 or not trace_id.strip("0"):
        raise ValueError(f"its trace id has {len(span.trace_id)} bytes, or is nothing but zeros")
    status = _status(values)
    broken = span.status.code == Status.STATUS_CODE_ERROR
    # Of other protocols than HTTP an error may well be an answer, but it is none whose latency is compared.
    answered = bool(status) or not broken
    start_us = span.start_time_unix_nano // 1000
    return checked(
        Request(
            start_us=start_us,
            end_us=span.end_time_unix_nano // 1000,
            duration_ms=milliseconds(
                (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6, "duration"
            )
            if answered
            else None,
            method=values.get("http.request.method")
            or values.get("http.method")
            or values.get("rpc.system", ""),
            name=_name(span, values),
            status=status,
            failed=_failed(span, status, broken=broken),
            error=without_urls(_error(span, values)) if broken or status >= 400 else "",
            trace_id=trace_id,
        )
    )


def _status(values: dict[str, str]) -> int:
    text = values.get("http.response.status_code") or values.get("http.status_code") or "0"
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"its HTTP status is {text[:40]!r}")
    return int(text)


def _failed(span: Span, status: int, *, broken: bool) -> bool:
    """What the span says; where it says nothing, a client's 4xx is a failure, a server's is not (semantic conventions)."""
    if broken or span.status.code == Status.STATUS_CODE_OK:
        return broken
    least = 500 if span.kind == Span.SPAN_KIND_SERVER else 400
    return status >= least


def _name(span: Span, values: dict[str, str]) -> str:
    if values.get("rpc.service") and values.get("rpc.method"):
        return f"{values['rpc.service']}/{values['rpc.method']}"
    keys = ("http.route", "url.template", "url.full", "http.url", "url.path", "http.target")
    return next((values[key] for key in keys if values.get(key)), span.name)


def _error(span: Span, values: dict[str, str]) -> str:
    return span.status.message or values.get("error.type", "")


OTLP_SPANS: Final = Format("otlp-spans", "opentelemetry", _read, frozenset({"generator"}))
