"""Rows for the dashboard's tests: a small shop whose stories a reader can check by hand.

They enter by `span_rows`, the table behind the bytes path, so that `spans` and the rollup fill as they do in life.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["STORIES", "Story", "fill"]


@dataclass(frozen=True, slots=True)
class Story:
    """One endpoint: median in ms of users and of tests (None: no test), per region where it differs."""

    method: str
    route: str
    real_ms: float
    test_ms: float | None
    slow_in: str = ""


STORIES = (
    Story("GET", "/products/{product_id}", 40, 40),
    Story("GET", "/search", 60, 60, slow_in="eu-central-1"),
    Story("POST", "/checkout", 80, 160),
    Story("GET", "/orders/{order_id}", 50, None),
)
_COLUMNS = (
    "start", "duration_ns", "trace_id", "span_id", "parent_span_id", "name", "kind", "status_code",
    "region", "service", "version", "environment", "method", "route", "http_status", "source",
    "test_run", "weight", "attributes", "resource_attributes",
)  # fmt: skip
_SPREAD = 0.35  # deviation of the logarithm of latency


def fill(
    client: Client,
    regions: Sequence[str],
    since: datetime,
    minutes: int,
    *,
    per_minute: int = 30,
    stories: Sequence[Story] = STORIES,
    release: str = "1.4.0",
    seed: int = 1,
) -> list[str]:
    """Insert ``minutes`` of spans from ``since`` on; return the trace ids of the first minute's user requests."""
    random = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    first: list[str] = []
    for region in regions:
        for story in stories:
            for source, median in (("real", story.real_ms), ("synthetic", story.test_ms)):
                if median is None:
                    continue
                slow = 1.6 if source == "real" and region == story.slow_in else 1.0
                size = minutes * per_minute
                offsets = np.sort(random.uniform(0, minutes * 60, size))
                lasts = random.lognormal(np.log(median * slow), _SPREAD, size)
                for i, (offset, ms) in enumerate(zip(offsets, lasts, strict=True)):
                    key = f"{seed}/{region}/{story.method}{story.route}/{source}/{i}"
                    digest = hashlib.sha256(key.encode()).digest()
                    if source == "real" and offset < 60:
                        first.append(digest[:16].hex())
                    start = since + timedelta(seconds=float(offset))
                    rows += _request(digest, start, float(ms), (region, release, source), story)
    client.insert("span_rows", rows, column_names=_COLUMNS)
    return first


def _request(
    digest: bytes, start: datetime, ms: float, where: tuple[str, str, str], story: Story
) -> Iterator[tuple[Any, ...]]:
    """One request: the server's span, and a query below it that takes 60 % of the time."""
    region, release, source = where
    run = "run-1" if source == "synthetic" else ""
    resource = {"host.name": f"host-{region}"}
    common = (region, "storefront", release, "production")
    whole = round(ms * 1e6)
    server, query = digest[16:24], digest[24:32]
    yield (
        start, whole, digest[:16], server, bytes(8), f"{story.method} {story.route}", "Server", "Unset",
        *common, story.method, story.route, 200, source, run, 1.0, {"url.path": "/x"}, resource,
    )  # fmt: skip
    yield (
        start + timedelta(milliseconds=ms * 0.2), round(whole * 0.6), digest[:16], query, server,
        "SELECT shop", "Client", "Unset",
        *common, "", "SELECT shop", 0, source, run, 1.0, {"db.system.name": "sqlite"}, resource,
    )  # fmt: skip
