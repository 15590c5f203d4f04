"""The rollup, computed a second time from the messages, without the pipeline's SQL; and how far two are apart. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

__all__ = ["Cell", "Key", "Rollup", "add_resource", "difference", "sound"]

# minute (seconds since 1970), region, service, version, environment, method, route, status class, source, vantage, run
Key = tuple[int, str, str, str, str, str, str, str, str, str, str]

_LEAST: Final = -1024
# Upper bounds of the buckets from _LEAST on, in nanoseconds: bucket i holds 2^(i/32) s < x <= 2^((i+1)/32) s.
_BOUNDS: Final = tuple(1e9 * 2.0 ** ((bucket + 1) / 32) for bucket in range(_LEAST, 1024))


@dataclass(slots=True)
class Cell:
    """One row of the rollup after its final aggregation."""

    requests: int = 0
    errors: int = 0
    weight: float = 0.0
    weight_squared: float = 0.0
    error_weight: float = 0.0
    buckets: dict[int, float] = field(default_factory=dict)
    buckets_squared: dict[int, float] = field(default_factory=dict)

    def add(self, bucket: int, weight: float, *, failed: bool) -> None:
        """Count one request."""
        self.requests += 1
        self.weight += weight
        self.weight_squared += weight * weight
        if failed:
            self.errors += 1
            self.error_weight += weight
        self.buckets[bucket] = self.buckets.get(bucket, 0.0) + weight
        if weight != 1:
            self.buckets_squared[bucket] = self.buckets_squared.get(bucket, 0.0) + weight * weight

    def values(self) -> Iterator[tuple[str, float]]:
        """Every number of the row with its name."""
        yield "requests", self.requests
        yield "errors", self.errors
        yield "weight", self.weight
        yield "weight_squared", self.weight_squared
        yield "error_weight", self.error_weight
        for bucket, value in self.buckets.items():
            yield f"buckets[{bucket}]", value
        for bucket, value in self.buckets_squared.items():
            yield f"buckets_squared[{bucket}]", value


Rollup = dict[Key, Cell]


def add_resource(rollup: Rollup, resource: ResourceSpans) -> None:
    """Count the server spans of one resource."""
    of = _texts(resource.resource.attributes)
    for scope in resource.scope_spans:
        for span in scope.spans:
            if span.kind in {Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CONSUMER} and sound(span):
                _add_span(rollup, of, span)


def sound(span: Span) -> bool:
    """Tell whether a span of this campaign can be data; those that cannot end before they begin."""
    return bool(span.end_time_unix_nano >= span.start_time_unix_nano)


def difference(expected: Mapping[Key, Cell], found: Mapping[Key, Cell]) -> tuple[float, list[str]]:
    """Sum of absolute differences over all numbers of all rows (0 where equal), and a line for each difference."""
    total = 0.0
    lines = []
    for key in sorted(expected.keys() | found.keys()):
        wanted = dict(expected[key].values()) if key in expected else {}
        got = dict(found[key].values()) if key in found else {}
        for name in wanted.keys() | got.keys():
            apart = got.get(name, 0.0) - wanted.get(name, 0.0)
            if apart:
                total += abs(apart)
                lines.append(
                    f"{key} {name}: {got.get(name, 0.0):g} instead of {wanted.get(name, 0.0):g}"
                )
    return total, lines


def _add_span(rollup: Rollup, of: Mapping[str, str], span: Span) -> None:
    its = _texts(span.attributes)
    status = int(its.get("http.response.status_code", "0"))
    failed = status >= 500 or span.status.code == Status.STATUS_CODE_ERROR
    key = (
        span.start_time_unix_nano // 60_000_000_000 * 60,
        of.get("cloud.region", ""),
        of.get("service.name", ""),
        of.get("service.version", ""),
        of.get("deployment.environment.name", ""),
        its.get("http.request.method", ""),
        its.get("http.route", "") or span.name,
        f"{status // 100}xx" if status >= 100 else ("error" if failed else "ok"),
        "synthetic" if "mobius.test.run" in its else "real",
        "server",
        its.get("mobius.test.run", ""),
    )
    duration = max(1, span.end_time_unix_nano - span.start_time_unix_nano)
    bucket = _LEAST + bisect_left(_BOUNDS, duration)
    rollup.setdefault(key, Cell()).add(bucket, _weight(span.trace_state), failed=failed)


def _weight(trace_state: str) -> float:
    """Spans that one stands for: 2^56 / (2^56 - th), th the threshold of the member ``ot`` (OpenTelemetry sampling)."""
    for member in trace_state.split(","):
        name, _, value = member.strip().partition("=")
        if name == "ot" and value.startswith("th:"):
            return float(2**56 / (2**56 - int(value[3:].ljust(14, "0"), 16)))
    return 1.0


def _texts(pairs: Iterable[KeyValue]) -> dict[str, str]:
    texts = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        texts[pair.key] = str(getattr(pair.value, kind)) if kind else ""
    return texts
