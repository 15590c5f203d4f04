"""Spans of a test as its results: which spans are requests, and what is taken of them."""

from __future__ import annotations

import base64
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from mobius_pipeline.wire import varint
from tests.pipeline.otlp import key_value, make_resource, make_span
from tests.pipeline.result_files import DATA, read_files, refused

START = 1_795_446_001_000_250_000
CLIENT: dict[str, Any] = {"kind": Span.SPAN_KIND_CLIENT, "start_ns": START}
MARK: dict[str, Any] = {"user_agent.synthetic.type": "test"}


def client(
    code: Any = 200,
    duration_ns: Any = 25_000_000,
    status: Any = None,
    **attributes: Any,
) -> Span:
    """A client span of GET http://shop:8000/orders/7?q=1."""
    values = {
        "http.route": None,
        "url.full": "http://shop:8000/orders/7?q=1",
        "http.response.status_code": code,
    }
    return make_span(
        duration_ns=duration_ns, attributes=values | attributes, name="GET", status=status, **CLIENT
    )


def client_error() -> Span:
    return client(
        None,
        status=Status(code=Status.STATUS_CODE_ERROR, message="connect http://shop/?t=1 refused"),
    )


def write(folder: Path, *resources: ResourceSpans, form: str = "json") -> Path:
    """Write OTLP in one of its forms: JSON lines, one document, one message, messages after their lengths."""
    path = folder / "spans"
    messages = [ExportTraceServiceRequest(resource_spans=[each]) for each in resources]
    if form == "json":
        path.write_text("".join(json_of(each) + "\n" for each in messages))
    elif form == "document":
        whole = ExportTraceServiceRequest(resource_spans=resources)
        path.write_text(json.dumps(json.loads(json_of(whole)), indent=2))
    elif form == "protobuf":
        path.write_bytes(ExportTraceServiceRequest(resource_spans=resources).SerializeToString())
    else:
        parts = [each.SerializeToString() for each in messages]
        path.write_bytes(b"".join(varint(len(part)) + part for part in parts))
    return path


def json_of(message: ExportTraceServiceRequest) -> str:
    document = MessageToDict(message, use_integers_for_enums=True)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId"):
                    span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(document)


def runner(*spans: Span, **attributes: Any) -> ResourceSpans:
    return make_resource(spans, service="runner", **attributes)


FORMS = ["json", "document", "protobuf", "delimited"]


