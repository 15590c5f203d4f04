"""Input is read alike whatever its compression, and never silently in part."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, Source, open_sources

LINES = st.lists(st.binary(max_size=200).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")))


def compress(kind: str, data: bytes) -> bytes:
    if kind == "gzip":
        return gzip.compress(data)
    return zstandard.ZstdCompressor().compress(data) if kind == "zstd" else data


def opened(data: bytes) -> Content:
    return Content(Source(Path("sample"), "sample"), io.BytesIO(data))


def read_lines(content: Content) -> list[bytes]:
    return [line for _, line in content.lines()]


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
@settings(deadline=None)
@given(lines=LINES)
def test_lines_and_digest_are_those_of_the_decompressed_content(
    kind: str, lines: list[bytes]
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    # A plain file that begins like a compressed one is taken for one; no text does.
    if kind == "plain" and data[:2] in {b"\x1f\x8b", b"\x28\xb5"}:
        return
    content = opened(compress(kind, data))
    assert read_lines(content) == lines
    assert content.digest() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@settings(deadline=None)
@given(lines=st.lists(st.binary(min_size=1, max_size=200), min_size=1), share=st.floats(0, 1))
def test_data_cut_off_anywhere_are_an_error_that_says_after_which_line(
    kind: str, lines: list[bytes], share: float
) -> None:
    whole = compress(kind, b"".join(line.hex().encode() + b"\n" for line in lines))
    keep = max(5, int(share * (len(whole) - 1)))
    content = opened(whole[:keep])
    complete: list[bytes] = []
    with pytest.raises(UsageError, match="cut off") as caught:
        complete.extend(line for _, line in content.lines())
    assert caught.value.file == "sample"
    assert caught.value.line == (content.line or None)
    assert [bytes.fromhex(line.decode()) for line in complete] == lines[: len(complete)]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_members_that_follow_each_other_are_one_content(kind: str) -> None:
    content = opened(compress(kind, b"one\n") + compress(kind, b"two\nthree\n"))
    assert read_lines(content) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_damaged_data_are_an_error(kind: str) -> None:
    whole = bytearray(compress(kind, b"".join(b"%d\n" % n for n in range(20_000))))
    whole[len(whole) // 2] ^= 0xFF
    whole[len(whole) // 2 + 1] ^= 0xFF
    # zstd has no checksum by default: a changed literal may pass, so the header is broken there.
    if kind == "zstd":
        whole[4:12] = b"\xff" * 8
    with pytest.raises(UsageError, match=r"damaged|cut off"):
        read_lines(opened(bytes(whole)))


def test_zeros_after_the_last_gzip_member_are_padding() -> None:
    assert read_lines(opened(gzip.compress(b"one\n") + bytes(512))) == [b"one"]


def test_an_empty_file_says_so() -> None:
    with pytest.raises(UsageError, match="sample: is empty"):
        opened(b"").peek()


def test_sources_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    missing, there = str(tmp_path / "missing"), str(tmp_path / "there")
    for paths, problem in (
        ([missing], "missing: cannot be read"),
        ([str(tmp_path)], "is a folder"),
        ([there, there], "named twice"),
        ([], "no input file"),
    ):
        with pytest.raises(UsageError, match=problem), open_sources(paths):
            pass


def test_standard_input_is_a_source(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    class Input:
        buffer = io.BytesIO(gzip.compress(b"from elsewhere\n"))

    monkeypatch.setattr("sys.stdin", Input())
    with open_sources(["-"]) as (source,), Content.open(source) as content:
        assert source.name == "standard input"
        assert read_lines(content) == [b"from elsewhere"]
