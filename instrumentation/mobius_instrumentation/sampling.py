"""Consistent probability sampling: each kept span says how many it stands for.

``OTEL_TRACES_SAMPLER`` keeps its meaning. The SDK's samplers by ratio do not record the ratio, so that counts and
quantiles would be too small or skewed without anybody noticing; its experimental consistent ones lose the weight of
every span below the root, because its tracer does not hand them the parent's tracestate. Ours follow OpenTelemetry's
specification "TraceState: Probability Sampling" (from OTEP 235): a request is kept when the 56 random bits of its
trace id reach the rejection threshold, the threshold goes into ``tracestate`` as ``ot=th:...``, and everything in
the trace inherits it. The pipeline takes each span's weight from it: 2^56 / (2^56 - threshold).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

__all__ = [
    "ConsistentSampler",
    "KeepRules",
    "parse_rules",
    "sampler_from_environment",
    "threshold_text",
]

_BITS: Final = 56
_ALL: Final = 1 << _BITS
_RANDOMNESS: Final = _ALL - 1
_RANDOM_VALUE: Final = re.compile(r"(?:^|;)rv:([0-9a-f]{14})(?:;|$)")


def threshold_text(ratio: float) -> str:
    """Return the rejection threshold of a probability as ``th`` has it: hexadecimal, no zeros at its end.

    ``ratio`` lies in (0, 1]. Four hexadecimal digits suffice for a weight that is right to 1 in 65,000 at a ratio
    of 1; more are kept, so that small ratios are as exact.
    """
    digits = f"{_threshold(ratio):014x}".rstrip("0")
    return digits or "0"


def _threshold(ratio: float) -> int:
    return min(_ALL - 1, _ALL - round(ratio * _ALL))


@dataclass(frozen=True, slots=True)
class KeepRules:
    """Requests that are kept whatever the probability says; their weight is 1. Decided when a request ends.

    Attributes
    ----------
    errors
        Answered with a status of 500 or more, or failed without one.
    synthetic
        With a valid marker of a test run, or looking like a tool's.
    slow_seconds
        Lasted at least that long; None for no such rule.
    """

    errors: bool = False
    synthetic: bool = False
    slow_seconds: float | None = None

    def __bool__(self) -> bool:
        return self.errors or self.synthetic or self.slow_seconds is not None


def parse_rules(text: str) -> KeepRules:
    """Read rules such as ``errors,synthetic,slow:500`` (milliseconds).

    Raises
    ------
    ValueError
        A rule is none of these.
    """
    errors = synthetic = False
    slow: float | None = None
    for item in (part.strip() for part in text.split(",")):
        if item == "errors":
            errors = True
        elif item == "synthetic":
            synthetic = True
        elif (found := re.fullmatch(r"slow:(\d{1,7}(?:\.\d{1,3})?)", item)) is not None:
            slow = float(found[1]) / 1000
        elif item:
            raise ValueError(
                "must be of errors, synthetic and slow:<milliseconds>, comma separated"
            )
    return KeepRules(errors, synthetic, slow)


class ConsistentSampler(Sampler):
    """Keeps roots with a probability, and follows the parent's decision below them.

    Parameters
    ----------
    ratio
        Probability of a root, 0 to 1.
    parent_based
        Whether a parent's decision, also a remote caller's, is followed; otherwise each span is judged anew by its
        trace id, which keeps the traces whole that another service kept with a smaller probability.
    record_all
        Record what is not sampled as well, for rules that decide when a request has ended: such spans are not
        ``sampled`` for the services behind, and leave the process only if a rule says so.
    """

    def __init__(
        self, ratio: float, *, parent_based: bool = True, record_all: bool = False
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError("the sampling ratio must lie between 0 and 1")
        self.ratio = ratio
        self._threshold = _threshold(ratio)
        self._member = f"th:{threshold_text(ratio)}" if ratio else ""
        self._parent_based = parent_based
        self._else = Decision.RECORD_ONLY if record_all else Decision.DROP
        # A weight of 1 is not written: it is what a span without an entry has.
        plain = None if ratio in (0, 1) else TraceState([("ot", self._member)])
        self._kept = SamplingResult(Decision.RECORD_AND_SAMPLE, None, plain)

    def should_sample(  # noqa: PLR0917  # the base's signature, as below
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,  # noqa: ARG002
        kind: SpanKind | None = None,  # noqa: ARG002
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002
        trace_state: TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        """Decide; see the base. The parent's ``tracestate`` is read from ``parent_context``."""
        parent = trace.get_current_span(parent_context).get_span_context()
        state = parent.trace_state if parent.is_valid else None
        if parent.is_valid and self._parent_based:
            sampled = bool(parent.trace_flags & 1)
            return SamplingResult(
                Decision.RECORD_AND_SAMPLE if sampled else self._else, attributes, state
            )
        if self._kept_by(trace_id, state):
            return SamplingResult(
                Decision.RECORD_AND_SAMPLE, attributes, self._with_threshold(state)
            )
        return SamplingResult(self._else, attributes, _without_threshold(state))

    def _kept_by(self, trace_id: int, state: TraceState | None) -> bool:
        if self.ratio in (0, 1):
            return self.ratio == 1
        randomness = trace_id & _RANDOMNESS
        if state and (found := _RANDOM_VALUE.search(state.get("ot") or "")):
            randomness = int(found[1], 16)
        return randomness >= self._threshold

    def _with_threshold(self, state: TraceState | None) -> TraceState | None:
        if not state:
            return self._kept.trace_state
        rest = _other_members(state)
        if self.ratio != 1:
            rest.insert(0, self._member)
        return _with_entry(state, rest)

    def get_description(self) -> str:
        """Name the sampler and its ratio."""
        return f"Consistent{{ratio={self.ratio},parent_based={self._parent_based}}}"


def _other_members(state: TraceState) -> list[str]:
    return [m for m in (state.get("ot") or "").split(";") if m and not m.startswith("th:")]


def _without_threshold(state: TraceState | None) -> TraceState | None:
    """Drop a threshold that does not hold for a span which is not sampled."""
    if not state or "ot" not in state:
        return state
    return _with_entry(state, _other_members(state))


def _with_entry(state: TraceState, members: list[str]) -> TraceState:
    others = state.delete("ot") if "ot" in state else state
    return others.add("ot", ";".join(members)) if members else others


def sampler_from_environment(
    environ: Mapping[str, str], *, record_all: bool = False
) -> Sampler | None:
    """Return our sampler for what ``OTEL_TRACES_SAMPLER`` asks; None where the SDK's own choice is right.

    ``record_all`` as in :class:`ConsistentSampler`.
    """
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    based = name.startswith("parentbased_")
    kind = name.removeprefix("parentbased_")
    if kind == "always_on":
        return ConsistentSampler(1, parent_based=based, record_all=record_all)
    if kind == "traceidratio":
        try:
            ratio = float(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
            return ConsistentSampler(ratio, parent_based=based, record_all=record_all)
        except ValueError:
            return None  # the SDK warns of it, and samples everything
    return None
