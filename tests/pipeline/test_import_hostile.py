"""Files that fuzzing found, each as small as it gets: refused with an error made for people, or read as what they are."""

from __future__ import annotations

import heapq
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from mobius_instrumentation.zones import Zone, Zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, Source, open_sources
from mobius_pipeline.imports.formats.locust_json import deal
from mobius_pipeline.imports.formats.model import Facts
from mobius_pipeline.imports.span_checks import Residence
from mobius_pipeline.imports.span_packing import (
    LARGEST_MESSAGE_BYTES,
    DistinctIds,
    PackedFile,
    pack_file,
)
from mobius_pipeline.imports.synthetic_read import read_run
from mobius_pipeline.wire import parse, varint
from tests.pipeline.otlp import key_value, make_message, make_resource, make_span

ZONE = Zone("eu", ("eu-west-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "x")


# ---------------------------------------------------------------------------- spans


def pack(folder: Path, data: bytes) -> PackedFile:
    file = folder / "spans"
    file.write_bytes(data)
    residence = Residence(Zones({"eu": ZONE}, None, "zones.toml"), ZONE, "eu-west-1")
    with Content.open(Source(file, str(file))) as content:
        return pack_file(content, residence, folder / "packed", DistinctIds(), time.time_ns())


def first_resource(file: PackedFile) -> ResourceSpans:
    _, _, message = next(iter(file.read()))
    return parse(message).resource_spans[0]


@pytest.mark.parametrize("framed", [False, True])
def test_known_fields_of_other_types_do_not_reach_the_store(tmp_path: Path, framed: bool) -> None:
    """Protobuf calls them unknown and keeps them; the store's reader would refuse the message for them."""

    def counted(tag: bytes, payload: bytes) -> bytes:
        return tag + varint(len(payload)) + payload

    span = make_span().SerializeToString() + b"\x08\x01"  # the trace id as a number
    resource = make_resource([]).SerializeToString() + counted(b"\x12", counted(b"\x12", span))
    message = counted(b"\x0a", resource)
    ((_, count, packed),) = pack(tmp_path, counted(b"", message) if framed else message).read()
    request = parse(packed)
    request.DiscardUnknownFields()
    assert (count, request.SerializeToString(deterministic=True)) == (1, packed)


@pytest.mark.parametrize("where", ["span", "resource"])
def test_more_attributes_than_the_worker_takes_are_refused(tmp_path: Path, where: str) -> None:
    item = make_resource([make_span()])
    attributes = (
        item.resource.attributes if where == "resource" else item.scope_spans[0].spans[0].attributes
    )
    attributes.extend([key_value("k", 1)] * 65_537)
    with pytest.raises(UsageError, match=rf"a {where} with 655\d\d attributes; it may have 65536"):
        pack(tmp_path, make_message(item))


def test_texts_of_several_bytes_a_character_count_as_what_they_are(tmp_path: Path) -> None:
    spans = [make_span(attributes={"k": "x" * 30_000}) for _ in range(60)]
    item = make_resource(spans)
    item.scope_spans[0].schema_url = "😀" * 120_000
    messages = list(pack(tmp_path, make_message(item)).read())
    assert sum(count for _, count, _ in messages) == 60
    assert max(len(message) for _, _, message in messages) <= LARGEST_MESSAGE_BYTES


def test_a_resource_that_would_fill_each_message_alone_is_refused(tmp_path: Path) -> None:
    item = make_resource([make_span()], k="x" * 600_000)
    with pytest.raises(UsageError, match=r"a resource of 600,\d{3} bytes with a scope of"):
        pack(tmp_path, make_message(item))


def test_an_empty_region_before_the_real_one_is_taken_away(tmp_path: Path) -> None:
    """The store takes the first attribute of the name."""
    item = make_resource([make_span()], region=None)
    for region in ("", "eu-west-1", ""):
        item.resource.attributes.append(key_value("cloud.region", region))
    found = first_resource(pack(tmp_path, make_message(item))).resource.attributes
    regions = [pair.value.string_value for pair in found if pair.key == "cloud.region"]
    assert regions == ["eu-west-1"]


@pytest.mark.parametrize("name", ["\ud800", "x" * 100_000, "\x1b[2J"])
def test_what_an_error_quotes_can_be_shown(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="has no resourceSpans") as caught:
        pack(tmp_path, json.dumps({name: 1}).encode())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_500


# ---------------------------------------------------------------------------- results


HEADER = {"mobius_synthetic": 1, "run": "r", "test": "t"}
REQUEST = {"start": "2026-11-23T15:00:01Z", "duration_ms": 12.5, "method": "GET", "name": "/a",
           "status": 200, "failed": False, "error": None, "trace_id": None}  # fmt: skip
END = {"kind": "end", "requests": 1, "failed": 0}
ENTRY = {"name": "/a", "method": "GET", "num_requests": 2, "num_failures": 0, "start_time": 1795445617.5,
         "last_request_timestamp": 1795445618.5, "response_times": {"7": 2},
         "num_reqs_per_sec": {"1795445617": 2}, "num_fail_per_sec": {}}  # fmt: skip
TAGS = {"method": "GET", "name": "/a", "status": "200"}
NINES = "9" * 400


def read(folder: Path, *files: tuple[str, str]) -> Any:
    for name, text in files:
        (folder / name).write_text(text, encoding="utf-8")
    with open_sources([folder / files[0][0]]) as sources:
        return read_run(sources, None)


def listener(**changes: Any) -> str:
    lines = [json.dumps(HEADER), json.dumps(REQUEST | changes), json.dumps(END)]
    return "\n".join(lines) + "\n"


def k6(value: str = "1", stamp: str = "2026-11-23T15:05:54Z", **tags: str) -> str:
    written = json.dumps(TAGS | tags)
    return (
        f'{{"metric":"http_req_duration","type":"Point","data":{{"time":"{stamp}","value":{value},"tags":{written}}}}}\n'
    )  # fmt: skip


def locust(**changes: Any) -> str:
    return json.dumps([ENTRY | changes])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (k6(NINES), "http_req_duration is inf"),
        (k6("1e308"), "31 days"),
        (k6("NaN"), "http_req_duration is nan"),
        (k6(status="65536"), "status is 65536"),
        (k6(status="-1"), "status is -1"),
        (k6(stamp="1999-12-31T23:59:59Z"), "before the year 2000"),
        (k6(stamp="2106-02-08T00:00:00Z"), "after the year 2099"),
        (k6("60000", "2000-01-01T00:00:01Z"), "before the year 2000"),
        (listener(duration_ms=10**400), "duration_ms is inf"),
        (listener(duration_ms=1e308), "31 days"),
        (listener(status=float("inf")), "infinity"),
        (listener(status=10**20), "status is 1000"),
        (listener(start="9999-12-31T23:59:59-23:59"), "after the year 2099"),
        (locust(start_time=float("inf")), "infinity"),
        (locust(start_time=1e300), "after the year 2099"),
        (locust(last_request_timestamp=-1), "before the year 2000"),
        (locust(num_requests=10**400), "differ"),
        (locust(num_requests=1e999), "infinity"),
        (locust(response_times={NINES: 2}), "31 days"),
        (locust(response_times={"1": -1, "2": 3}), "negative"),
        (locust(num_requests=10**13, response_times={"1": 10**13}), "over 1,000,000,000,000"),
    ],
)  # fmt: skip
def test_figures_that_no_test_has_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        read(tmp_path, ("results", text))
    assert caught.value.line is not None