@pytest.mark.parametrize("form", FORMS)
def test_marked_client_spans_are_requests(tmp_path: Path, form: str) -> None:
    path = write(
        tmp_path,
        runner(client(**MARK), client(404, **MARK), client_error()),
        make_resource([make_span(start_ns=START), client(500)], service="shop"),
        form=form,
    )
    result = read_files(path)
    assert (result.read.format, result.read.tool) == ("otlp-spans", "opentelemetry")
    first, lost = result.requests
    assert (first.start_us, first.end_us) == (START // 1000, START // 1000 + 25_000)
    assert (first.method, first.name) == ("GET", "http://shop:8000/orders/7")
    assert (first.status, first.failed) == (200, False)
    assert (lost.duration_ms, lost.status, lost.failed) == (25.0, 404, True)
    assert len(first.trace_id) == 32
    assert "3 spans are no requests of the test and were left out" in result.warnings
    assert result.read.facts.vantage == "client"
    result = read_files(path)
    assert (result.read.format, result.read.tool) == ("otlp-spans", "opentelemetry")
    first, lost = result.requests
    assert (first.start_us, first.end_us) == (START // 1000, START // 1000 + 25_000)
    assert (first.method, first.name, first.status, first.failed) == (
        "GET", "http://shop:8000/orders/7", 200, False,
    )  # fmt: skip
    assert (lost.duration_ms, lost.status, lost.failed) == (25.0, 404, True)
    assert len(first.trace_id) == 32
    assert "3 spans are no requests of the test and were left out" in result.warnings
    assert result.read.facts.vantage == "client"


def test_what_got_no_answer_has_no_latency(tmp_path: Path) -> None:
    path = write(tmp_path, runner(client(), client_error(), **MARK))
    answered, lost = read_files(path).requests
    assert (answered.duration_ms, answered.failed) == (25.0, False)
    assert (lost.duration_ms, lost.status, lost.failed, lost.error) == (
        None,
        0,
        True,
        "connect … refused",
    )


def test_a_marked_resource_marks_its_spans_and_names_the_run(tmp_path: Path) -> None:
    path = write(tmp_path, runner(client(), **{"mobius.test.run": "nightly-7"}))
    result = read_files(path)
    assert (len(result.requests), result.read.facts.run) == (1, "nightly-7")


def test_calls_of_a_service_downstream_are_none_of_the_test(tmp_path: Path) -> None:
    """A service that marks all that it does for a test marks its own calls, too."""
    shop = make_resource(
        [make_span(start_ns=START, attributes=MARK), client(**MARK)], service="shop"
    )
    result = read_files(write(tmp_path, shop, runner(client(201, **MARK))))
    assert [r.status for r in result.requests] == [201]


def test_without_clients_marked_servers_are_the_services_own_view(tmp_path: Path) -> None:
    spans = [
        make_span(start_ns=START, attributes=MARK | {"http.response.status_code": code})
        for code in (200, 404, 500)
    ]
    real = make_span(start_ns=START)
    crawler = make_span(start_ns=START, attributes={"user_agent.synthetic.type": "bot"})
    result = read_files(write(tmp_path, make_resource([*spans, real, crawler])))
    assert [(r.status, r.failed) for r in result.requests] == [
        (200, False),
        (404, False),
        (500, True),
    ]
    assert (result.read.facts.vantage, result.read.facts.releases) == ("server", {"1.4.0"})
    assert {r.name for r in result.requests} == {"/orders/{order_id}"}


def test_a_generator_that_marks_nothing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, runner(client()), make_resource([make_span(start_ns=START), client()]))
    assert len(read_files(path, generator="runner").requests) == 1
    assert "--generator NAME" in str(refused(path))
    error = refused(path, generator="ghost")
    assert error.field == "--generator"
    assert "runner, shop" in str(error)


def test_spans_of_services_are_sent_to_their_own_import() -> None:
    error = refused(DATA / "locust/server-spans.otlp.jsonl.gz")
    assert "mobius-rum import spans" in str(error)


def test_other_protocols_are_named_as_their_spans_are_in_the_rollup(tmp_path: Path) -> None:
    attributes = {"http.request.method": None, "url.full": None, "rpc.system": "grpc", "rpc.service": "shop.Cart",
                  "rpc.method": "Get", "http.response.status_code": None}  # fmt: skip
    good = client(**attributes)
    bad = client(**attributes, status=Status(code=Status.STATUS_CODE_ERROR))
    first, second = read_files(write(tmp_path, runner(good, bad, **MARK))).requests
    assert (first.method, first.name, first.duration_ms, first.failed) == (
        "grpc",
        "shop.Cart/Get",
        25.0,
        False,
    )
    assert (second.duration_ms, second.failed) == (None, True)


def test_older_conventions_are_read(tmp_path: Path) -> None:
    attributes = {"http.request.method": None, "http.method": "POST", "url.full": None, "http.response.status_code": None,
                  "http.url": "http://h/a", "http.status_code": "503"}  # fmt: skip
    (request,) = read_files(write(tmp_path, runner(client(**attributes), **MARK))).requests
    assert (request.method, request.name, request.status, request.failed) == (
        "POST",
        "http://h/a",
        503,
        True,
    )


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("form", FORMS)
def test_compressed_and_from_standard_input(
    tmp_path: Path, form: str, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, runner(client(), **MARK), form=form)
    plain = read_files(path)
    packed = pack(path.read_bytes())
    path.write_bytes(packed)
    assert read_files(path).requests == plain.requests
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
    assert read_files("-").requests == plain.requests


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        (client(duration_ns=-1_000), "ends before it starts"),
        (client(**{"http.response.status_code": "OK"}), "HTTP status is 'OK'"),
        (client(**{"http.response.status_code": 12_345}), "0 (no answer) to 999"),
        (make_span(trace_id=b"\x01" * 8, attributes=MARK, **CLIENT), "trace id has 8 bytes"),
        (make_span(trace_id=bytes(16), attributes=MARK, **CLIENT), "nothing but zeros"),
        (
            make_span(attributes=MARK, kind=Span.SPAN_KIND_CLIENT, start_ns=5),
            "before the year 2000",
        ),
        (client(duration_ns=40 * 86_400 * 10**9), "31 days"),
    ],
)
def test_spans_that_cannot_be_are_named(tmp_path: Path, span: Span, problem: str) -> None:
    span.attributes.append(key_value("user_agent.synthetic.type", "test"))
    path = write(tmp_path, runner(client(**MARK)), runner(span), form="delimited")
    error = refused(path)
    assert problem in str(error)
    assert error.field == "message 2"


def test_spans_of_two_runs_are_refused(tmp_path: Path) -> None:
    runs = [runner(client(), **{"mobius.test.run": run}) for run in ("a", "b")]
    assert "2 runs (a, b" in str(refused(write(tmp_path, *runs)))


def test_a_cut_off_message_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, runner(client(), **MARK), runner(client(), **MARK), form="delimited")
    path.write_bytes(path.read_bytes()[:-3])
    assert "get the whole file" in str(refused(path))
