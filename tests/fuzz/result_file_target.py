"""Result files of test tools, from their bytes to requests that the store can hold."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, open_sources
from mobius_pipeline.imports.formats.given import Given
from mobius_pipeline.imports.formats.model import Facts, Request
from mobius_pipeline.imports.routes import RouteMatcher, Template
from mobius_pipeline.imports.synthetic_read import read_run
from mobius_pipeline.imports.synthetic_result import iso_us
from tests.fuzz.documents import compressed, csv_table, damaged, damaged_tokens, json_text
from tests.fuzz.draw import Draw
from tests.fuzz.file_input import check_error, fresh_folder
from tests.fuzz.target import Target

__all__ = ["GIVEN", "TARGET", "files_of"]

_DATA: Final = Path(__file__).parents[1] / "data/synthetic"
_TAGS: Final = {
    "expected_response": "true", "method": "GET", "name": "GET /catalog/{item_id}", "release": "1.4.0",
    "status": "200", "url": "http://shop.example/catalog/7",
}  # fmt: skip
_POINT: Final = {
    "metric": "http_req_duration",
    "type": "Point",
    "data": {"time": "2026-11-23T15:05:54.006322485Z", "value": 23.85, "tags": _TAGS, "metadata": {"trace_id": "ab"}},
}  # fmt: skip
_LISTENER: Final[list[dict[str, Any]]] = [
    {"mobius_synthetic": 1, "run": "r-1", "test": "t", "tool": "locust", "tool_version": "2.47.0", "release": "1.4.0"},
    *[
        {"start": f"2026-11-23T15:05:5{n}.006322Z", "duration_ms": 12.5, "method": "GET", "name": "/a", "status": 200,
         "failed": n == 2, "error": "", "trace_id": "00" * 16}
        for n in range(3)
    ],
    {"kind": "end", "requests": 3, "failed": 1},
]  # fmt: skip
_LOCUST: Final = [
    {
        "name": "/legacy", "method": "GET", "last_request_timestamp": 1795445634.87, "start_time": 1795445617.99,
        "num_requests": 5, "num_none_requests": 1, "num_failures": 2, "total_response_time": 96.2,
        "response_times": {"35": 1, "2": 3}, "num_reqs_per_sec": {"1795445617": 4, "1795445690": 1},
        "num_fail_per_sec": {"1795445617": 2},
    },
    {
        "name": "/a", "method": "POST", "last_request_timestamp": 1795445635, "start_time": 1795445618,
        "num_requests": 1, "num_none_requests": 0, "num_failures": 0, "response_times": {"7": 1},
        "num_reqs_per_sec": {"1795445618": 1}, "num_fail_per_sec": {},
    },
]  # fmt: skip
_K6_HEADER: Final = (
    "metric_name,timestamp,metric_value,check,error,error_code,expected_response,group,method,name,proto,scenario,service,"
    "status,subproto,tls_version,url,extra_tags,metadata"
)
_K6_ROWS: Final = [
    _K6_HEADER,
    "http_req_duration,1795446354,23.85,,,,true,::a,GET,GET /a/{id},HTTP/1.1,a,,200,,,GET /a,release=1.4.0&b=k6,trace_id=abc",
    "http_req_failed,1795446354,0,,,,true,::browse,GET,GET /catalog/{item_id},HTTP/1.1,browse,,200,,,x,,",
]
_SET: Final = {
    "x_stats.csv": [
        "Type,Name,Request Count,Failure Count,50%,95%,99%",
        "GET,/catalog/[id],3,1,11,23,200",
        "POST,/checkout,2,0,N/A,46,240",
        ",Aggregated,5,1,11,23,200",
    ],
    "x_stats_history.csv": [
        "Timestamp,User Count,Type,Name,Total Request Count",
        "1795445617,0,,Aggregated,0",
        "1795445618,4,GET,/catalog/[id],3",
        "1795445620,4,,Aggregated,5",
    ],
    "x_failures.csv": [
        "Method,Name,Error,Occurrences,First Seen,Last Seen",
        'GET,/catalog/[id],HTTPError("404"),1,2026-11-23T14:53:38Z,2026-11-23T14:53:55Z',
    ],
    "x_exceptions.csv": ["Count,Message,Traceback,Nodes", "8,script bug,line 1,local"],
}
# What people say of a file that does not say it; files that do are read all the same.
GIVEN: Final = Given(
    started=1_795_445_617 * 10**6, method="GET", name="/a", target="/a", requests=100
)
_EXTRACT: Final = 4_000
_TEMPLATES: Final = [
    Template("shop", "GET", "/catalog/{item_id}"),
    Template("shop", "GET", "/files/{name:path}"),
    Template("cart", "POST", "/checkout"),
    Template("cart", "", ""),
]
_LAST_US: Final = 4_102_444_800 * 10**6  # the year 2100


@cache
def _real() -> list[bytes]:
    """The first lines, or bytes, of every result file of a tool that lies with the tests."""
    found = []
    for path in sorted(_DATA.rglob("*")):
        if path.is_file() and "spans" not in path.name and path.name != "expected.json":
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                head = file.read(_EXTRACT)
            found.append(head[: head.rfind(b"\n") + 1] or head)
    return found


def _lines(draw: Draw, items: Sequence[Any]) -> bytes:
    document = damaged(draw, list(items))
    lines = [json_text(item) for item in (document if isinstance(document, list) else [document])]
    return b"\n".join(lines) + (b"" if draw.one_in(8) else b"\n")


def _k6_json(draw: Draw) -> bytes:
    head = [{"type": "Metric", "data": {"name": "http_reqs"}, "metric": "http_reqs"}]
    return _lines(draw, [*head, *[_POINT] * (1 + draw.below(3))])


def _k6_csv(draw: Draw) -> bytes:
    return csv_table(draw, [row.split(",") for row in _K6_ROWS])


_PLAIN: Final = {
    "start": "2026-11-23T15:05:54.006322Z", "duration_ms": 12.5, "method": "GET", "name": "/a", "status": 200,
    "failed": False, "error": "", "trace_id": "0a" * 16, "requests": 1,
}  # fmt: skip
_MARK: Final = {"key": "user_agent.synthetic.type", "value": {"stringValue": "test"}}
_SPANS: Final = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "runner"}}]},
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "0a" * 16, "spanId": "0b" * 8, "name": "GET", "kind": 3, "attributes": [_MARK],
                            "startTimeUnixNano": "1795446001000250000", "endTimeUnixNano": "1795446001025250000",
                        }
                    ]
                }
            ],
        }
    ]
}  # fmt: skip


def _plain_csv(draw: Draw) -> bytes:
    texts = ["" if value is False else str(value) for value in _PLAIN.values()]
    return csv_table(draw, [list(_PLAIN), *[texts] * (1 + draw.below(3))])


# Formats that no tool has written a file of here.
_OURS: Final[tuple[Callable[[Draw], bytes], ...]] = (
    _plain_csv,
    lambda draw: _lines(draw, [_PLAIN] * (1 + draw.below(3))),
    lambda draw: _lines(draw, [_SPANS] * (1 + draw.below(2))),
)

_FORMATS: Final[tuple[Callable[[Draw], bytes], ...]] = (
    _k6_json,
    _k6_csv,
    lambda draw: json_text(damaged(draw, _LOCUST), indent=4 if draw.one_in(4) else None),
    lambda draw: _lines(draw, _LISTENER),
)


def files_of(data: bytes) -> dict[str, bytes]:
    """Names and bytes of the files that an input stands for; the first is the one to name."""
    draw = Draw(data)
    mode = draw.below(8)
    if mode < len(_FORMATS):
        return {"results": compressed(draw, _FORMATS[mode](draw))}
    if mode == 4:
        return {
            name: compressed(draw, csv_table(draw, [row.split(",") for row in rows]))
            for name, rows in _SET.items()
            if not draw.one_in(16)
        } or {"x_stats.csv": b""}
    if mode == 5:
        return {"results": draw.rest()}
    if mode == 7:
        return {"results": compressed(draw, draw.pick(_OURS)(draw))}
    return {"results": compressed(draw, damaged_tokens(draw, draw.pick(_real())))}


def check(data: bytes) -> bool:
    """Only UsageError escapes, and it names a file; every request read is one that the store can hold."""
    folder = fresh_folder()
    files = files_of(data)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        with open_sources([folder / next(iter(files))]) as sources:
            read = read_run(sources, None, GIVEN)
    except UsageError as error:
        check_error(error, *files)
        return False
    matcher = RouteMatcher(_TEMPLATES)
    tally = read.tally
    assert tally.start_us is not None
    assert tally.end_us is not None
    for moment in (tally.start_us, tally.end_us, read.facts.start_us, read.facts.end_us):
        assert moment is None or 0 < moment < _LAST_US
        iso_us(moment or 0)
    if read.reader is not None:
        format_, source = read.reader
        with Content.open(source) as opened:
            requests = 0
            for request in itertools.islice(
                format_.read(opened, Facts(given=GIVEN, beside=read.facts.beside)), 100_000
            ):
                _check_request(request)
                assert matcher.match(request.method, request.name).method is not None
                requests += request.requests
        assert requests == sum(line.requests for line in tally.lines.values())
        for line in tally.lines.values():
            assert all(v is None or math.isfinite(v) for v in line.latencies.quantiles([0.5, 0.99]))
    for endpoint in read.reported.endpoints if read.reported else ():
        matcher.match(endpoint.method, endpoint.name)
        assert endpoint.failed <= (endpoint.requests or 0) < 1 << 63
        json.dumps([endpoint.p50_ms, endpoint.p95_ms, endpoint.p99_ms], allow_nan=False)
    return True


def _check_request(request: Request) -> None:
    assert 946_684_000 * 10**6 < request.start_us <= request.end_us < _LAST_US, request.start_us
    assert request.duration_ms is None or 0 <= request.duration_ms < 1e10, request.duration_ms
    assert 0 <= request.status < 1_000, request.status
    assert 0 < request.requests < 1 << 53, request.requests
    for text in (request.method, request.name, request.error, request.trace_id):
        text.encode()


def seeds() -> Sequence[bytes]:
    """First lines of real files, and one of each format."""
    listener = b"".join(json_text(line) + b"\n" for line in _LISTENER)
    return [
        *(b"\x05" + content for content in (*_real(), listener, json_text(_LOCUST))),
        b"\x05" + gzip.compress(_real()[0]),
        *(bytes([6, number]) for number in range(len(_real()))),
        *(bytes([mode]) for mode in range(5)),
        *(bytes([7, number]) for number in range(len(_OURS))),
        *(bytes([mode]) + bytes(range(1, 256)) for mode in range(5)),
    ]


TARGET: Final = Target(check, seeds)
