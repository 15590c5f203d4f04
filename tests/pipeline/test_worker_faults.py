"""Whatever the store does, nothing is lost and nothing is there twice, each span by its own id."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
from kafka import errors as kafka_errors

from mobius_instrumentation.zones import Zone
from mobius_pipeline import store
from mobius_pipeline.errors import DependencyError, TerminalError
from mobius_pipeline.faults import CLICKHOUSE, KAFKA, Fault, clickhouse_fault, kafka_fault
from mobius_pipeline.kafka_client import broker_errors
from mobius_pipeline.status import lag
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.worker import WorkerOptions
from mobius_pipeline.worker.batch import BatchLimits
from tests.conftest import ZoneFactory
from tests.faulty_proxy import Failure, faulty_proxy
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.test_worker import rows, wait_for, working

pytestmark = [pytest.mark.store, pytest.mark.kafka]

TINY = WorkerOptions(limits=BatchLimits(spans=20, seconds=0.05))


def publish_spans(zone: Zone, count: int) -> list[bytes]:
    ids = [os.urandom(8) for _ in range(count)]
    publish(
        zone,
        [
            (
                n % 2,
                make_message(
                    make_resource([make_span(span_id=each) for each in ids[begin : begin + 10]])
                ),
            )
            for n, begin in enumerate(range(0, count, 10))
        ],
    )
    return ids


def assert_once_each(zone: Zone, ids: list[bytes]) -> None:
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(ids)
    assert rows(
        zone, "SELECT sum(requests), sum(arraySum(mapValues(buckets))) FROM latency_minute"
    ) == [(len(ids), float(len(ids)))]


def run_through_failures(
    zone: Zone,
    ids: list[bytes],
    failures: list[Failure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Let every second insert of spans suffer the next failure, and the ledger's writes too, until none is left."""
    monkeypatch.setitem(store._TIMEOUT_SECONDS, Purpose.INGEST, 1)
    left = list(failures)
    writes = 0

    def plan(request: bytes) -> Failure | None:
        nonlocal writes
        if b"INSERT" not in request or not left:
            return None
        writes += 1
        return None if writes % 2 else left.pop(0)

    with (
        faulty_proxy(zone.clickhouse, plan, hold=1.3) as url,
        working(replace(zone, clickhouse=url), TINY) as worker,
    ):
        wait_for(lambda: not worker.is_alive() or (not left and lag(zone) == 0), 100)
    assert_once_each(zone, ids)


def test_store_that_hangs_resets_and_refuses(
    zone_factory: ZoneFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = zone_factory()
    failures: list[Failure] = [*get_args(Failure)]
    run_through_failures(zone, publish_spans(zone, 240), failures, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("failure", get_args(Failure))
def test_store_that_fails_one_way_again_and_again(
    zone_factory: ZoneFactory, monkeypatch: pytest.MonkeyPatch, failure: Failure
) -> None:
    zone = zone_factory()
    run_through_failures(zone, publish_spans(zone, 2_000), [failure] * 20, monkeypatch)


def command(zone: Zone, statement: str) -> None:
    client = connect(zone, Purpose.MIGRATE)
    client.command(statement)
    client.close()


def too_many_parts(zone: Zone) -> Callable[[], None]:
    command(zone, "SYSTEM STOP MERGES spans")
    command(zone, "ALTER TABLE spans MODIFY SETTING parts_to_throw_insert = 1")

    def repair() -> None:
        command(zone, "ALTER TABLE spans RESET SETTING parts_to_throw_insert")
        command(zone, "SYSTEM START MERGES spans")

    return repair


def missing_table(zone: Zone) -> Callable[[], None]:
    command(zone, "RENAME TABLE latency_minute TO away")
    return lambda: command(zone, "RENAME TABLE away TO latency_minute")


def read_only_table(zone: Zone) -> Callable[[], None]:
    command(zone, "ALTER TABLE latency_minute MODIFY SETTING table_readonly = 1")
    return lambda: command(zone, "ALTER TABLE latency_minute RESET SETTING table_readonly")


@pytest.mark.parametrize("break_store", [too_many_parts, missing_table, read_only_table])
def test_table_that_takes_nothing_for_a_while(
    zone_factory: ZoneFactory, break_store: Callable[[Zone], Callable[[], None]]
) -> None:
    """The worker waits, begins again at the ledger, and goes on when the table is back; the engine is real."""
    zone = zone_factory()
    ids = publish_spans(zone, 20)
    with working(zone, TINY) as worker:
        wait_for(lambda: lag(zone) == 0)
        repair = break_store(zone)
        ids += publish_spans(zone, 100)
        wait_for(lambda: refused_intents(zone) >= 1)
        assert lag(zone)
        assert worker.is_alive()
        repair()
        wait_for(lambda: lag(zone) == 0)
    assert_once_each(zone, ids)


def refused_intents(zone: Zone) -> int:
    """Ranges that are claimed and not stored."""
    (count,) = rows(
        zone,
        "SELECT uniqIf((partition, first_offset), state = 'intent') - countIf(state = 'done') FROM ingest_ledger",
    )[0]
    return int(count)


# ---------------------------------------------------------------------------- the table of codes


def test_codes_have_the_names_that_the_engine_gives_them(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = connect(zone, Purpose.ANALYSIS)
    found = client.query(
        "SELECT arrayJoin({codes:Array(Int32)}) AS code, errorCodeToName(code)",
        parameters={"codes": list(CLICKHOUSE)},
    ).result_rows
    client.close()
    assert {int(code): str(name) for code, name in found} == {
        code: name for code, (name, _, _) in CLICKHOUSE.items()
    }
    assert all(reason for _, _, reason in CLICKHOUSE.values())


def test_what_is_not_known_is_waited_for() -> None:
    assert clickhouse_fault(None) is clickhouse_fault(123_456) is Fault.TRANSIENT
    assert clickhouse_fault(252) is clickhouse_fault(241) is Fault.TRANSIENT
    assert clickhouse_fault(164) is Fault.TERMINAL
    assert clickhouse_fault(444) is Fault.POISON
    assert kafka_fault(OSError()) is kafka_fault(kafka_errors.KafkaError()) is Fault.TRANSIENT
    assert kafka_fault(kafka_errors.TopicAuthorizationFailedError()) is Fault.TERMINAL
    # What the client itself would try again must never stop the worker.
    assert not [
        kind
        for kind, fault, _ in KAFKA
        if fault is not Fault.TRANSIENT and getattr(kind, "retriable", False)
    ]


def test_broker_errors_keep_the_difference(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    with pytest.raises(DependencyError), broker_errors(zone):
        raise kafka_errors.NotLeaderForPartitionError
    with pytest.raises(TerminalError, match="TopicAuthorizationFailed"), broker_errors(zone):
        raise kafka_errors.TopicAuthorizationFailedError
