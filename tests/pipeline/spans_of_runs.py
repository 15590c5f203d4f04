"""Stores spans as the worker does, without a broker: sample files, or spans made for a test."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from clickhouse_connect.driver.client import Client
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from mobius_instrumentation.zones import Zone
from mobius_pipeline.imports.otlp_json import resource_spans_of, to_resource_spans
from mobius_pipeline.migrate import migrate
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, envelope

DATA = Path(__file__).parents[1] / "data" / "synthetic"

# Everything that the rollup says, by what it says it of; of the worker's and the corrections' rows together.
ROLLUP = (
    "SELECT minute, region, service, version, environment, method, route, status_class, toString(source), test_run, "
    "sum(requests), sum(errors), sum(weight), sum(weight_squared), sum(error_weight), "
    "mapFilter((b, w) -> w != 0, sumMap(buckets)), mapFilter((b, w) -> w != 0, sumMap(buckets_squared)) "
    "FROM latency_minute WHERE vantage = 'server' GROUP BY ALL HAVING sum(requests) != 0 ORDER BY ALL"
)
_offsets = itertools.count()


@contextmanager
def store_zone(url: str, name: str = "eu") -> Iterator[tuple[Zone, Client]]:
    """A zone with an empty database of its own in a running store, and a client for inserts; no broker."""
    unique = f"{name}_{uuid4().hex[:8]}"
    zone = Zone(unique, ("eu-west-1", "eu-central-1"), ("127.0.0.1:1",), url, f"rum_{unique}")
    migrate(zone)
    client = connect(zone, Purpose.INGEST)
    yield zone, client
    client.command(f"DROP DATABASE `{zone.database}` SYNC")
    client.close()


def store_messages(client: Client, messages: Sequence[bytes]) -> None:
    """Insert serialised messages, each at an offset of its own."""
    client.raw_insert(
        TABLE,
        insert_block=envelope((message, 0, next(_offsets)) for message in messages),
        fmt="Protobuf",
        settings={**INSERT_SETTINGS, "insert_deduplication_token": os.urandom(8).hex()},
    )


def store_resources(client: Client, *resources: ResourceSpans) -> None:
    """Insert resources with their spans as one message."""
    store_messages(
        client, [ExportTraceServiceRequest(resource_spans=resources).SerializeToString()]
    )


def store_file(client: Client, folder: str) -> None:
    """Insert the server's spans of a sample run as production traffic."""
    with gzip.open(DATA / folder / "server-spans.otlp.jsonl.gz", "rt") as lines:
        store_messages(
            client,
            [
                ExportTraceServiceRequest(
                    resource_spans=[
                        to_resource_spans(each) for each in resource_spans_of(json.loads(line))
                    ]
                ).SerializeToString()
                for line in lines
            ],
        )


def rollup(client: Client) -> list[tuple[Any, ...]]:
    """What the rollup says of the servers' requests, without what cancels out."""
    return [tuple(map(_plain, row)) for row in client.query(ROLLUP).result_rows]


def _plain(value: Any) -> Any:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def requests_by_source(client: Client) -> dict[tuple[str, str], int]:
    """Servers' requests by source and test run."""
    rows = client.query(
        "SELECT toString(source), test_run, toInt64(sum(requests)) AS n FROM latency_minute "
        "WHERE vantage = 'server' GROUP BY ALL HAVING n != 0"
    ).result_rows
    return {(str(source), str(run)): int(n) for source, run, n in rows}
