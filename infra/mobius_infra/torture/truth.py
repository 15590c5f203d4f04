"""What was produced, read from the broker: every record of the topic, from offset 0, and what must follow from it."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from mobius_infra.torture.rollup import Rollup, add_resource, sound
from mobius_infra.torture.span_messages import REGION, span_number
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.kafka_client import broker_errors, end_offsets, open_consumer

__all__ = ["Place", "Truth", "read_record", "read_topic"]

# partition and offset of a record
Place = tuple[int, int]

_PATIENCE_SECONDS: Final = 60.0


@dataclass(slots=True)
class Truth:
    """What the store has to hold, by the topic's own records.

    Attributes
    ----------
    spans
        Numbers of the spans to store, by the record that has them.
    dead
        Records that cannot be read.
    quarantined
        How often each (place, reason, spans) is to be in quarantine.
    """

    spans: dict[Place, array[int]] = field(default_factory=dict)
    rollup: Rollup = field(default_factory=dict)
    dead: set[Place] = field(default_factory=set)
    quarantined: Counter[tuple[Place, str, int]] = field(default_factory=Counter)
    records: int = 0

    @property
    def produced(self) -> int:
        """Spans to store, each occurrence counted."""
        return sum(map(len, self.spans.values()))

    def twice(self) -> int:
        """Spans that the broker has more than once (a producer's repetition): the broker's doing, not the pipeline's."""
        seen: Counter[int] = Counter()
        for numbers in self.spans.values():
            seen.update(numbers)
        return sum(count - 1 for count in seen.values())

    def missing(self, intended: int) -> int:
        """How many of the spans 1 to ``intended`` the broker does not have."""
        seen = {number for numbers in self.spans.values() for number in numbers}
        return sum(number not in seen for number in range(1, intended + 1))


def read_topic(zone: Zone, partitions: Iterable[int]) -> Truth:
    """Read the zone's whole topic of spans.

    Raises
    ------
    DependencyError
        The broker does not answer.
    TerminalError
        The broker stops giving records before the end of a partition.
    """
    from kafka import TopicPartition

    ends = end_offsets(zone, zone.spans_topic, partitions)
    truth = Truth()
    consumer = open_consumer(zone)
    with broker_errors(zone):
        try:
            left = {
                TopicPartition(zone.spans_topic, number): end for number, end in ends.items() if end
            }
            consumer.assign(list(left))
            for part in left:
                consumer.seek(part, 0)
            heard = time.monotonic()
            while left:
                for part, records in consumer.poll(500).items():
                    heard = time.monotonic()
                    for record in records:
                        read_record(truth, (part.partition, record.offset), record.value)
                for part in [part for part, end in left.items() if consumer.position(part) >= end]:
                    del left[part]
                    consumer.pause(part)
                if time.monotonic() - heard > _PATIENCE_SECONDS:
                    raise TerminalError(
                        f"the broker gives no more records of {sorted(map(str, left))}"
                    )
        finally:
            consumer.close()
    return truth


def read_record(truth: Truth, place: Place, value: bytes | None) -> None:
    """Add what must follow from one record."""
    truth.records += 1
    try:
        request = ExportTraceServiceRequest.FromString(value or b"")
    except DecodeError:
        truth.dead.add(place)
        return
    for resource in request.resource_spans:
        if _region(resource) == REGION:
            _add_own(truth, place, resource)
        else:
            spans = sum(len(scope.spans) for scope in resource.scope_spans)
            truth.quarantined[place, "region is not of this zone", spans] += 1


def _add_own(truth: Truth, place: Place, resource: ResourceSpans) -> None:
    add_resource(truth.rollup, resource)
    numbers = truth.spans.setdefault(place, array("Q"))
    for scope in resource.scope_spans:
        for span in scope.spans:
            if sound(span):
                numbers.append(span_number(span.span_id))
            else:
                truth.quarantined[place, "negative duration", 1] += 1


def _region(resource: ResourceSpans) -> str:
    for pair in resource.resource.attributes:
        if pair.key == "cloud.region":
            return str(pair.value.string_value)
    return ""
