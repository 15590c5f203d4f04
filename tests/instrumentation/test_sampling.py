"""Sampling keeps the numbers true: weights on every span, decisions at a request's end, and intervals that cover."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, HTTPException
from numpy.typing import NDArray
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.span import TraceState

from mobius_analysis.clusters import Clusters
from mobius_analysis.error_rates import Failures, compare_errors
from mobius_analysis.histogram import bucket_bounds, bucket_of
from mobius_analysis.intervals import Bounds, estimate
from mobius_analysis.sampled_count import count_bounds
from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.attach import attach
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.sampling import (
    ConsistentSampler,
    KeepRules,
    parse_rules,
    sampler_from_environment,
    threshold_text,
)
from mobius_instrumentation.spans import LightTracerProvider
from mobius_instrumentation.synthetic import SyntheticTraffic
from mobius_instrumentation.testing import RecordedSpan, decode_request
from mobius_instrumentation.wire import EncodedSpan, SpanEncoder, build_request

RATIO = 0.05


class Kept:
    """Keeps what the exporter would send."""

    def __init__(self) -> None:
        self._encoder = SpanEncoder(AttributePolicy())
        self._spans: list[EncodedSpan] = []

    def offer(self, span: ReadableSpan, *, unweighted: bool = False) -> bool:
        self._spans.append(self._encoder.span(span, unweighted=unweighted)[0])
        return True

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        return True

    @property
    def spans(self) -> list[RecordedSpan]:
        return decode_request(build_request(self._spans))


def service(ratio: float, rules: KeepRules) -> tuple[FastAPI, Kept]:
    """A service whose requests make a child each, traced with rules."""
    app, kept = FastAPI(), Kept()
    provider = LightTracerProvider(
        sampler=ConsistentSampler(ratio, record_all=bool(rules)), shutdown_on_exit=False
    )
    provider.add_span_processor(ExportingProcessor(kept, rules))
    tracer = provider.get_tracer("t")

    @app.get("/{what}")
    async def handle(what: str) -> str:
        with tracer.start_as_current_span("child", kind=SpanKind.CLIENT):
            await asyncio.sleep(0.6 if what == "slow" else 0)
        if what == "error":
            raise HTTPException(500)
        return what

    attach(app, provider, SyntheticTraffic(None), allowed=AttributePolicy().allowed)
    return app, kept


def ask(app: FastAPI, path: str, number: int = 1, **headers: str) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://shop.test"
        ) as client:
            for _ in range(number):
                await client.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    asyncio.run(run())


def parts(spans: list[RecordedSpan]) -> dict[str, set[str]]:
    """Names of the spans of each trace."""
    by_trace: dict[str, set[str]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, set()).add(span.name)
    return by_trace


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/error", {}), ("/slow", {}), ("/synthetic", {"user_agent": "k6/1.0"})],
)
def test_what_a_rule_names_is_kept_whole_and_stands_for_itself(
    path: str, headers: dict[str, str]
) -> None:
    app, kept = service(1e-9, KeepRules(errors=True, synthetic=True, slow_seconds=0.6))
    ask(app, path, 2, **headers)
    ask(app, "/fine", 20)
    traces = parts(kept.spans)
    assert list(traces.values()) == [{"child", "GET /{what}"}] * 2
    assert {span.trace_state for span in kept.spans} == {""}


def test_what_chance_keeps_has_its_weight_on_every_span() -> None:
    app, kept = service(0.25, KeepRules(errors=True))
    ask(app, "/fine", 200)
    traces = parts(kept.spans)
    assert 20 < len(traces) < 90
    assert all(names == {"child", "GET /{what}"} for names in traces.values())
    assert {span.trace_state for span in kept.spans} == {"ot=th:c"}
    randomness = {int(span.trace_id[-14:], 16) for span in kept.spans}
    assert min(randomness) >= 0xC0000000000000


def test_a_sampled_caller_s_weight_is_inherited_by_all_spans_below() -> None:
    app, kept = service(0.5, KeepRules(errors=True))
    caller = {"traceparent": f"00-{'7' * 32}-{'2' * 16}-01", "tracestate": "ot=th:e;rv:1,x=1"}
    ask(app, "/fine", 1, **caller)
    assert {span.trace_state for span in kept.spans} == {"ot=th:e;rv:1"}
    assert len(kept.spans) == 2
    ask(app, "/error", 1, **caller)
    assert sorted(s.trace_state for s in kept.spans) == ["", "", "ot=th:e;rv:1", "ot=th:e;rv:1"]


def test_an_unsampled_callers_wish_holds_unless_a_rule_says_otherwise() -> None:
    app, kept = service(1, KeepRules(errors=True))
    unsampled = f"00-{'7' * 32}-{'2' * 16}-00"
    ask(app, "/fine", 1, traceparent=unsampled)
    assert not kept.spans
    ask(app, "/error", 1, traceparent=unsampled)
    assert parts(kept.spans) == {"7" * 32: {"child", "GET /{what}"}}


def test_a_service_behind_sees_the_flag_that_chance_gave() -> None:
    sampler = ConsistentSampler(RATIO, record_all=True)
    provider = LightTracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracer = provider.get_tracer("t")
    spans = [tracer.start_span("s") for _ in range(2_000)]
    assert all(span.is_recording() for span in spans)
    sampled = [s for s in spans if s.get_span_context().trace_flags.sampled]
    assert 50 < len(sampled) < 160
    assert {s.get_span_context().trace_state.to_header() for s in sampled} == {
        f"ot=th:{threshold_text(RATIO)}"
    }


def under(state: str, flags: int, trace_id: int = 7) -> Context:
    context = SpanContext(
        trace_id,
        5,
        is_remote=True,
        trace_flags=TraceFlags(flags),
        trace_state=TraceState.from_header([state]),
    )
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


@pytest.mark.parametrize(
    ("sampler", "context", "trace_id", "kept", "state"),
    [
        (ConsistentSampler(0.5), Context(), 1 << 55, True, "ot=th:8"),
        (ConsistentSampler(0.5), Context(), (1 << 55) - 1, False, ""),
        (ConsistentSampler(0.5), Context(), (1 << 120) | 1, False, ""),
        (ConsistentSampler(1), Context(), 0, True, ""),
        (ConsistentSampler(0), Context(), (1 << 56) - 1, False, ""),
        (ConsistentSampler(0.5), under("ot=th:f", 1), 0, True, "ot=th:f"),
        (ConsistentSampler(0.5), under("a=b", 0), 1 << 55, False, "a=b"),
        # Judged anew: the random value beats the trace id, the threshold is ours, others' entries stay.
        (ConsistentSampler(0.5, parent_based=False), under("ot=th:f;rv:80000000000000,a=b", 1), 0, True, "ot=th:8;rv:80000000000000,a=b"),
        (ConsistentSampler(0.5, parent_based=False), under("ot=rv:70000000000000;th:1,a=b", 1), 1 << 55, False, "ot=rv:70000000000000,a=b"),
        (ConsistentSampler(0.5, parent_based=False), under("ot=th:f", 1), 0, False, ""),
    ],
)  # fmt: skip
def test_decisions_follow_the_specification(
    sampler: ConsistentSampler, context: Context, trace_id: int, kept: bool, state: str
) -> None:
    result = sampler.should_sample(context, trace_id, "s")
    assert result.decision.name == ("RECORD_AND_SAMPLE" if kept else "DROP")
    assert (result.trace_state.to_header() if result.trace_state else "") == state


@pytest.mark.parametrize(
    ("ratio", "text"), [(1, "0"), (0.5, "8"), (0.25, "c"), (1 / 16, "f"), (1e-30, "f" * 14)]
)
def test_thresholds_are_written_as_specified(ratio: float, text: str) -> None:
    assert threshold_text(ratio) == text


def test_rules_and_samplers_are_read_from_the_environment() -> None:
    assert parse_rules(" errors, slow:250 ,synthetic,") == KeepRules(True, True, 0.25)
    assert not parse_rules("")
    for wrong in ("error", "slow", "slow:", "slow:-1", "slow:1s"):
        with pytest.raises(ValueError, match="must be of errors"):
            parse_rules(wrong)

    def ratio(name: str, argument: str = "") -> Any:
        environ = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
        sampler = sampler_from_environment(environ)
        return None if sampler is None else sampler.get_description()

    assert ratio("") == ratio("parentbased_always_on") == "Consistent{ratio=1,parent_based=True}"
    assert ratio("traceidratio", "0.5") == "Consistent{ratio=0.5,parent_based=False}"
    assert ratio("parentbased_traceidratio", "0.5") == "Consistent{ratio=0.5,parent_based=True}"
    assert ratio("traceidratio", "2") is ratio("traceidratio", "x") is ratio("always_off") is None


# ---------------------------------------------------------------- do the intervals cover the full data?

MINUTES, PER_MINUTE, SIMULATIONS = 60, 120, 500
LEAST_COVERAGE = 0.95 - 3 * (0.95 * 0.05 / SIMULATIONS) ** 0.5  # three standard errors of 500 draws


@dataclass(frozen=True)
class Traffic:
    """An hour of requests of which everything is known."""

    minute: NDArray[np.int64]
    seconds: NDArray[np.float64]
    bucket: NDArray[np.int64]
    failed: NDArray[np.bool_]


def hour(seed: int) -> Traffic:
    draw = np.random.default_rng(seed)
    minute = np.repeat(np.arange(MINUTES), PER_MINUTE)
    load = np.repeat(draw.normal(0, 0.1, MINUTES), PER_MINUTE)
    seconds = np.exp(draw.normal(-3, 0.6, len(minute)) + load)
    return Traffic(minute, seconds, bucket_of(seconds), draw.random(len(minute)) < 0.03)


def summed(traffic: Traffic, weights: NDArray[np.float64]) -> dict[str, Bounds]:
    """What the analysis makes of requests with weights, 0 for those that were not kept."""
    buckets, column = np.unique(traffic.bucket, return_inverse=True)
    fine = weights * ~traffic.failed
    counts = np.bincount(traffic.minute * len(buckets) + column, fine, MINUTES * len(buckets))
    clusters = Clusters(
        np.arange(MINUTES),
        buckets,
        counts.reshape(MINUTES, len(buckets)).astype(np.float64),
        requests=int((fine > 0).sum()),
        squared=float((fine**2).sum()),
    )
    failures = Failures(
        np.bincount(traffic.minute, weights, MINUTES).astype(np.float64),
        np.bincount(traffic.minute, weights * traffic.failed, MINUTES).astype(np.float64),
        requests=int((weights > 0).sum()),
        errors=int(((weights > 0) & traffic.failed).sum()),
        squared=float((weights**2).sum()),
    )
    side = compare_errors(failures, failures).production
    assert side is not None
    return {
        **{f"p{q * 100:g}": estimate(clusters, q).bounds for q in (0.5, 0.9, 0.95)},
        "error_rate": side.bounds,
        "requests": count_bounds(failures.requests, weights.sum(), failures.squared),
    }


def test_intervals_of_a_sample_of_5_percent_cover_the_full_data() -> None:
    traffic = hour(seed=5)
    truth = summed(traffic, np.ones(len(traffic.minute)))
    width = {  # the rollup's buckets are that wide, of which nobody sees the inside
        name: float(np.ptp(bucket_bounds(bucket_of([bounds.value])))) if name[0] == "p" else 0.0
        for name, bounds in truth.items()
    }
    sampler = ConsistentSampler(RATIO)
    weight = 2**56 / (2**56 - int(threshold_text(RATIO).ljust(14, "0"), 16))
    by_rule = traffic.failed | (traffic.seconds > 0.2)
    draw = random.Random(20)
    claims: dict[str, list[bool]] = {}
    for _ in range(SIMULATIONS):
        chosen = np.fromiter(
            (
                sampler.should_sample(None, draw.getrandbits(128), "s").decision
                is Decision.RECORD_AND_SAMPLE
                for _ in range(len(traffic.minute))
            ),
            bool,
        )
        by_chance = np.where(chosen, weight, 0.0)
        for way, weights in (("chance", by_chance), ("rules", np.where(by_rule, 1.0, by_chance))):
            for name, got in summed(traffic, weights).items():
                if got.low is not None and got.high is not None:
                    low, high = got.low - width[name], got.high + width[name]
                    claims.setdefault(f"{way} {name}", []).append(low <= truth[name].value <= high)
    coverage = {name: sum(held) / len(held) for name, held in claims.items()}
    assert len(coverage) == 2 * len(truth)
    assert min(len(held) for held in claims.values()) > SIMULATIONS / 2, "an interval is the rule"
    assert min(coverage.values()) >= LEAST_COVERAGE, coverage
    for way in ("chance", "rules"):
        assert coverage[f"{way} requests"] <= 0.99, f"no wider than it claims: {coverage}"


def test_without_sampling_a_count_is_exact_and_a_small_sample_says_little() -> None:
    assert count_bounds(7, 7.0, 7.0) == Bounds(7.0, 7.0, 7.0)
    assert count_bounds(0, 0.0, 0.0) == Bounds(0.0)
    one = count_bounds(1, 20.0, 400.0)
    assert one.low is not None
    assert one.high is not None
    assert 1 <= one.low < 20
    assert one.high > 90
