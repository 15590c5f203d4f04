"""A hub and zones in stores of their own, with a policy file, for the tests of what crosses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
from clickhouse_connect.driver.client import Client

from mobius_analysis.testing import Requests
from mobius_instrumentation.zones import Hub, Zone
from mobius_pipeline.migrate import migrate
from mobius_pipeline.residency.tables import CROSSING_COLUMNS
from mobius_pipeline.store import Purpose, connect

HOUR = datetime(2026, 3, 1, 7, tzinfo=UTC)


@dataclass
class HubStore:
    hub: Hub
    client: Client


@contextmanager
def hub_of(url: str) -> Iterator[HubStore]:
    """A migrated hub."""
    hub = Hub(url, f"rum_hub_{uuid4().hex[:8]}")
    migrate(hub)
    with ExitStack() as stack:
        client = connect(hub, Purpose.ANALYSIS)
        stack.callback(client.close)
        stack.callback(client.command, f"DROP DATABASE `{hub.database}`")
        yield HubStore(hub, client)


def requests(n: int, *, hour: datetime = HOUR, **labels: str) -> Requests:
    """``n`` requests spread over an hour; labels as of :class:`Requests`."""
    minutes = int(hour.timestamp() // 60) + np.arange(n) % 60
    return Requests(minutes, np.geomspace(0.01, 2.0, n), **labels)  # type: ignore[arg-type]  # names of texts


def policy_file(folder: Path, zone: Zone, hub: Hub | None, rules: str = "") -> Path:
    file = folder / f"zones-{uuid4().hex[:6]}.toml"
    text = (
        f"[zones.{zone.name}]\nregions = {list(zone.regions)!r}\nkafka = {list(zone.kafka)!r}\n"
        f'clickhouse = "{zone.clickhouse}"\ndatabase = "{zone.database}"\n{rules}\n'.replace(
            "'", '"'
        )
    )
    if hub:
        text += f'[hub]\nclickhouse = "{hub.clickhouse}"\ndatabase = "{hub.database}"\n'
    file.write_text(text, encoding="utf-8")
    return file


def insert_subjects(client: Client, people: int, *, hour: datetime = HOUR, **labels: str) -> None:
    """Have so many people behind a cell of :func:`requests`, as the view of the spans would."""
    values = requests(1, hour=hour, **labels)
    row = {name: str(getattr(values, name)) for name in CROSSING_COLUMNS if name != "minute"}
    columns = ", ".join(row)
    named = ", ".join(f"{{{name}:String}}" for name in row)
    client.command(
        f"INSERT INTO latency_subjects (hour, {columns}, subjects) "
        f"SELECT {{hour:DateTime('UTC')}}, {named}, uniqState(sipHash64(number)) FROM numbers({{people:UInt64}})",
        parameters={"hour": hour, "people": people, **row},
    )
