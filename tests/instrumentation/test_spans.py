"""Light spans behave as the SDK's: the same calls on both, the same result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from mobius_instrumentation.measures import REQUEST_MEASURES, RUNTIME_MEASURES, measures_table
from mobius_instrumentation.spans import LightSpan, LightTracer, LightTracerProvider, bears

DOCS = Path(__file__).parents[2] / "docs" / "instrumentation.md"

LINK = SpanContext(5, 6, is_remote=True)
values = st.one_of(
    st.text(max_size=12),
    st.integers(),
    st.booleans(),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=3), max_size=3),
    st.lists(st.integers(), max_size=3),
    st.none(),
    st.just(object()),
)
attributes = st.dictionaries(st.text(max_size=6), values, max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set_attribute"), st.text(max_size=6), values),
        st.tuples(st.just("set_attributes"), attributes),
        st.tuples(st.just("add_event"), st.text(max_size=6), attributes),
        st.tuples(st.just("update_name"), st.text(max_size=6)),
        st.tuples(st.just("add_link"), st.just(LINK), attributes),
        st.tuples(st.just("set_status"), st.sampled_from(StatusCode), st.text(max_size=6)),
        st.tuples(st.just("record_exception"), st.just(ValueError("v"))),
        st.tuples(st.just("end"), st.just(2_000)),
    ),
    max_size=12,
)


class Kept(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def outcome(provider: TracerProvider, given_: dict[str, Any], calls: list[tuple[Any, ...]]) -> Any:
    kept = Kept()
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("t", "1")
    links = [Link(LINK, {"l": 1})]
    span = tracer.start_span("s", None, SpanKind.CLIENT, given_, links, 1_000)
    for name, *arguments in calls:
        getattr(span, name)(*arguments)
    span.end(3_000)
    (read,) = kept.spans
    document = json.loads(read.to_json())
    document["context"] = None
    for event in document["events"]:
        event["timestamp"] = None
    counts = (read.dropped_attributes, read.dropped_events, read.dropped_links)
    return (
        document,
        counts,
        span.is_recording(),
        read.instrumentation_scope,
        list(read.attributes or {}),
    )


@given(
    given_=attributes,
    calls=steps,
    most=st.sampled_from([None, 0, 1, 3]),
    long=st.sampled_from([None, 3]),
)
def test_the_same_calls_give_the_same_span(
    given_: dict[str, Any], calls: list[tuple[Any, ...]], most: int | None, long: int | None
) -> None:
    limits = SpanLimits(
        max_span_attributes=SpanLimits.UNSET if most is None else most,
        max_span_attribute_length=SpanLimits.UNSET if long is None else long,
        max_events=2,
        max_links=2,
    )
    made = [
        outcome(
            kind(resource=Resource({"r": "s"}), shutdown_on_exit=False, span_limits=limits),
            given_,
            calls,
        )
        for kind in (TracerProvider, LightTracerProvider)
    ]
    assert made[0] == made[1]


def test_spans_nest_and_fail_as_the_sdks() -> None:
    def run(provider: TracerProvider) -> list[tuple[Any, ...]]:
        kept = Kept()
        provider.add_span_processor(kept)
        tracer = provider.get_tracer("t")

        def work() -> None:
            with tracer.start_as_current_span("outer") as outer:
                with tracer.start_as_current_span("inner"):
                    assert trace.get_current_span() is not outer
                raise KeyError("k")

        with pytest.raises(KeyError):
            work()
        inner, outer_ = kept.spans
        assert inner.parent == outer_.context
        return [
            (s.name, s.status.status_code, s.status.description, [e.name for e in s.events])
            for s in (inner, outer_)
        ]

    expected = run(TracerProvider(shutdown_on_exit=False))
    assert run(LightTracerProvider(shutdown_on_exit=False)) == expected


def test_an_sdk_that_does_not_bear_light_spans_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert bears()
    assert isinstance(LightTracerProvider(shutdown_on_exit=False).get_tracer("t"), LightTracer)
    monkeypatch.setattr(LightSpan, "end", lambda _self, _end_time=None: 1 / 0)
    provider = LightTracerProvider(shutdown_on_exit=False)
    assert "is not known" in caplog.text
    span = provider.get_tracer("t").start_span("s")
    assert type(provider.get_tracer("t")) is Tracer
    span.set_status(Status(StatusCode.OK))
    span.end()


def test_every_measure_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert measures_table(REQUEST_MEASURES) in text
    assert measures_table(RUNTIME_MEASURES) in text
