"""The Collector's example: it says what docs/other-languages.md says of it, and the worker takes what it writes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from mobius_instrumentation.allowlist import DEFAULT_ATTRIBUTES
from mobius_instrumentation.measures import MEASURES
from mobius_instrumentation.zones import parse_zones
from mobius_pipeline.wire import count_spans, decode, parse
from tests.pipeline.otlp import key_value

FILE = Path(__file__).parents[2] / "infra" / "collector" / "traces.yaml"


def settings() -> dict[str, str]:
    """Values of the file by their dotted paths; items of a list have the path of the list."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        text = line.lstrip(" -")
        indent = len(line) - len(text)
        assert "\t" not in line
        key, colon, value = text.partition(":")
        assert colon, line
        path = [*(part for part in path if part[0] < indent), (indent, key)]
        if key == "context":
            path = [*path[:-1], (indent - 1, value.strip())]
        elif value.strip():
            found["::".join(name for _, name in path)] = value.strip()
    return found


def names_in(statement: str) -> list[str]:
    listed = re.search(r"keep_keys\(attributes, (\[.*?\])\)", statement)
    assert listed is not None
    return list(json.loads(listed[1]))


def test_it_writes_what_the_worker_reads_where_the_worker_reads_it() -> None:
    found = settings()
    zone = {"regions": ["r"], "kafka": ["k:1"], "clickhouse": "http://c:1"}
    (eu,) = parse_zones({"zones": {"eu": zone}})
    topic = json.loads(found["exporters::kafka::traces::topic"])
    assert topic.replace("${env:MOBIUS_ZONE}", "eu") == eu.spans_topic
    assert found["exporters::kafka::traces::encoding"] == "otlp_proto"
    assert found["exporters::kafka::producer::required_acks"] == "-1"
    assert found["exporters::kafka::producer::allow_auto_topic_creation"] == "false"
    assert int(found["exporters::kafka::producer::max_message_bytes"]) <= 1_048_576


def test_every_part_that_it_configures_is_used_and_residency_comes_before_batches() -> None:
    found = settings()
    pipeline = "service::pipelines::traces::"
    for kind in ("receivers", "processors", "exporters"):
        used = found[pipeline + kind].strip("[]").split(", ")
        assert set(used) == {path.split("::")[1] for path in found if path.startswith(f"{kind}::")}
    order = found[f"{pipeline}processors"].strip("[]").split(", ")
    assert order.index("filter/region") < order.index("transform/allowed") < order.index("batch")


def test_its_allow_list_is_the_packages() -> None:
    text = FILE.read_text(encoding="utf-8").splitlines()
    resource, span, event = (names_in(line) for line in text if "keep_keys" in line)
    assert set(resource) == set(span) == DEFAULT_ATTRIBUTES - MEASURES
    assert set(event) <= DEFAULT_ATTRIBUTES
    assert 'set(status.message, "")' in "\n".join(text)


@pytest.mark.parametrize(
    ("language", "sdk", "scope"),
    [
        ("go", "opentelemetry", "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"),
        ("java", "opentelemetry", "io.opentelemetry.tomcat-10.0"),
    ],
)
def test_the_worker_takes_a_message_of_another_language(
    language: str, sdk: str, scope: str
) -> None:
    resource = {
        "service.name": "checkout",
        "cloud.region": "eu-west-1",
        "telemetry.sdk.language": language,
        "telemetry.sdk.name": sdk,
    }
    span = Span(
        trace_id=os.urandom(16),
        span_id=os.urandom(8),
        name="GET /orders/{id}",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=1,
        end_time_unix_nano=2,
        flags=0x101,
        attributes=[key_value("http.route", "/orders/{id}")],
    )
    spans = ResourceSpans(
        scope_spans=[
            ScopeSpans(spans=[span] * 512, schema_url="https://opentelemetry.io/schemas/1.37.0")
        ]
    )
    spans.scope_spans[0].scope.name = scope
    spans.resource.attributes.extend(key_value(key, value) for key, value in resource.items())
    message = ExportTraceServiceRequest(resource_spans=[spans]).SerializeToString()
    assert count_spans(parse(decode(message)).resource_spans) == 512
