"""What flows through the worker, and the verbs that every step has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mobius_pipeline.kafka_client import Topic
from mobius_pipeline.quarantine import Foreign
from mobius_pipeline.removals import Removal

__all__ = ["Batch", "Chain", "Checked", "Message", "Routed", "Step"]

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Message:
    """One record of the topic; ``encoding`` is its content-encoding header, "" where it has none."""

    partition: int
    offset: int
    value: bytes | None
    encoding: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A message that was parsed, or (``problem`` not "") cannot be; ``payload`` is its value without its encoding."""

    message: Message
    request: ExportTraceServiceRequest | None
    problem: str
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Routed:
    """A message taken apart: ``body`` (b"" for none) with ``spans`` spans of this zone, and what is foreign.

    ``removed``: what the zone's own spans lack already.
    """

    message: Message
    body: bytes
    spans: int
    foreign: tuple[Foreign, ...]
    problem: str
    removed: tuple[Removal, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """All messages of a contiguous offset range of one partition.

    ``repeated``: the ledger holds this very range already, written by a worker that did not finish it.
    """

    topic: Topic
    partition: int
    first: int
    last: int
    items: tuple[Routed, ...]
    repeated: bool

    @property
    def spans(self) -> int:
        """Spans of this zone in the batch."""
        return sum(item.spans for item in self.items)

    @property
    def token(self) -> str:
        """Names the range; data inserted under it once are never inserted again."""
        return f"{self.topic.id}/{self.partition}/{self.first}-{self.last}"


class Step(Protocol[In_contra, Out_co]):
    """A step takes items in order and gives items in order.

    Laws: what is submitted comes out exactly once and in order; ``poll`` gives only what is due; after ``close``
    nothing is held and nothing more comes out. A step that cannot do its work raises, and holds nothing back then.
    """

    def submit(self, item: In_contra) -> Iterable[Out_co]:
        """Take one item; give what is ready because of it."""

    def poll(self) -> Iterable[Out_co]:
        """Give what has become ready by time alone."""

    def close(self) -> Iterable[Out_co]:
        """Give all that is still held and may be given."""


class Chain(Generic[In_contra]):
    """Steps in a row, driven as one."""

    def __init__(self, *steps: Step[Any, Any]) -> None:
        self._steps = steps

    def submit(self, item: In_contra) -> list[Any]:
        """Take one item through all steps; give what comes out of the last."""
        return list(self._push([item], 0))

    def poll(self) -> list[Any]:
        """Give every step the chance to give what is due."""
        return [
            out
            for index, step in enumerate(self._steps)
            for out in self._push(step.poll(), index + 1)
        ]

    def close(self) -> list[Any]:
        """Close the steps in their order, each one's rest going through the next ones."""
        return [
            out
            for index, step in enumerate(self._steps)
            for out in self._push(step.close(), index + 1)
        ]

    def _push(self, items: Iterable[Any], index: int) -> Iterator[Any]:
        if index == len(self._steps):
            yield from items
            return
        step = self._steps[index]
        for item in items:
            yield from self._push(step.submit(item), index + 1)
