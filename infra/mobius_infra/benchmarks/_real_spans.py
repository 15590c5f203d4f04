"""Real spans in any number: the traces of a published data set again and again, each time with fresh ids.

What a measurement of a pipeline needs of reality stays: names, attributes, durations, the shape of the traces and the
order in which services hand out their spans. Ids are drawn anew for each repetition, because stored bytes and joins
depend on them, and because each span must be told from each other one.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from mobius_instrumentation.allowlist import LIST_APPLIED
from mobius_pipeline.errors import UsageError

__all__ = ["Recorded", "load", "repeat"]

_NAME: Final = "2022-08-22T03-53.otlp.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Spans of one process in the order of their ends; ``head`` has its resource and scope, and no spans.

    ``traces`` and ``parents`` run beside ``spans``: the trace's number in the data set, and the number of the parent
    span in the data set (-1 for none). ``numbers`` are the spans' own.
    """

    head: ResourceSpans
    spans: tuple[Span, ...]
    numbers: tuple[int, ...]
    traces: tuple[int, ...]
    parents: tuple[int, ...]


def load(region: str, path: Path | None = None) -> list[Recorded]:
    """Read the data set (Online Boutique under load; MIT, see the file beside it); every process runs in ``region``.

    Raises
    ------
    UsageError
        The data set is not there.
    """
    path = path or _data_folder() / _NAME
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            documents = [json.loads(line) for line in lines]
    except OSError as error:
        raise UsageError(f"cannot read the recorded spans ({error})", file=str(path)) from error
    by_process: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for document in documents:
        for resource in document["resourceSpans"]:
            key = json.dumps(resource["resource"], sort_keys=True)
            for scope in resource["scopeSpans"]:
                _, spans = by_process.setdefault(key, ({**resource, "scope": scope["scope"]}, []))
                spans += scope["spans"]
    return _number(by_process.values(), region)


def _data_folder() -> Path:
    """In the wheel, or in the repository."""
    package = Path(__file__).resolve().parent
    packed = package / "online-boutique"
    return packed if packed.is_dir() else package.parents[2] / "tests/data/online-boutique"


def _number(
    processes: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]], region: str
) -> list[Recorded]:
    traces: dict[str, int] = {}
    ordered = [
        (head, sorted(spans, key=lambda span: int(span["endTimeUnixNano"])))
        for head, spans in processes
    ]
    numbers: dict[tuple[str, str], int] = {}
    own = 0
    # An id that the data set has twice names its first span.
    for _, spans in ordered:
        for span in spans:
            traces.setdefault(span["traceId"], len(traces))
            numbers.setdefault((span["traceId"], span["spanId"]), own)
            own += 1
    recorded, first = [], 0
    for head, spans in ordered:
        recorded.append(
            Recorded(
                _head(head, region),
                tuple(_span(span) for span in spans),
                tuple(range(first, first + len(spans))),
                tuple(traces[span["traceId"]] for span in spans),
                tuple(
                    numbers.get((span["traceId"], span.get("parentSpanId", "")), -1)
                    for span in spans
                ),
            )
        )
        first += len(spans)
    return recorded


def _head(head: dict[str, Any], region: str) -> ResourceSpans:
    made = ResourceSpans()
    made.resource.attributes.extend(_pairs(head["resource"]["attributes"]))
    # As if our package had sent them: both pipelines are to store the same attributes.
    for name, value in (("cloud.region", region), LIST_APPLIED):
        made.resource.attributes.append(KeyValue(key=name, value=AnyValue(string_value=value)))
    made.scope_spans.add().scope.name = head["scope"]["name"]
    return made


def _span(span: dict[str, Any]) -> Span:
    return Span(
        name=span["name"],
        kind=span["kind"],
        start_time_unix_nano=int(span["startTimeUnixNano"]),
        end_time_unix_nano=int(span["endTimeUnixNano"]),
        attributes=_pairs(span["attributes"]),
    )


def _pairs(attributes: list[dict[str, Any]]) -> list[KeyValue]:
    return [
        KeyValue(key=pair["key"], value=AnyValue(string_value=pair["value"]["stringValue"]))
        for pair in attributes
    ]


def repeat(
    recorded: list[Recorded], spans: int, *, per_message: int, begin_ns: int, seed: int = 1
) -> Iterator[tuple[bytes, list[bytes]]]:
    """Give messages (``ExportTraceServiceRequest``, serialised) with the ids of their spans, ``spans`` in total.

    A message holds at most ``per_message`` spans of one process, as an SDK's exporter sends them, and messages come
    in the order of their last span's end. The first repetition begins at ``begin_ns`` (since 1970), each further one
    where the one before ended.
    """
    rng = random.Random(seed)
    begun = min(span.start_time_unix_nano for one in recorded for span in one.spans)
    length = max(span.end_time_unix_nano for one in recorded for span in one.spans) - begun
    slices = sorted(
        (
            (one, first, min(first + per_message, len(one.spans)))
            for one in recorded
            for first in range(0, len(one.spans), per_message)
        ),
        key=lambda cut: cut[0].spans[cut[2] - 1].end_time_unix_nano,
    )
    left, shift = spans, begin_ns - begun
    while left > 0:
        traces = _draw(rng, 16, 1 + max(max(one.traces) for one in recorded))
        ids = _draw(rng, 8, sum(len(one.spans) for one in recorded))
        for one, first, end in slices:
            end = min(end, first + left)  # noqa: PLW2901 - the last message is cut to the number asked for
            if end > first:
                yield (
                    _message(one, first, end, traces, ids, shift),
                    [ids[number] for number in one.numbers[first:end]],
                )
                left -= end - first
        shift += length


def _draw(rng: random.Random, size: int, number: int) -> list[bytes]:
    drawn = rng.randbytes(size * number)
    return [drawn[at : at + size] for at in range(0, len(drawn), size)]


def _message(  # noqa: PLR0917 - numbers of one loop
    one: Recorded, first: int, end: int, traces: list[bytes], ids: list[bytes], shift: int
) -> bytes:
    request = ExportTraceServiceRequest(resource_spans=[one.head])
    made = request.resource_spans[0].scope_spans[0].spans
    made.extend(one.spans[first:end])
    for at, span in enumerate(made, first):
        span.trace_id = traces[one.traces[at]]
        span.span_id = ids[one.numbers[at]]
        if one.parents[at] >= 0:
            span.parent_span_id = ids[one.parents[at]]
        span.start_time_unix_nano += shift
        span.end_time_unix_nano += shift
    return request.SerializeToString()
