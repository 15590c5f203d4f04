"""What services measured of their requests, from spans in a real store to means with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from mobius_analysis.breakdown import breakdown_document, load_breakdown
from mobius_analysis.rollup import Only, Window
from tests.analysis.conftest import START, Shop
from tests.analysis.test_explain_store import COLUMNS, WINDOW

pytestmark = pytest.mark.store

SUBJECT = Only("eu-west-1", "storefront", "GET", "/x")


def spans(
    source: str, number: int, attributes: dict[str, str], *, weight: float = 1.0
) -> list[list[Any]]:
    """Requests of 40 ms, spread over the window."""
    random = np.random.default_rng(abs(hash((source, number))) % 2**32)
    minutes = (WINDOW.end - WINDOW.start).total_seconds() / 60
    return [
        ["", int((START.timestamp() + 60 * minutes * i / number) * 1e9), 40_000_000, random.bytes(16), random.bytes(8),
         b"\0" * 8, "GET /x", "Server", SUBJECT.region, SUBJECT.service, "1", "pod", "GET", "/x", 200, source,
         "run" if source == "synthetic" else "", weight, attributes]
        for i in range(number)
    ]  # fmt: skip


def measured(queue: float, database: float, **more: str) -> dict[str, str]:
    return {
        "mobius.requests.in_flight": "1",
        "mobius.queue.duration": str(queue),
        "mobius.client.database.duration": str(database),
        **more,
    }


def told(client: Client, rows: list[list[Any]], window: Window = WINDOW) -> dict[str, Any] | None:
    client.insert("span_rows", rows, column_names=COLUMNS)
    return breakdown_document(load_breakdown(client, window, SUBJECT))


def part(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in (*document["parts"], *document["meanwhile"]) if one["part"] == name)


def test_means_are_weighted_and_what_is_left_is_own_time(empty: Shop) -> None:
    rows = spans("real", 900, measured(0.002, 0.030, **{"mobius.loop.lag.duration": "0.001"}))
    # Sampled requests stand for three others each.
    rows += spans("real", 300, measured(0.002, 0.010), weight=3.0)
    rows += spans("synthetic", 300, measured(0.002, 0.005))
    document = told(empty.client, rows)
    assert document is not None
    assert part(document, "database")["production_ms"]["value"] == pytest.approx(20)
    assert part(document, "database")["synthetic_ms"]["value"] == pytest.approx(5)
    assert part(document, "queue")["production_ms"]["value"] == pytest.approx(2)
    assert part(document, "own")["production_ms"]["value"] == pytest.approx(18)
    assert part(document, "total")["production_ms"]["value"] == pytest.approx(40)
    assert part(document, "loop_lag")["production_ms"]["value"] == pytest.approx(0.5)
    assert part(document, "cache")["production_ms"]["value"] == 0
    difference = part(document, "database")["difference_ms"]
    assert difference["low"] <= 15 <= difference["high"]
    assert document["production"] == {"requests": 1200, "measured_share": 1.0}


def test_what_nobody_measured_is_unknown_and_not_0(empty: Shop) -> None:
    assert told(empty.client, spans("real", 30, {"other": "1"})) is None
    document = told(empty.client, spans("real", 10, measured(0.001, 0.0)))
    assert document is not None
    assert document["production"] == {"requests": 40, "measured_share": 0.25}
    assert document["synthetic"] == {"requests": 0, "measured_share": None}
    assert part(document, "queue")["synthetic_ms"] is None
    assert part(document, "queue")["difference_ms"] is None


def test_parts_that_overlap_leave_no_negative_own_time(empty: Shop) -> None:
    document = told(empty.client, spans("real", 30, measured(0.030, 0.030)))
    assert document is not None
    assert part(document, "own")["production_ms"]["value"] == 0
