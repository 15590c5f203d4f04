"""The fault campaign's pure parts: the plan, the spans, the second rollup, and that the comparison can see."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, get_args

import pytest

from mobius_infra.torture.actions import ACTIONS
from mobius_infra.torture.compare import Stored, compare
from mobius_infra.torture.faults import KILLS, NAMED, Fault, TortureOptions, read_faults
from mobius_infra.torture.plan import make_plan
from mobius_infra.torture.rollup import Cell
from mobius_infra.torture.span_messages import Made, make_messages
from mobius_infra.torture.truth import Truth, read_record
from mobius_pipeline.errors import UsageError

BEGIN_NS = 1_700_000_040_000_000_000


def options(**changes: Any) -> TortureOptions:
    values: dict[str, Any] = {
        "kills": 20,
        "spans": 50_000,
        "broker": "kafka",
        "workers": 3,
        "seed": 7,
        "faults": read_faults(None),
        "joins": 2,
    }
    return TortureOptions(**{**values, **changes})


def messages(seed: int = 3, spans: int = 5000) -> list[Made]:
    return list(make_messages(seed, spans, 4, BEGIN_NS))


def truth_of(made: list[Made]) -> Truth:
    truth = Truth()
    for message in made:
        read_record(truth, (message.partition, message.number), message.value)
    return truth


def copy_of(truth: Truth) -> Stored:
    return Stored(
        {place: array("Q", numbers) for place, numbers in truth.spans.items()},
        {
            key: Cell(
                cell.requests,
                cell.errors,
                cell.weight,
                cell.weight_squared,
                cell.error_weight,
                dict(cell.buckets),
                dict(cell.buckets_squared),
            )
            for key, cell in truth.rollup.items()
        },
        Counter(truth.dead),
        Counter(truth.quarantined),
    )


@pytest.mark.parametrize("kills", [20, 200])
def test_a_plan_has_as_many_kills_as_asked_and_each_named_fault(kills: int) -> None:
    plan = make_plan(options(kills=kills))
    faults = Counter(event.fault for event in plan)
    assert sum(faults[fault] for fault in KILLS) == kills
    assert all(faults[fault] for fault in KILLS)
    assert set(NAMED) <= set(faults)
    assert faults["join"] == faults["leave"] == 2
    assert faults["pause"] == faults["pause_after_intent"] == faults["pause_after_insert"] == 1


def test_a_plan_goes_forward_and_leaves_work_for_its_last_fault() -> None:
    plan = make_plan(options(kills=200, joins=30, store_away_seconds=600.0))
    shares = [event.share for event in plan]
    assert shares == sorted(shares)
    assert shares[-1] < 0.9
    assert all(event.worker < 3 for event in plan)
    assert sum(event.fault == "store_away" for event in plan) == 1


def test_the_same_seed_gives_the_same_plan() -> None:
    assert make_plan(options()) == make_plan(options())
    assert make_plan(options()) != make_plan(options(seed=8))


def test_kills_of_the_broker_are_as_many_as_asked() -> None:
    plan = make_plan(options(kills=20, broker_kills=20))
    assert sum(event.fault == "broker_kill" for event in plan) == 20
    assert not [e for e in plan if e.fault in KILLS and e.fault != "broker_kill"]


def test_a_broker_in_memory_is_not_killed() -> None:
    assert "broker_kill" not in {event.fault for event in make_plan(options(broker="tansu"))}
    with pytest.raises(UsageError, match="--broker-kills"):
        make_plan(options(broker="tansu", broker_kills=1))


def test_faults_are_those_asked_for() -> None:
    plan = make_plan(options(faults=read_faults("worker_kill, store_kill"), joins=0))
    assert {event.fault for event in plan} == {"worker_kill", "store_kill"}
    with pytest.raises(UsageError, match=r"--faults: no fault 'fire'; known: worker_kill"):
        read_faults("fire")
    with pytest.raises(UsageError, match="no kind of kill"):
        make_plan(options(faults=read_faults("pause")))


def test_every_fault_has_its_action() -> None:
    assert set(ACTIONS) | {"during_migration"} == set(get_args(Fault))


def test_spans_are_exactly_those_asked_for_and_the_same_for_a_seed() -> None:
    made = messages()
    truth = truth_of(made)
    numbers = sorted(number for found in truth.spans.values() for number in found)
    assert numbers == list(range(1, 5001))
    assert truth.missing(5000) == 0
    assert truth.missing(5001) == 1
    assert truth.twice() == 0
    assert made == messages()
    assert made != messages(seed=4)


def test_messages_to_divert_are_planted() -> None:
    made = messages()
    truth = truth_of(made)
    assert Counter(message.planted for message in made if message.planted) == {
        "poison": 4,
        "foreign": 4,
        "absurd": 4,
    }
    assert len(truth.dead) == 4
    assert Counter(reason for _, reason, _ in truth.quarantined) == {
        "region is not of this zone": 4,
        "negative duration": 4,
    }


def test_what_the_broker_has_twice_is_the_brokers() -> None:
    made = messages()
    truth = truth_of(made)
    again = next(message for message in made if message.spans)
    read_record(truth, (0, 99_999), again.value)
    assert truth.twice() == again.spans
    assert truth.produced == 5000 + again.spans
    assert compare(truth, copy_of(truth)).clean


def test_weights_and_buckets_are_those_of_the_specification() -> None:
    truth = truth_of(messages())
    cells = list(truth.rollup.values())
    # Thresholds none, 8, c and e reject 0, 1/2, 3/4 and 7/8.
    assert {cell.weight for cell in cells if cell.requests == 1} == {1.0, 2.0, 4.0, 8.0}
    assert all(cell.weight == sum(cell.buckets.values()) for cell in cells)
    assert min(min(cell.buckets) for cell in cells) == -320
    assert max(max(cell.buckets) for cell in cells) == 64


def test_the_same_is_clean() -> None:
    truth = truth_of(messages())
    verdict = compare(truth, copy_of(truth))
    assert verdict.clean
    assert verdict.rollup_error == 0


def test_sees_a_lost_and_a_doubled_span() -> None:
    truth = truth_of(messages())
    stored = copy_of(truth)
    places = [place for place, numbers in stored.spans.items() if len(numbers) > 1]
    gone = stored.spans[places[0]].pop()
    stored.spans[places[1]].append(twice := stored.spans[places[1]][0])
    verdict = compare(truth, stored)
    assert verdict.lost == ((places[0], gone),)
    assert verdict.duplicated == ((places[1], twice),)
    assert not verdict.clean


def test_sees_a_span_under_another_records_position() -> None:
    truth = truth_of(messages())
    stored = copy_of(truth)
    place = next(iter(stored.spans))
    stored.spans[place[0], 99_999] = stored.spans.pop(place)
    verdict = compare(truth, stored)
    assert len(verdict.lost) == len(verdict.duplicated) == len(truth.spans[place])


@pytest.mark.parametrize("field", ["requests", "errors", "weight", "error_weight"])
def test_sees_each_number_of_the_rollup(field: str) -> None:
    truth = truth_of(messages())
    stored = copy_of(truth)
    cell = next(iter(stored.rollup.values()))
    setattr(cell, field, getattr(cell, field) + 2)
    verdict = compare(truth, stored)
    assert verdict.rollup_error == 2
    assert len(verdict.rollup_lines) == 1
    assert not verdict.clean


def test_sees_a_bucket_and_a_row_that_are_wrong() -> None:
    truth = truth_of(messages())
    stored = copy_of(truth)
    cell = next(iter(stored.rollup.values()))
    bucket, weight = cell.buckets.popitem()
    cell.buckets[bucket + 1] = cell.buckets.get(bucket + 1, 0.0) + weight
    assert compare(truth, stored).rollup_error == 2 * weight
    stored.rollup.clear()
    assert compare(truth, stored).rollup_error > sum(c.requests for c in truth.rollup.values())


def test_sees_a_diverted_record_that_is_missing_or_there_twice() -> None:
    truth = truth_of(messages())
    stored = copy_of(truth)
    stored.dead[next(iter(truth.dead))] += 1
    del stored.quarantined[next(iter(truth.quarantined))]
    verdict = compare(truth, stored)
    assert len(verdict.dead_letters_wrong) == 1
    assert len(verdict.quarantine_wrong) == 1
    assert not verdict.clean
