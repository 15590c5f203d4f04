"""Online Boutique before and after two injected faults: which verdicts and explanations come out.

Before a fault stands for the test, after it for production; nothing else tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mobius_analysis.components import SpanRow, parts_of_request
from mobius_analysis.correlate import correlate
from mobius_analysis.explain import Traces, explain
from mobius_analysis.histogram import bucket_of
from mobius_analysis.request_parts import Parted, neighbourhoods
from mobius_analysis.request_sample import RequestSample
from mobius_analysis.rollup import CELL, SERIES, Window
from mobius_infra.benchmarks._real_spans import load

__all__ = ["run_boutique"]

_REGION: Final = "eu-west-1"
_MINUTE: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class _Fault:
    name: str
    before: tuple[datetime, datetime]
    after: tuple[datetime, datetime]


def _at(text: str) -> datetime:
    return datetime.fromisoformat(f"2022-08-22T{text}").replace(tzinfo=UTC)


FAULTS: Final = (
    _Fault("frontend CPU contention at 03:53:54", (_at("03:52:19"), _at("03:53:54")), (_at("03:53:54"), _at("03:56:54"))),
    _Fault("return fault at 04:02:07", (_at("03:59:07"), _at("04:02:07")), (_at("04:02:07"), _at("04:04:20"))),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Request:
    service: str
    route: str
    pod: str
    span: SpanRow
    trace: int


def run_boutique() -> list[dict[str, Any]]:
    """Return one document a fault: the cell of every endpoint, and what explains those that differ.

    Raises
    ------
    UsageError
        The data set is not there.
    """
    requests, traces = _requests()
    return [_fault(fault, requests, traces) for fault in FAULTS]


def _requests() -> tuple[list[_Request], dict[int, list[SpanRow]]]:
    found: list[_Request] = []
    traces: dict[int, list[SpanRow]] = {}
    for process in load(_REGION):
        resource = {pair.key: pair.value.string_value for pair in process.head.resource.attributes}
        service = resource["service.name"]
        pod = resource.get("k8s.pod.name", "")
        for span, number, trace, parent in zip(
            process.spans, process.numbers, process.traces, process.parents, strict=True
        ):
            row = SpanRow(
                str(number),
                str(parent),
                service,
                span.name,
                Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").capitalize(),
                "",
                span.start_time_unix_nano,
                span.end_time_unix_nano,
            )
            traces.setdefault(trace, []).append(row)
            if span.kind == Span.SPAN_KIND_SERVER:
                found.append(_Request(service, span.name, pod, row, trace))
    return found, traces


def _fault(
    fault: _Fault, requests: Sequence[_Request], traces: dict[int, list[SpanRow]]
) -> dict[str, Any]:
    sides = {
        "synthetic": _between(requests, *fault.before),
        "real": _between(requests, *fault.after),
    }
    window = Window.of(
        fault.before[0], fault.after[1].replace(second=0, minute=fault.after[1].minute + 1)
    )
    rows = pl.concat([_rows(source, side) for source, side in sides.items()]).sort(
        *SERIES, "minute"
    )
    endpoints = []
    for cell in correlate(rows, [window]):
        of_cell = {
            source: [one for one in side if (one.service, one.route) == (cell.service, cell.route)]
            for source, side in sides.items()
        }
        mine = rows.filter(
            *(pl.col(name) == value for name, value in zip(CELL, cell.subject, strict=True))
        )
        endpoints.append(
            {
                "service": cell.service,
                "route": cell.route,
                "requests": {"before": cell.synthetic.requests, "after": cell.production.requests},
                "verdict": cell.verdict,
                "ratio": {
                    f"p{q * 100:g}": ratio.bounds.document() for q, ratio in cell.ratios.items()
                },
                "why": _why(mine, of_cell, traces, window)
                if cell.verdict in ("optimistic", "pessimistic")
                else None,
            }
        )
    return {"fault": fault.name, "endpoints": endpoints}


def _between(requests: Sequence[_Request], since: datetime, until: datetime) -> list[_Request]:
    first, last = (int(moment.timestamp() * 1e9) for moment in (since, until))
    return [one for one in requests if first <= one.span.start_ns < last]


def _rows(source: str, side: Sequence[_Request]) -> pl.DataFrame:
    """Rows as ``load_rollup`` returns them, with ``version``."""
    flat = pl.DataFrame(
        {
            "service": [one.service for one in side],
            "route": [one.route for one in side],
            "minute": [one.span.start_ns // _MINUTE for one in side],
            "buckets": bucket_of(np.asarray([_seconds(one) for one in side])),
        }
    )
    key = ("service", "route", "minute")
    return (
        flat.group_by(*key, "buckets")
        .agg(weights=pl.len().cast(pl.Float64))
        .sort(*key, "buckets")
        .group_by(key, maintain_order=True)
        .agg(
            requests=pl.col("weights").sum().cast(pl.Int64),
            answered=pl.col("weights").sum().cast(pl.Int64),
            weight=pl.col("weights").sum(),
            weight_squared=pl.col("weights").sum(),
            squared=pl.col("weights").sum(),
            buckets=pl.col("buckets"),
            weights=pl.col("weights"),
        )
        .with_columns(
            region=pl.lit(_REGION),
            method=pl.lit("grpc"),
            source=pl.lit(source),
            vantage=pl.lit("server"),
            version=pl.lit(""),
            errors=pl.lit(0, pl.Int64),
            error_weight=pl.lit(0.0),
        )
    )


def _seconds(one: _Request) -> float:
    return max(1, one.span.end_ns - one.span.start_ns) / 1e9


def _why(
    rows: pl.DataFrame,
    sides: dict[str, list[_Request]],
    traces: dict[int, list[SpanRow]],
    window: Window,
) -> dict[str, Any]:
    sample = RequestSample(
        pl.concat([_sample(source, side) for source, side in sides.items()]),
        {source: len(side) for source, side in sides.items()},
        window,
        0,
    )
    around = neighbourhoods(sample)
    parts = tuple(_parted(sides, traces))
    real, test = (rows.filter(pl.col("source") == source) for source in ("real", "synthetic"))
    found, _ = explain(real, test, Traces(sample, around, parts))
    return {
        name: {
            "text": found[name]["text"],
            "holding": [one["text"] for one in found[name]["ranked"] if one["holds"]],
        }
        for name in ("p50", "p95")
    }


def _sample(source: str, side: Sequence[_Request]) -> pl.DataFrame:
    durations = np.asarray([one.span.end_ns - one.span.start_ns for one in side], np.int64)
    unknown = pl.lit("")
    return pl.DataFrame(
        {
            "minute": [one.span.start_ns // _MINUTE for one in side],
            "duration_ns": durations,
            "instance": [one.pod for one in side],
            "bucket": bucket_of(np.maximum(durations, 1) / 1e9),
        },
        schema_overrides={"minute": pl.Int64, "duration_ns": pl.Int64, "instance": pl.String, "bucket": pl.Int64},
    ).with_columns(
        source=pl.lit(source),
        weight=pl.lit(1.0),
        environment=unknown,
        cache=unknown,
        **dict.fromkeys(("status class", "request size", "response size"), unknown),
    )  # fmt: skip


def _parted(sides: dict[str, list[_Request]], traces: dict[int, list[SpanRow]]) -> Iterator[Parted]:
    for source, side in sides.items():
        for one in side:
            span = one.span
            parts = parts_of_request(span, traces[one.trace], {})
            duration = span.end_ns - span.start_ns
            yield Parted(span.start_ns // _MINUTE, source, 1.0, duration, parts, one.service)
