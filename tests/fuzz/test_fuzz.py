"""The properties of all fuzz targets on inputs that are the same in every run; `make fuzz` goes on for hours."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.draw import Draw
from tests.fuzz.engine import close_engine
from tests.fuzz.engine_span_target import EngineError, store
from tests.fuzz.otlp_wire import message
from tests.fuzz.target import ENGINE_TARGETS, TARGETS, load
from tests.pipeline.otlp import make_message, make_resource, make_span

SEEDS = {name: list(load(name).seeds()) for name in TARGETS}


@st.composite
def damaged_seeds(draw: st.DrawFn, name: str) -> bytes:
    """A seed of the target with up to four pieces taken out, put in or put elsewhere."""
    value = draw(st.sampled_from(SEEDS[name]))
    for _ in range(draw(st.integers(0, 4))):
        begin, end, place = (draw(st.integers(0, len(value))) for _ in range(3))
        piece = draw(st.one_of(st.binary(max_size=8), st.just(value[place : place + 20])))
        value = value[: min(begin, end)] + piece + value[min(begin, end) + abs(end - begin) % 9 :]
    return value


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_keeps_the_properties_and_some_are_accepted(name: str) -> None:
    target = load(name)
    assert sum(target.check(seed) for seed in SEEDS[name]) > 0


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_properties_hold_for_any_input(name: str, data: st.DataObject) -> None:
    load(name).check(data.draw(st.one_of(st.binary(max_size=400), damaged_seeds(name))))


# ---------------------------------------------------------------------------- against a store


@pytest.fixture(scope="module")
def _store() -> Iterator[None]:
    yield
    close_engine()


@pytest.mark.store
@pytest.mark.usefixtures("_store")
@pytest.mark.parametrize("name", ENGINE_TARGETS)
def test_the_store_keeps_the_properties_for_seeds_and_random_decisions(name: str) -> None:
    target = load(name)
    numbers = random.Random(7)
    inputs = [*target.seeds(), *(numbers.randbytes(300) for _ in range(10))]
    assert sum(target.check(data) for data in inputs) >= 8


@pytest.mark.store
@pytest.mark.usefixtures("_store")
def test_the_check_of_the_store_can_fail() -> None:
    good = make_message(make_resource([make_span(), make_span()]))
    store([(good, 2, False)])
    with pytest.raises(EngineError, match="2 stored, 0 in quarantine, of 3 spans"):
        store([(good, 3, True)])
    with pytest.raises(EngineError, match="refused: the store cannot read it"):
        store([(good, 2, False), (good + b"\x08\x01", 2, False)])
    foreign = make_message(make_resource([make_span()], region="us-east-1"))
    with pytest.raises(EngineError, match="stored under the regions"):
        store([(foreign, 1, True)])


def test_messages_of_decisions_are_mostly_well_formed_and_not_always() -> None:
    numbers = random.Random(3)
    target = load("wire")
    accepted = sum(target.check(b"\x04" + numbers.randbytes(200)) for _ in range(300))
    assert 60 < accepted < 290
    assert message(Draw(b"")) == message(Draw(b""))
