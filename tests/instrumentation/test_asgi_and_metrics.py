"""A bare ASGI application whose broker is away: requests are answered, and metrics tell what was dropped, by reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobius_instrumentation import ConfigurationError, instrument_asgi
from tests.instrumentation.plain_service import bare
from tests.instrumentation.served import HERE

CODE = """
import asyncio, json
import httpx
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from mobius_instrumentation import instrument_asgi
from plain_service import bare

app = instrument_asgi(bare, region="r", max_queue_spans=2, shutdown_timeout_ms=100)
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))

async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        return [(await client.get("/")).status_code for _ in range(5)]

answers = asyncio.run(ask())
points = {}
for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
    for point in metric.data.data_points:
        points[f"{metric.name} {point.attributes.get('reason', '')}".strip()] = point.value
print(json.dumps([answers, points, app.instrumentation.stats().document()["dropped"]]))
"""


def test_requests_are_answered_and_drops_are_metrics_by_reason(tmp_path: Path) -> None:
    file = tmp_path / "zones.toml"
    file.write_text(
        '[zones.eu]\nregions = ["r"]\nkafka = ["127.0.0.1:1"]\nclickhouse = "http://127.0.0.1:1"\n'
        "[instrumentation]\nruntime_interval_ms = 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": str(HERE), "MOBIUS_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    answers, points, dropped = json.loads(done.stdout)
    assert answers == [200] * 5
    assert dropped == {"queue_full": 3}
    assert points == {
        "mobius.export.sent": 0,
        "mobius.export.dropped queue_full": 3,
        "mobius.export.pending": 2,
    }


def test_an_option_that_there_is_not_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"regoin: unknown option; .* region"):
        instrument_asgi(bare, regoin="r")
