"""One owner a partition: leases are shared evenly, end by the store's clock, and fence who stood still."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from hypothesis import given
from hypothesis import strategies as st

from mobius_instrumentation.zones import Zone
from mobius_pipeline.leases import Leases, OustedError
from mobius_pipeline.ledger import Ledger
from mobius_pipeline.status import lag
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.worker import WorkerOptions
from mobius_pipeline.worker.assign import Assignment, LeaseLostError
from mobius_pipeline.worker.batch import BatchLimits
from mobius_pipeline.worker.share import share
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.test_worker import rows, wait_for, working

WORKERS = st.text("abcde", min_size=1, max_size=2)


# ---------------------------------------------------------------------------- who should have what


@given(
    st.integers(0, 12), st.sets(WORKERS, max_size=6), st.dictionaries(st.integers(0, 11), WORKERS)
)
def test_shares_are_even_and_move_as_few_as_that_allows(
    count: int, workers: set[str], holders: dict[int, str]
) -> None:
    given_out = share(range(count), workers, holders)
    if not workers:
        assert given_out == {}
        return
    assert set(given_out) == set(range(count))
    numbers = Counter(dict.fromkeys(workers, 0))
    numbers.update(given_out.values())
    assert set(numbers) == workers
    assert max(numbers.values()) - min(numbers.values()) <= 1
    held = Counter(holders.get(n) for n in range(count) if holders.get(n) in workers)
    kept = sum(given_out[n] == holders.get(n) for n in range(count))
    # No even share can keep more of a worker than its share, and the greater shares go to who holds most.
    least, more = divmod(count, len(workers))
    ranked = sorted((held[worker] for worker in workers), reverse=True)
    assert kept == sum(min(n, least + (rank < more)) for rank, n in enumerate(ranked))
    assert share(range(count), workers, given_out) == given_out


# ---------------------------------------------------------------------------- leases in the store


class Two:
    """Two workers' views of one topic of two partitions."""

    def __init__(
        self, zone: Zone, seconds: float = 30.0, names: tuple[str, str] = ("", "")
    ) -> None:
        topic = uuid4()
        self.a, self.b = (
            Leases(connect(zone, Purpose.INGEST), topic, writer, name=name, seconds=seconds)
            for writer, name in zip("ab", names, strict=True)
        )
        self.first, self.second = (Assignment(leases, (0, 1)) for leases in (self.a, self.b))


@pytest.mark.store
def test_partitions_are_handed_over_one_by_one(zone_factory: ZoneFactory) -> None:
    two = Two(zone_factory(topics=False))
    assert two.first.look() == frozenset()
    assert two.first.gain() == {0, 1}
    assert two.second.look() == frozenset()
    assert two.second.gain() == frozenset()  # both are held, and nobody may take them
    surplus = two.first.look()
    assert len(surplus) == 1
    two.first.release(surplus)
    two.second.look()
    assert two.second.gain() == surplus
    assert two.first.held | two.second.held == {0, 1}
    two.first.leave()
    two.second.look()
    two.second.gain()
    assert two.second.held == {0, 1}
    with pytest.raises(LeaseLostError):
        two.first.until_ms(0)


@pytest.mark.store
def test_lease_that_ended_is_not_renewed_and_goes_to_who_is_there(
    zone_factory: ZoneFactory,
) -> None:
    two = Two(zone_factory(topics=False), seconds=1.0)
    two.first.look()
    two.first.gain()
    lease = two.a.roster().leases[0]
    wait_for(lambda: two.a.roster().leases[0].over)
    with pytest.raises(DatabaseError) as refused:
        two.a.renew([lease])
    assert refused.value.code == 469
    two.second.look()
    assert two.second.gain() == {0, 1}
    assert {each.epoch for each in two.b.roster().leases.values()} == {2}
    with pytest.raises(LeaseLostError):
        two.first.look()


@pytest.mark.store
def test_who_shows_to_be_there_stays_there(zone_factory: ZoneFactory) -> None:
    """Announcements and renewals are alike but for the store's own time, and none may be dropped for that."""
    two = Two(zone_factory(topics=False), seconds=1.5)
    two.first.look()
    two.first.gain()
    begun = two.a.roster().leases[0]
    until = time.monotonic() + 3 * two.a.seconds
    while time.monotonic() < until:
        two.first.look()
        time.sleep(0.1)
    roster = two.b.roster()
    assert list(roster.workers) == ["a"]
    assert roster.leases[0].end_ms >= begun.end_ms + 2_000
    assert (roster.leases[0].epoch, roster.leases[0].taken_ms) == (begun.epoch, begun.taken_ms)


