"""Everything that this part asks of a Kafka broker, in one place: topics, their identity, and exact ends.

Works alike on Apache Kafka and on the embedded broker (Tansu), whose traps it hides.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, TerminalError
from mobius_pipeline.faults import Fault, kafka_fault

__all__ = [
    "Topic",
    "broker_errors",
    "content_encoding",
    "describe_topic",
    "end_offsets",
    "ensure_topics",
    "open_consumer",
]

# Its own log repeats each failed connection; callers report what matters.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

_TIMEOUT_MS: Final = 10_000
_POLL_MS: Final = 200


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic with its identity: a topic that was deleted and made anew has another ``id``."""

    name: str
    id: UUID
    partitions: tuple[int, ...]


@contextmanager
def broker_errors(zone: Zone) -> Iterator[None]:
    """Turn the client's errors into one that names the broker.

    Raises
    ------
    DependencyError
        In place of any error of the Kafka client or of its connection that may pass.
    TerminalError
        In place of one that lasts until a person acts (:mod:`mobius_pipeline.faults`).
    """
    try:
        yield
    except (KafkaError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        if kafka_fault(error) is not Fault.TRANSIENT:
            raise TerminalError(
                f"the Kafka broker of zone {zone.name} refused ({type(error).__name__}): {reason}"
            ) from error
        raise DependencyError(
            f"the Kafka broker of zone {zone.name}", ", ".join(zone.kafka), reason=reason
        ) from error


def _knock(zone: Zone) -> None:
    """Raise at once when every bootstrap address refuses; the client itself would try again for its whole time-out."""
    refusal: OSError = OSError("no bootstrap address")
    for address in zone.kafka:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection(
                (host.strip("[]"), int(port)), timeout=_TIMEOUT_MS / 1000
            ).close()
        except OSError as error:
            refusal = error
        else:
            return
    raise refusal


@contextmanager
def _admin(zone: Zone) -> Iterator[Any]:
    with broker_errors(zone):
        _knock(zone)
        admin = KafkaAdminClient(
            bootstrap_servers=list(zone.kafka),
            client_id="mobius-rum",
            request_timeout_ms=_TIMEOUT_MS,
            bootstrap_timeout_ms=_TIMEOUT_MS,
        )
        try:
            yield admin
        finally:
            admin.close()


def content_encoding(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """Value of a record's header ``content-encoding`` in lower case; "" where it has none."""
    for name, value in headers:
        if name.lower() == "content-encoding":
            return (value or b"").decode("ascii", "replace").strip().lower()
    return ""


def ensure_topics(zone: Zone, *, partitions: int = 2, replication: int = 1) -> None:
    """Make the zone's topics of spans and of dead letters where they are missing.

    Raises
    ------
    DependencyError
        The broker does not answer.
    """
    with _admin(zone) as admin:
        for name, count in ((zone.spans_topic, partitions), (zone.dead_letters_topic, 1)):
            try:
                admin.create_topics([NewTopic(name, count, replication)])
            except TopicAlreadyExistsError:
                continue


def describe_topic(zone: Zone, name: str) -> Topic | None:
    """Identity and partitions of a topic; None when the broker has no such topic.

    Raises
    ------
    DependencyError
        The broker does not answer.
    """
    with _admin(zone) as admin:
        return topic_from(admin, name)


def topic_from(admin: Any, name: str) -> Topic | None:
    """As :func:`describe_topic`, over an admin client that is open already; raises the client's own errors."""
    (found,) = admin.describe_topics([name])
    if found["error_code"] or not found["topic_id"]:
        return None
    numbers = sorted(int(part["partition_index"]) for part in found["partitions"])
    return Topic(name, UUID(str(found["topic_id"])), tuple(numbers))


def open_consumer(zone: Zone, **options: Any) -> Any:
    """Open a consumer without a group, which reads only where it is told to.

    Raises
    ------
    DependencyError
        The broker does not answer.
    """
    settings: dict[str, Any] = {
        "bootstrap_servers": list(zone.kafka),
        "client_id": "mobius-rum",
        "group_id": None,
        "enable_auto_commit": False,
        # An offset that the broker no longer has is an error, never a silent jump.
        "auto_offset_reset": "none",
        # Tansu answers wrongly below 500.
        "fetch_max_wait_ms": 500,
        # The records' checksum is that of a loopback or TLS connection's again; protobuf is checked later anyway.
        "check_crcs": True,
        "request_timeout_ms": 30_000,
    }
    with broker_errors(zone):
        return KafkaConsumer(**{**settings, **options})


def end_offsets(zone: Zone, name: str, partitions: Iterable[int]) -> Mapping[int, int]:
    """Exact offset after the last record of each partition.

    ListOffsets is not enough: Tansu answers with the *first* offset of the last batch plus one. A fetch carries the
    high watermark, which is exact, so this reads the last batch of each partition and takes it from there.

    Raises
    ------
    DependencyError
        The broker does not answer in time.
    """
    consumer = open_consumer(zone)
    with broker_errors(zone):
        try:
            listed = {
                key.partition: int(value)
                for key, value in consumer.end_offsets(
                    [TopicPartition(name, number) for number in partitions]
                ).items()
            }
            return {
                number: _watermark(zone, consumer, name, number, end)
                for number, end in listed.items()
            }
        finally:
            consumer.close()


def _watermark(zone: Zone, consumer: Any, name: str, number: int, listed: int) -> int:
    if listed == 0:
        return 0
    partition = TopicPartition(name, number)
    consumer.assign([partition])
    consumer.seek(partition, listed - 1)
    deadline = time.monotonic() + _TIMEOUT_MS / 1000
    while time.monotonic() < deadline:
        consumer.poll(_POLL_MS, max_records=1)
        if (end := consumer.highwater(partition)) is not None:
            return max(int(end), listed)
    raise DependencyError(
        f"the Kafka broker of zone {zone.name}",
        ", ".join(zone.kafka),
        reason="no answer to a fetch",
    )
