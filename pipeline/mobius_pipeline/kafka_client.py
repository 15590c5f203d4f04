"""Everything that this part asks of a Kafka broker, in one place: topics, their identity, and exact ends.

Works alike on Apache Kafka and on the embedded broker (Tansu), whose traps it hides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewTopic
from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
)

from mobius_instrumentation.kafka_options import kafka_settings
from mobius_instrumentation.kafka_probe import connection_remedy, knock, reason_of
from mobius_instrumentation.zone_variables import VariableError
from mobius_instrumentation.zones import Zone
from mobius_pipeline.config import variables
from mobius_pipeline.errors import DependencyError, TerminalError, UsageError
from mobius_pipeline.faults import Fault, kafka_fault
from mobius_pipeline.record_headers import read_headers_leniently

__all__ = [
    "REFUSED_SIZES",
    "Topic",
    "broker_errors",
    "content_encoding",
    "describe_topic",
    "end_offsets",
    "ensure_topics",
    "open_admin",
    "open_consumer",
    "open_producer",
]

# Its own log repeats each failed connection; callers report what matters.
logging.getLogger("kafka").setLevel(logging.CRITICAL)
read_headers_leniently()

_TIMEOUT_MS: Final = 10_000
_POLL_MS: Final = 200
_LARGEST: Final = "max.message.bytes"
# Room for a dead letter's key, headers and reason.
_LETTER_BYTES: Final = 65_536

REFUSED_SIZES: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
"""Errors that say that a message is larger than its topic takes."""


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
        reason = reason_of(error)
        if kafka_fault(error) is not Fault.TRANSIENT:
            raise TerminalError(
                f"the Kafka broker of zone {zone.name} refused ({type(error).__name__}): {reason}"
            ) from error
        raise DependencyError(
            f"the Kafka broker of zone {zone.name}",
            ", ".join(zone.kafka),
            reason=reason,
            remedy=connection_remedy(zone.name, error),
        ) from error


def _settings(zone: Zone) -> dict[str, Any]:
    """Addresses, TLS and password, as every client of the zone's brokers needs them."""
    try:
        return kafka_settings(zone, variables())
    except VariableError as error:
        raise UsageError(error.problem, field=error.variable) from None


def open_admin(zone: Zone) -> Any:
    """Open an admin client; the first that a command or a worker opens, so it finds out whether there is a broker.

    Raises
    ------
    UsageError
        A variable of the zone's Kafka is wrong; names it.
    DependencyError
        The broker does not answer, or does not take us; says why.
    """
    settings = _settings(zone) | {"client_id": "mobius-rum"}
    with broker_errors(zone):
        knock(settings, _TIMEOUT_MS / 1000)
        return KafkaAdminClient(
            **settings,
            request_timeout_ms=_TIMEOUT_MS,
            bootstrap_timeout_ms=_TIMEOUT_MS,
        )


@contextmanager
def _admin(zone: Zone) -> Iterator[Any]:
    admin = open_admin(zone)
    with broker_errors(zone):
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

    The dead-letter topic takes messages that are larger than those of the spans' topic by what a dead letter carries
    besides: otherwise a message that just fitted could not be declared dead.

    Raises
    ------
    DependencyError
        The broker does not answer.
    TerminalError
        The broker refuses.
    """
    with _admin(zone) as admin:
        for name, count in ((zone.spans_topic, partitions), (zone.dead_letters_topic, 1)):
            try:
                admin.create_topics([NewTopic(name, count, replication)])
            except TopicAlreadyExistsError:
                continue
        limit = _largest_message(admin, zone.spans_topic)
        own = _largest_message(admin, zone.dead_letters_topic)
        if limit is not None and own is not None and own < limit + _LETTER_BYTES:
            wanted = {_LARGEST: str(limit + _LETTER_BYTES)}
            answer = admin.alter_configs(
                [ConfigResource("topic", zone.dead_letters_topic, wanted)],
                # It knows settings that have been changed before alone.
                raise_on_unknown=False,
            )
            said = answer["topic"][zone.dead_letters_topic]
            if said != "OK":
                raise TerminalError(
                    f"the Kafka broker of zone {zone.name} does not let {zone.dead_letters_topic} take {wanted[_LARGEST]} "
                    f"bytes a message ({said}): raise its limit, or lower {_LARGEST} of {zone.spans_topic}"
                )


def _largest_message(admin: Any, name: str) -> int | None:
    """Bytes that a batch of the topic may have; None where the broker does not tell.

    The embedded broker hangs up on the question, and knows no limit. A new topic's answer comes a moment late.
    """
    deadline = time.monotonic() + _TIMEOUT_MS / 1000
    while time.monotonic() < deadline:
        try:
            found = admin.describe_configs(
                [ConfigResource("topic", name, [_LARGEST])], config_filter="all"
            )
        except KafkaConnectionError:
            # One that is away fails the next request, too.
            admin.describe_topics([name])
            return None
        if _LARGEST in found["topic"].get(name, {}):
            return int(found["topic"][name][_LARGEST]["value"])
        time.sleep(_POLL_MS / 1000)
    return None


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
        **_settings(zone),
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


def open_producer(zone: Zone, **options: Any) -> Any:
    """Open a producer whose messages count as sent when no single broker can lose them.

    Raises
    ------
    DependencyError
        The broker does not answer.
    """
    settings: dict[str, Any] = {
        **_settings(zone),
        "client_id": "mobius-rum",
        "acks": "all",
        "enable_idempotence": True,
        "bootstrap_timeout_ms": _TIMEOUT_MS,
        "request_timeout_ms": _TIMEOUT_MS,
    }
    with broker_errors(zone):
        return KafkaProducer(**{**settings, **options})


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