@pytest.mark.store
def test_of_workers_that_race_for_a_partition_one_gets_it(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    topic = uuid4()
    gate = threading.Barrier(4)
    all_leases = [Leases(connect(zone, Purpose.INGEST), topic, f"w{n}") for n in range(4)]

    def race(leases: Leases) -> None:
        gate.wait()
        leases.take(0, 1)

    threads = [threading.Thread(target=race, args=(leases,)) for leases in all_leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({leases.roster().leases[0].writer for leases in all_leases}) == 1
    client = connect(zone, Purpose.ANALYSIS)
    assert client.query("SELECT count() FROM ingest_leases").result_rows == [(1,)]


@pytest.mark.store
def test_restarted_worker_of_a_name_goes_on_at_once(zone_factory: ZoneFactory) -> None:
    two = Two(zone_factory(topics=False), names=("worker-0", "worker-0"))
    two.first.look()
    two.first.gain()
    two.second.look()
    assert two.second.gain() == {0, 1}
    with pytest.raises(OustedError, match="another worker named 'worker-0'"):
        two.first.look()


# ---------------------------------------------------------------------------- a worker that stood still

QUICK = WorkerOptions(limits=BatchLimits(spans=400, seconds=0.05), lease_seconds=2.0)
DATA_TABLES = ("spans", "latency_minute", "trace_times", "quarantine")


def start(zone: Zone, config: Path, failpoint: str, *options: str) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "mobius_infra.cli", "ingest", "--zone", zone.name),
        *("--config", str(config), "--batch-ms", "20", "--lease-seconds", "2", *options),
    ]
    environment = {**os.environ, "MOBIUS_FAILPOINT": failpoint}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def stands_still(process: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def forget_every_token(zone: Zone) -> None:
    client = connect(zone, Purpose.MIGRATE)
    for table in (*DATA_TABLES, "ingest_ledger", "ingest_leases"):
        client.command(
            f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 0"
        )
    client.close()


@pytest.mark.store
@pytest.mark.kafka
@pytest.mark.parametrize("where", ["before_intent", "after_intent", "after_insert"])
def test_stale_owner_cannot_write(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path], where: str
) -> None:
    """It stands still beyond its lease, another goes on, the store forgets all tokens, and then it continues.

    Tokens would make its repetition harmless; here they are gone, so the lease's end alone holds it back.
    """
    zone = zone_factory()
    ids = [os.urandom(8) for _ in range(30)]
    stale = start(zone, zones_file_factory(zone), f"{where}=stop")
    try:
        publish(zone, [(0, make_message(make_resource([make_span(span_id=i)]))) for i in ids])
        wait_for(lambda: stands_still(stale))
        with working(zone, QUICK):
            wait_for(lambda: lag(zone) == 0)
            forget_every_token(zone)
            assert stale.stderr is not None
            stale.send_signal(signal.SIGCONT)
            said: list[str] = []
            while "lease has ended" not in (line := stale.stderr.readline()):
                assert line, said
                said.append(line)
        assert [json.loads(line)["event"] for line in said] == ["reading"]
        assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(ids)
        assert rows(zone, "SELECT sum(requests) FROM latency_minute") == [(len(ids),)]
        ranges = rows(zone, "SELECT first_offset, state FROM ingest_ledger ORDER BY 1, 2")
        assert len(ranges) == len(set(ranges))
    finally:
        stale.kill()
        stale.wait()


@pytest.mark.store
@pytest.mark.kafka
def test_workers_come_and_go_and_each_span_is_there_once(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    ids = [os.urandom(8) for _ in range(2_000)]
    messages: list[tuple[int, bytes | None]] = [
        (n % 2, make_message(make_resource([make_span(span_id=i) for i in ids[n * 10 :][:10]])))
        for n in range(200)
    ]
    options = [replace(QUICK, writer=f"w{n}") for n in range(3)]
    with working(zone, options[0]):
        publish(zone, messages[:60])
        with working(zone, options[1]):
            wait_for(lambda: sorted(held(zone)) == ["w0", "w1"])
            publish(zone, messages[60:120])
            with working(zone, options[2]):
                publish(zone, messages[120:160])
                wait_for(lambda: lag(zone) == 0)
        wait_for(lambda: set(held(zone)) == {"w0"})
        publish(zone, messages[160:])
        wait_for(lambda: lag(zone) == 0)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(ids)
    assert rows(zone, "SELECT sum(requests) FROM latency_minute") == [(2_000,)]
    assert held(zone) == []  # given back, so that nobody need wait


def held(zone: Zone) -> list[str]:
    """Holders of partitions, by the newest epoch of each."""
    newest = rows(
        zone,
        "SELECT argMax(writer, epoch), argMax(state, (epoch, state)) FROM ingest_leases GROUP BY partition",
    )
    return [writer for writer, state in newest if state == "held"]


@pytest.mark.store
@pytest.mark.kafka
def test_range_that_the_store_may_have_forgotten_is_not_repeated(zone_factory: ZoneFactory) -> None:
    """Whether it was stored nobody can tell any more: a person decides, and nothing is stored twice meanwhile."""
    from mobius_pipeline.kafka_client import describe_topic
    from mobius_pipeline.ledger import ForgottenError
    from mobius_pipeline.worker import run_worker

    zone = zone_factory()
    publish(zone, [(0, make_message(make_resource([make_span()])))])
    topic = describe_topic(zone, zone.spans_topic)
    assert topic is not None
    client = connect(zone, Purpose.INGEST)
    Ledger(client, topic, "dead").claim(0, 0, 0, 1)
    time.sleep(0.01)
    client.command(
        "INSERT INTO ingest_ledger (topic, topic_id, partition, first_offset, last_offset, state) "
        f"SELECT '{topic.name}', '{topic.id}', 1, number, number, 'done' FROM numbers(2501)"
    )
    with pytest.raises(ForgottenError, match=r"partition 0 .* offsets 0 to 0 .* 2501 other ranges"):
        run_worker(zone, threading.Event())
    assert rows(zone, "SELECT count() FROM spans") == [(0,)]
