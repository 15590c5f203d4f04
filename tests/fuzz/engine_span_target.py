"""What the worker accepts, the store either holds completely or refuses as poison; it never fails otherwise.

Bodies are inserted several at a time, as the worker does it, so a refused one is also searched for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clickhouse_connect.driver.exceptions import DatabaseError

from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, WireError, decode, envelope, parse
from mobius_pipeline.worker.isolate import find_refused, is_poison
from mobius_pipeline.worker.route import Route
from mobius_pipeline.worker.steps import Checked, Message
from tests.fuzz import span_file_target, wire_target
from tests.fuzz.draw import Draw
from tests.fuzz.engine import close_engine, engine
from tests.fuzz.otlp_wire import message
from tests.fuzz.target import Target

__all__ = ["TARGET", "EngineError", "store"]

_BATCH: Final = 16
_waiting: list[tuple[bytes, int, bool]] = []


class EngineError(AssertionError):
    """The store did otherwise than it must; ``input`` is the message, so that it can be sent by itself."""

    def __init__(self, problem: str, body: bytes) -> None:
        super().__init__(problem)
        self.input = body


def store(batch: Sequence[tuple[bytes, int, bool]]) -> None:
    """Insert (body, spans, whether it may go to quarantine or be refused) and look for every span of each."""
    running = engine()
    running.clear()
    messages = [(body, 3, offset) for offset, (body, _, _) in enumerate(batch)]
    refused: dict[int, str] = {}
    try:
        _insert(messages)
    except DatabaseError as error:
        refused = _refused(messages)
        if not refused or not is_poison(error):
            raise EngineError(f"refused together only: {error}", envelope(messages)) from error
        _insert([item for item in messages if item[2] not in refused])
    held = {
        offset: (stored, strange)
        for offset, stored, strange in running.rows(
            "SELECT offset, sum(s), sum(q) FROM (SELECT kafka_offset AS offset, 1 AS s, 0 AS q FROM spans "
            "WHERE kafka_partition = 3 UNION ALL SELECT offset, 0, spans FROM quarantine WHERE partition = 3) "
            "GROUP BY offset"
        )
    }
    strays = running.rows("SELECT DISTINCT region, kafka_offset FROM spans")
    for offset, (body, spans, lenient) in enumerate(batch):
        stored, strange = held.pop(offset, (0, 0))
        if offset in refused and not lenient:
            raise EngineError(f"refused: {refused[offset]}", body)
        if stored + strange != (0 if offset in refused else spans) or (strange and not lenient):
            raise EngineError(f"{stored} stored, {strange} in quarantine, of {spans} spans", body)
        regions = {region for region, place in strays if place == offset}
        if not regions <= set(running.zone.regions):
            raise EngineError(f"stored under the regions {regions}", body)
    if held:
        raise EngineError(f"spans at positions that nobody wrote: {held}", envelope(messages))


def _refused(messages: Sequence[tuple[bytes, int, int]]) -> dict[int, str]:
    refused: dict[int, str] = {}
    for item in messages:
        try:
            refused |= find_refused(engine().client, [item])
        except DatabaseError as error:
            raise EngineError(f"{error.code}: {error}", item[0]) from error
    return refused


def _insert(messages: Sequence[tuple[bytes, int, int]]) -> None:
    if messages:
        engine().client.raw_insert(
            TABLE, insert_block=envelope(messages), fmt="Protobuf", settings=INSERT_SETTINGS
        )


def _bodies(data: bytes) -> list[tuple[bytes, int, bool]]:
    draw = Draw(data)
    mode = draw.below(4)
    if mode == 3:
        file = span_file_target.packed(draw.rest())
        return (
            [] if file is None else [_routed(value, lenient=False) for _, _, value in file.read()]
        )
    try:
        raw = mode == 2
        payload = decode(*wire_target.payload_of(draw.rest())) if raw else message(draw)
        found = _routed(payload, lenient=True)
    except WireError:
        return []
    return [found] if found[1] else []


def _routed(payload: bytes, *, lenient: bool) -> tuple[bytes, int, bool]:
    checked = Checked(Message(3, 0, payload), parse(payload), "", payload)
    (routed,) = Route(engine().zone).submit(checked)
    assert lenient or not routed.foreign
    return routed.body, routed.spans, lenient


def check(data: bytes) -> bool:
    """Collects a batch, then stores it."""
    found = _bodies(data)
    _waiting.extend(found)
    if len(_waiting) >= _BATCH:
        batch = tuple(_waiting)
        _waiting.clear()
        store(batch)
    return bool(found)


def seeds() -> Sequence[bytes]:
    """Those of the other targets, and decisions."""
    return [
        *(b"\x02" + seed for seed in wire_target.seeds()),
        *(b"\x03" + seed for seed in span_file_target.seeds()),
        *(bytes([mode]) + bytes(range(256)) for mode in range(2)),
    ]


TARGET: Final = Target(check, seeds, close_engine)
