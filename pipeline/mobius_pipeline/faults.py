"""What to do about each error of ClickHouse and Kafka: one table, with the reason beside every line.

- *transient*: the same work may succeed later. The worker waits (jittered, longer each time, ended by a stop) and
  begins again at the ledger; nothing is lost meanwhile, because nothing is skipped.
- *terminal*: a person has to act, and the same work would be refused until then. The worker stops with exit code 1.
- *poison*: the bytes themselves are refused. The message at fault is found and goes to the dead letters.

An error that stands in no line is transient: waiting loses nothing, giving up or diverting might.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from kafka import errors as kafka

__all__ = ["CLICKHOUSE", "KAFKA", "Fault", "clickhouse_fault", "kafka_fault"]


class Fault(Enum):
    """What an error calls for."""

    TRANSIENT = "transient"
    TERMINAL = "terminal"
    POISON = "poison"


_WAIT: Final = Fault.TRANSIENT
_STOP: Final = Fault.TERMINAL
_DATA: Final = Fault.POISON

# Code, as the engine's errorCodeToName() calls it, what to do, why.
CLICKHOUSE: Final[dict[int, tuple[str, Fault, str]]] = {
    6: ("CANNOT_PARSE_TEXT", _DATA, "a value cannot be read"),
    16: ("NO_SUCH_COLUMN_IN_TABLE", _WAIT, "worker newer than schema: migrate runs beside it"),
    27: ("CANNOT_PARSE_INPUT_ASSERTION_FAILED", _DATA, "the format is broken"),
    32: ("ATTEMPT_TO_READ_AFTER_EOF", _DATA, "a message ends too early"),
    33: ("CANNOT_READ_ALL_DATA", _DATA, "a message ends too early"),
    36: ("BAD_ARGUMENTS", _DATA, "protobuf with two values where one belongs"),
    38: ("CANNOT_PARSE_DATE", _DATA, "a value cannot be read"),
    41: ("CANNOT_PARSE_DATETIME", _DATA, "a value cannot be read"),
    43: ("ILLEGAL_TYPE_OF_ARGUMENT", _STOP, "a view or statement is wrong for every message"),
    46: ("UNKNOWN_FUNCTION", _STOP, "engine too old for a view; wrong for every message"),
    47: ("UNKNOWN_IDENTIFIER", _STOP, "a view or statement is wrong for every message"),
    53: ("TYPE_MISMATCH", _STOP, "a view or statement is wrong for every message"),
    60: ("UNKNOWN_TABLE", _WAIT, "not migrated yet, or being restored"),
    62: ("SYNTAX_ERROR", _STOP, "our own statement; the next try is the same"),
    69: ("ARGUMENT_OUT_OF_BOUND", _DATA, "a value that a function refuses"),
    70: ("CANNOT_CONVERT_TYPE", _DATA, "a value that its column cannot hold"),
    72: ("CANNOT_PARSE_NUMBER", _DATA, "a value cannot be read"),
    73: ("UNKNOWN_FORMAT", _STOP, "the engine was built without Protobuf"),
    75: ("CANNOT_WRITE_TO_FILE_DESCRIPTOR", _WAIT, "the server's disk or kernel"),
    76: ("CANNOT_OPEN_FILE", _WAIT, "the server's disk or kernel"),
    81: ("UNKNOWN_DATABASE", _WAIT, "not migrated yet, or being restored"),
    115: ("UNKNOWN_SETTING", _STOP, "engine too old; exactly-once needs each setting"),
    117: ("INCORRECT_DATA", _DATA, "the format is broken"),
    128: ("TOO_LARGE_ARRAY_SIZE", _DATA, "one value alone is beyond the engine's bounds"),
    131: ("TOO_LARGE_STRING_SIZE", _DATA, "one value alone is beyond the engine's bounds"),
    159: ("TIMEOUT_EXCEEDED", _WAIT, "a busy server"),
    160: ("TOO_SLOW", _WAIT, "a busy server"),
    164: ("READONLY", _STOP, "the user may not write: rights, not the table's state"),
    173: ("CANNOT_ALLOCATE_MEMORY", _WAIT, "a busy server"),
    201: ("QUOTA_EXCEEDED", _WAIT, "quotas are per interval"),
    202: ("TOO_MANY_SIMULTANEOUS_QUERIES", _WAIT, "a busy server"),
    203: ("NO_FREE_CONNECTION", _WAIT, "a busy server"),
    209: ("SOCKET_TIMEOUT", _WAIT, "network"),
    210: ("NETWORK_ERROR", _WAIT, "network"),
    218: ("TABLE_IS_DROPPED", _WAIT, "being made anew by a restore"),
    225: ("NO_ZOOKEEPER", _WAIT, "the keeper is away; replicas are read-only until it is back"),
    236: ("ABORTED", _WAIT, "the server stops"),
    241: ("MEMORY_LIMIT_EXCEEDED", _WAIT, "others' queries; sizes of messages are limited before"),
    242: ("TABLE_IS_READ_ONLY", _WAIT, "a replica that lost its keeper comes back by itself"),
    243: ("NOT_ENOUGH_SPACE", _WAIT, "a full disk: merges, retention or a person free it"),
    252: ("TOO_MANY_PARTS", _WAIT, "merges catch up while we wait"),
    285: ("TOO_FEW_LIVE_REPLICAS", _WAIT, "replicas come back"),
    286: ("UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", _WAIT, "replicas come back"),
    319: ("UNKNOWN_STATUS_OF_INSERT", _WAIT, "stored or not: the token makes the repeat safe"),
    321: ("VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", _DATA, "a value that its column cannot hold"),
    349: ("CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", _DATA, "a value that its column cannot hold"),
    394: ("QUERY_WAS_CANCELLED", _WAIT, "an operator or a restart ended it; the token holds"),
    396: ("TOO_MANY_ROWS_OR_BYTES", _WAIT, "a limit of the server that a person can raise"),
    407: ("DECIMAL_OVERFLOW", _DATA, "a value that its column cannot hold"),
    425: ("SYSTEM_ERROR", _WAIT, "the server's disk or kernel"),
    436: ("PROTOBUF_BAD_CAST", _DATA, "a value that its column cannot hold"),
    444: ("UNKNOWN_PROTOBUF_FORMAT", _DATA, "protobuf that the engine reads otherwise than we do"),
    469: ("VIOLATED_CONSTRAINT", _WAIT, "the lease ended before the engine began: begin again"),
    497: ("ACCESS_DENIED", _STOP, "the user lacks a right"),
    499: ("S3_ERROR", _WAIT, "the object store behind it"),
    516: ("AUTHENTICATION_FAILED", _WAIT, "passwords are rotated on both sides, one after another"),
    692: ("TOO_MANY_MUTATIONS", _WAIT, "mutations finish"),
    999: ("KEEPER_EXCEPTION", _WAIT, "the keeper is away"),
    1001: ("STD_EXCEPTION", _WAIT, "a disk without room for another file, above all"),
}

# The first class that an error is of decides; what is of none is transient.
KAFKA: Final[tuple[tuple[type[Exception], Fault, str], ...]] = (
    (
        kafka.OffsetOutOfRangeError,
        _STOP,
        "messages are gone before they were stored; never skipped",
    ),
    (kafka.TopicAuthorizationFailedError, _STOP, "the user lacks a right"),
    (kafka.GroupAuthorizationFailedError, _STOP, "the user lacks a right"),
    (kafka.ClusterAuthorizationFailedError, _STOP, "the user lacks a right"),
    (kafka.InvalidTopicError, _STOP, "a name that no broker takes"),
    (kafka.UnsupportedVersionError, _STOP, "a broker too old"),
    (
        kafka.MessageSizeTooLargeError,
        _STOP,
        "the dead-letter topic takes less than the spans' topic",
    ),
    (
        kafka.RecordListTooLargeError,
        _STOP,
        "the dead-letter topic takes less than the spans' topic",
    ),
    (kafka.SaslAuthenticationFailedError, _WAIT, "passwords are rotated on both sides"),
    (kafka.UnsupportedSaslMechanismError, _STOP, "the broker offers other mechanisms"),
    (kafka.NotLeaderForPartitionError, _WAIT, "an election"),
    (kafka.UnknownTopicOrPartitionError, _WAIT, "made by migrate, or not known everywhere yet"),
    (kafka.NotEnoughReplicasError, _WAIT, "replicas come back"),
    (kafka.KafkaTimeoutError, _WAIT, "a busy or absent broker"),
    (kafka.KafkaConnectionError, _WAIT, "network"),
    # Not poison: the broker checks records as it takes them, so this happened on the way or on a replica.
    (kafka.CorruptRecordError, _WAIT, "a damaged fetch; fetched again"),
)


def clickhouse_fault(code: int | None) -> Fault:
    """What the engine's error ``code`` calls for; None (no answer at all) is transient."""
    return CLICKHOUSE[code][1] if code in CLICKHOUSE else Fault.TRANSIENT


def kafka_fault(error: Exception) -> Fault:
    """What an error of the Kafka client calls for."""
    return next((fault for kind, fault, _ in KAFKA if isinstance(error, kind)), Fault.TRANSIENT)