@pytest.mark.parametrize("name", ["x" * 201, "a\nb", "\x7f"])
@pytest.mark.parametrize("key", ["run", "test", "release", "tool_version"])
def test_names_that_a_file_gives_its_run_are_held_to_what_options_are(
    tmp_path: Path, key: str, name: str
) -> None:
    text = listener().replace(json.dumps(HEADER), json.dumps(HEADER | {key: name}))
    with pytest.raises(UsageError, match=f"{key} must be 1 to 200 printable characters"):
        read(tmp_path, ("results", text))


def test_halves_of_surrogate_pairs_become_question_marks(tmp_path: Path) -> None:
    texts = dict.fromkeys(("method", "name", "error", "trace_id"), "\ud800")
    found = read(tmp_path, ("results", listener(**texts)))
    format_, source = found.reader
    with Content.open(source) as content:
        (request,) = format_.read(content, Facts())
    assert (request.method, request.name, request.error, request.trace_id) == ("?",) * 4


STATS = "Type,Name,Request Count,Failure Count,50%\nGET,/a,{0},{1},{2}\n,Aggregated,{0},{1},{2}\n"
HISTORY = "Timestamp,User Count,Type,Name,Total Request Count\n{0},1,,Aggregated,1\n"


@pytest.mark.parametrize(
    ("figures", "moment", "problem"),
    [
        (("9" * 5_000, "0", "1"), "1795445617", "no whole number of up to 12 digits"),
        (("1", "0", "nan"), "1795445617", "no latency"),
        (("1", "0", "1e999"), "1795445617", "no latency"),
        (("1", "2", "1"), "1795445617", "2 failures of 1 requests"),
        (("1", "0", "1"), "9999999999", "after the year 2099"),
        (("1", "0", "1"), "0", "before the year 2000"),
    ],
)
def test_csv_figures_that_no_test_has_are_refused(
    tmp_path: Path, figures: tuple[str, str, str], moment: str, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        read(
            tmp_path,
            ("x_stats.csv", STATS.format(*figures)),
            ("x_stats_history.csv", HISTORY.format(moment)),
        )
    assert caught.value.line == 2


# ---------------------------------------------------------------------------- dealing out


def one_by_one(
    histogram: Sequence[tuple[float | None, int]], cells: Sequence[tuple[str, int]]
) -> Counter[tuple[str, float | None]]:
    """The same by going through every request."""

    def due(index: int, size: int) -> Iterator[tuple[float, int]]:
        return (((k + 0.5) / size, index) for k in range(size))

    order = heapq.merge(*(due(index, size) for index, (_, size) in enumerate(cells)))
    dealt: Counter[tuple[str, float | None]] = Counter()
    for value, count in histogram:
        for _, index in itertools.islice(order, count):
            dealt[cells[index][0], value] += 1
    return dealt


@settings(max_examples=300)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=7), data=st.data())
def test_dealing_is_that_of_every_request_by_itself(sizes: list[int], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, sum(sizes)), max_size=6))
    ends = sorted([0, *cuts, sum(sizes)])
    histogram = [(float(n), b - a) for n, (a, b) in enumerate(itertools.pairwise(ends))]
    cells = [(str(index), size) for index, size in enumerate(sizes)]
    assert deal(histogram, cells) == one_by_one(histogram, cells)


def test_dealing_gives_one_cell_several_of_those_that_rounding_left_out() -> None:
    cells = [(str(index), size) for index, size in enumerate([1, 1, 1, 1, 1, 8])]
    assert deal([(0.0, 4), (1.0, 9)], cells) == one_by_one([(0.0, 4), (1.0, 9)], cells)


def test_dealing_takes_time_by_cells_and_not_by_requests() -> None:
    many = 10**12
    dealt = deal([(1.0, many), (2.0, many)], [("a", many), ("b", many // 2), ("c", many // 2)])
    assert sum(dealt.values()) == 2 * many
    assert dealt["a", 1.0] == many // 2
