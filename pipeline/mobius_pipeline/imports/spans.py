"""Imports files of spans: checks every file whole, then publishes them through their zone's topic, once.

A content is known by its SHA-256. What of it was published is found in the topic itself, so an import that
was cut off is completed, never doubled, when it is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from clickhouse_connect.driver.client import Client

from mobius_instrumentation.zones import Zone, Zones
from mobius_pipeline.errors import DependencyError, UsageError
from mobius_pipeline.imports.content import Content, Source, open_sources
from mobius_pipeline.imports.span_checks import Residence
from mobius_pipeline.imports.span_journal import (
    Entry,
    last_entry,
    stored_messages,
    was_in_another_topic,
    write_entry,
)
from mobius_pipeline.imports.span_packing import DistinctIds, PackedFile, pack_file
from mobius_pipeline.imports.span_topic import Position, SpanTopic
from mobius_pipeline.imports.zone_store import open_store
from mobius_pipeline.ledger import stored_positions
from mobius_pipeline.options import progress

__all__ = ["SpanImport", "import_spans", "zone_of_region"]

_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class SpanImport:
    """What an import did. ``spans`` counts what the files hold, ``published`` what this import published."""

    files: int
    spans: int
    published: int
    rejected: int
    zone: str
    region: str
    distinct_span_ids: int
    repeated_span_ids: int
    already_imported: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One file: spans published now, and the offset behind its last message in each partition."""

    published: int
    known: bool
    behind: Mapping[int, int]


def zone_of_region(zones: Zones, region: str) -> Zone:
    """Find the zone that holds ``region``.

    Raises
    ------
    UsageError
        No zone does; lists the regions that the map knows.
    """
    zone = zones.zone_of(region)
    if zone is None:
        raise UsageError(
            f"no zone of {zones.file} holds region {region!r}; known: {', '.join(zones.regions)}",
            field="--region",
        )
    return zone


def import_spans(
    zones: Zones,
    paths: Sequence[str | Path],
    *,
    region: str,
    wait: bool = False,
    wait_seconds: float = 300.0,
    now_ns: Callable[[], int] = time.time_ns,
    clock: Callable[[], float] = time.monotonic,
) -> SpanImport:
    """Import files of spans into the zone of ``region``.

    1. Check and pack every file; nothing has left the process until all are good.
    2. Publish what the topic does not hold yet of each content.
    3. With ``wait``, wait until the worker has stored the last of it.

    Raises
    ------
    UsageError
        A file or the region is wrong; nothing was imported.
    DependencyError
        Broker or store is away, or the worker did not store everything in ``wait_seconds``.
    """
    begin = clock()
    zone = zone_of_region(zones, region)
    with ExitStack() as stack:
        sources = stack.enter_context(open_sources(paths))
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mobius-import-")))
        ids = DistinctIds()
        packed = _pack(sources, Residence(zones, zone, region), folder, ids, now_ns())  # 1
        topic = SpanTopic(zone)
        client = stack.enter_context(open_store(zone))
        outcomes = [_publish(client, topic, file, region) for file in packed]  # 2
        if wait:  # 3
            end = clock() + wait_seconds
            _wait(client, zone, topic, outcomes, lambda: clock() > end)
    spans, distinct = sum(file.spans for file in packed), ids.count()
    return SpanImport(
        files=len(packed),
        spans=spans,
        published=sum(outcome.published for outcome in outcomes),
        rejected=0,
        zone=zone.name,
        region=region,
        distinct_span_ids=distinct,
        repeated_span_ids=spans - distinct,
        already_imported=tuple(f.name for f, o in zip(packed, outcomes, strict=True) if o.known),
        seconds=round(clock() - begin, 3),
    )


def _pack(
    sources: Sequence[Source], residence: Residence, folder: Path, ids: DistinctIds, now_ns: int
) -> list[PackedFile]:
    packed = []
    with progress("checking", sum(source.bytes_on_disk for source in sources)) as advance:
        for number, source in enumerate(sources):
            with Content.open(source, advance) as content:
                packed.append(pack_file(content, residence, folder / str(number), ids, now_ns))
    return packed


def _publish(client: Client, topic: SpanTopic, packed: PackedFile, region: str) -> _Outcome:
    entry = last_entry(client, packed.digest)
    if entry is not None and entry.published:
        # Of a topic that was made anew since, nothing more can arrive.
        return _Outcome(0, known=True, behind=entry.positions if entry.topic_id == topic.id else {})
    found: dict[int, Position] = {}
    skip: set[int] = set()
    since: Mapping[int, int] = topic.ends()
    if entry is not None:
        if entry.region != region:
            raise UsageError(
                f"an import of this content was cut off half-way; complete it with --region {entry.region}",
                file=packed.name,
            )
        if entry.topic_id == topic.id:
            since = entry.positions
            found = topic.find(packed.digest, since)
        if was_in_another_topic(client, packed.digest, topic.id):
            skip = stored_messages(client, packed)
    write_entry(
        client,
        packed,
        Entry(packed.name, False, packed.messages, region, topic.id, since),  # noqa: FBT003 -- a row, in the order of its columns
    )
    published = 0
    with progress(f"publishing {packed.name}", packed.messages) as advance:
        done = skip | found.keys()

        def acknowledged(sequence: int, spans: int, position: Position) -> None:
            nonlocal published
            found[sequence] = position
            published += spans
            advance(1)

        topic.publish(
            packed.digest, (item for item in packed.read() if item[0] not in done), acknowledged
        )
    behind: dict[int, int] = {}
    for position in found.values():
        behind[position.partition] = max(behind.get(position.partition, 0), position.offset + 1)
    write_entry(
        client,
        packed,
        Entry(packed.name, True, packed.messages, region, topic.id, behind),  # noqa: FBT003 -- as above
    )
    return _Outcome(published, known=False, behind=behind)


def _wait(
    client: Client,
    zone: Zone,
    topic: SpanTopic,
    outcomes: Sequence[_Outcome],
    deadline: Callable[[], bool],
) -> None:
    """Wait until the worker's ledger says that everything before ``behind`` is stored."""
    while True:
        stored = stored_positions(client, topic.id)
        late = {
            number: offset
            for outcome in outcomes
            for number, offset in outcome.behind.items()
            if stored.get(number, 0) < offset
        }
        if not late:
            return
        if deadline():
            missing = sum(offset - stored.get(number, 0) for number, offset in late.items())
            raise DependencyError(
                f"the worker of zone {zone.name}",
                zone.spans_topic,
                reason=f"{missing} messages are not stored yet; they are published and will not be lost",
                remedy=f"start it with `mobius-rum ingest --zone {zone.name}`, then repeat this command",
            )
        time.sleep(_POLL_SECONDS)
