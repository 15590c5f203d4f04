"""The pieces of `bench ingest`, and a small run of it, without the Collector."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import lz4.block  # type: ignore[import-untyped]  # ships no types
import pytest
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mobius_infra.benchmarks import commands, ingest
from mobius_infra.benchmarks._block_frames import city_hash_128, frame, unframe
from mobius_infra.benchmarks._collector import CollectorMissingError, build
from mobius_infra.benchmarks._drain import Drained, drain, kill_and_compare
from mobius_infra.benchmarks._engine import engine
from mobius_infra.benchmarks._gateway import is_greeting, native_block
from mobius_infra.benchmarks._pipelines import Worker
from mobius_infra.benchmarks._real_spans import Recorded, load, repeat
from mobius_pipeline.errors import UsageError

BEGIN = 1_800_000_000 * 10**9


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    return load("eu-west-1")


def read(message: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(message)
    (resource,) = request.resource_spans
    assert {pair.key for pair in resource.resource.attributes} >= {"service.name", "cloud.region"}
    (scope,) = resource.scope_spans
    return list(scope.spans)


def test_repeated_spans_have_their_own_ids_and_keep_the_shape_of_their_traces(
    recorded: list[Recorded],
) -> None:
    of_the_data = sum(len(one.spans) for one in recorded)
    wanted = 2 * of_the_data + 1_000
    ids: list[bytes] = []
    spans: list[Span] = []
    for message, of in repeat(recorded, wanted, per_message=512, begin_ns=BEGIN):
        found = read(message)
        assert [span.span_id for span in found] == of
        assert 1 <= len(of) <= 512
        ids += of
        spans += found
    assert len(ids) == len(set(ids)) == wanted
    assert min(span.start_time_unix_nano for span in spans) == BEGIN
    first, second = spans[:of_the_data], spans[of_the_data : 2 * of_the_data]
    assert not {span.trace_id for span in first} & {span.trace_id for span in second}
    # 110,649 spans of 2,984 traces (tests/data/README.md).
    assert len({span.trace_id for span in first}) == 2_984
    trace_of = {span.span_id: span.trace_id for span in spans}
    children = [span for span in first if span.parent_span_id]
    assert len(children) > 100_000
    assert all(trace_of[span.parent_span_id] == span.trace_id for span in children)
    shifted = Counter(
        (span.name, span.end_time_unix_nano - span.start_time_unix_nano) for span in second
    )
    assert shifted == Counter(
        (span.name, span.end_time_unix_nano - span.start_time_unix_nano) for span in first
    )


# Of the reference implementation, as ClickHouse's clients have it: low and high 64 bits.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0x3DF09DFC64C09A2B3CB540C392E51E29),
        (b"a", 0xD27139A1AFE01AD0FD7E8EE2E4C86CF6),
        (b"12345678", 0x1D7757A6DD6FD9F37282A0F9C3847A18),
        (b"123456789", 0xC43E148AB1947224C0D05D34783EC23A),
        (b"0123456789abcdef", 0xC52EA1ADB29E48007369A2FAB076DE4C),
        (b"0123456789abcdefg", 0x202565A0BE8EDB3E418BABCD28F764DF),
        (b"x" * 127, 0x8856BBD33BD56F254F92EFCD665665EB),
        (bytes(range(128)), 0x7DEF035B54925590DE34765C4ACA9038),
        (bytes(range(200)), 0x275774699E23B6FD5682EF01EBE7289C),
        (bytes(range(256)) * 5 + b"tail", 0x6ED9012203D8771D5E64C734ED7D78F8),
    ],
)
def test_city_hash(data: bytes, expected: int) -> None:
    assert city_hash_128(data) == (expected >> 64, expected & (1 << 64) - 1)


def compressed(method: int, data: bytes, plain: bytes) -> bytes:
    sizes = (len(data) + 9).to_bytes(4, "little") + len(plain).to_bytes(4, "little")
    return bytes(16) + bytes([method]) + sizes + data


def test_frames_of_every_method_are_undone_one_behind_the_other() -> None:
    plain = b"some rows" * 1_000
    body = (
        frame(plain)
        + compressed(0x82, lz4.block.compress(plain, store_size=False), plain)
        + compressed(0x90, zstandard.compress(plain), plain)
    )
    assert unframe(body) == plain * 3
    assert unframe(b"") == b""


def test_a_frame_says_what_a_client_checks() -> None:
    content = b"\x02" + (12).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"
    low, high = city_hash_128(content)
    assert frame(b"abc") == low.to_bytes(8, "little") + high.to_bytes(8, "little") + content


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (bytes(24), "within its header"),
        (frame(b"abc")[:-1], "within its data"),
        (compressed(0x33, b"abc", b"abc"), "unknown method, 0x33"),
        (compressed(0x82, b"\xff\xff\xff", b"abc"), "damaged"),
        (compressed(0x90, b"abc", b"abc"), "damaged"),
    ],
)
def test_a_damaged_frame_is_refused(body: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        unframe(body)


def test_the_greeting_is_one_row_of_native() -> None:
    assert is_greeting("SELECT displayName(), version(), revision(), timezone()")
    assert not is_greeting("SELECT version()")
    # Block info, one column, one row, name, type, no custom serialization, value.
    expected = "0100 02ffffffff 00 01 01 0172 0655496e743332 00 00000000"
    assert native_block([("r", "UInt32", bytes(4))]) == bytes.fromhex(expected)


def test_without_go_the_collector_is_missing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CollectorMissingError, match="Go is missing"):
        build()


@pytest.mark.system
def test_a_small_backlog_is_drained_and_measured_and_a_killed_worker_loses_nothing(
    embedded_broker: str, recorded: list[Recorded]
) -> None:
    backlog = ingest.produce(embedded_broker, recorded, 5_000, 100)
    with engine(kafka=embedded_broker) as store:
        drained = drain(
            Worker(),
            store,
            warm_up=(backlog.warm_up, ingest.WARM_UP_SPANS),
            backlog=(backlog.topic, 5_000),
            database="rum_drained",
        )
        killed = kill_and_compare(
            Worker(), store, backlog=(backlog.topic, backlog.ids), database="rum_killed", kills=1
        )
    assert (drained.spans, drained.doubled) == (5_000, 0)
    assert 500 < drained.requests < 5_000
    assert drained.engine_seconds > 0
    assert drained.peak_bytes > 20 << 20
    assert drained.table_bytes["spans"] > 5_000 * 8  # span ids alone, which are random
    assert drained.table_bytes["rollup"] > 0
    assert (killed["kills"], killed["lost"], killed["doubled"]) == (1, 0, 0)


def test_the_document_has_medians_and_the_ratio_of_like_to_like() -> None:
    def made(seconds: float, size: int) -> Drained:
        return Drained(
            1_000_000, 0, seconds, 3 * seconds, 10.0, 1 << 20, {"spans": size, "look_up": 10**6}, 0
        )

    ours = ingest.summary([made(seconds, 20 * 10**6) for seconds in (3.0, 1.0, 2.0)])
    peer = ingest.summary([made(8.0, 41 * 10**6)])
    assert ours["total_us_per_span"] == {"value": 8.0, "low": 4.0, "high": 12.0}
    assert ours["bytes_per_span"] == {"spans": 20.0, "look_up": 1.0}
    found = ingest.ratios(
        {
            "ours": ours,
            "ours_without_rollup": peer,
            "collector_65536_rows": peer,
            "collector_65536_rows_without_rollup": peer,
        }
    )
    assert found["cpu_to_65536_rows"] == 0.25
    assert found["bytes_of_spans_and_look_up_to_65536_rows"] == 0.5
    assert found["cpu_to_65536_rows_without_rollup"] == 1.0


def test_sizes_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="--per-message"):
        commands.bench(per_message="100,many")
