"""Content-Encoding of request and response bodies, with a bound on what a compressed body may grow to."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Final

import lz4.frame  # type: ignore[import-untyped]  # ships no types
import zstandard

from mobius_infra.store_server.store_error import StoreError

__all__ = ["choose_encoding", "compress", "decompress"]

# Below this a compressed body saves less than its framing costs.
_MIN_BYTES: Final = 1024


def _zlib(body: bytes, limit: int, window_bits: int) -> bytes:
    decoder = zlib.decompressobj(window_bits)
    plain = decoder.decompress(body, limit + 1)
    if not decoder.eof and len(plain) <= limit:
        raise EOFError("the compressed body is cut off")
    return plain


def _lz4(body: bytes, limit: int) -> bytes:
    plain = io.BytesIO()
    # clickhouse-connect sends one frame a block, one behind the other.
    while body and plain.tell() <= limit:
        decoder = lz4.frame.LZ4FrameDecompressor()
        plain.write(decoder.decompress(body, limit + 1 - plain.tell()))
        if not decoder.eof and plain.tell() <= limit:
            raise EOFError("the compressed body is cut off")
        body = decoder.unused_data or b""
    return plain.getvalue()


def _zstd(body: bytes, limit: int) -> bytes:
    reader = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
    return bytes(reader.read(limit + 1))


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": lambda body, limit: _zlib(body, limit, 31),
    "deflate": lambda body, limit: _zlib(body, limit, 15),
    "lz4": _lz4,
    "zstd": _zstd,
}
_ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "lz4": lz4.frame.compress,
    "zstd": lambda body: zstandard.ZstdCompressor(level=1).compress(body),
    "gzip": lambda body: gzip.compress(body, compresslevel=1),
    "deflate": lambda body: zlib.compress(body, level=1),
}


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo ``encoding`` ("" and "identity" change nothing).

    Raises
    ------
    StoreError
        The encoding is unknown, the body is damaged, or it grows beyond ``limit`` bytes (HTTP 413).
    """
    if encoding in {"", "identity"}:
        return body
    decoder = _DECODERS.get(encoding)
    if decoder is None:
        raise StoreError(
            89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown Content-Encoding {encoding!r}", status=400
        )
    try:
        plain = decoder(body, limit)
    except (EOFError, RuntimeError, OSError, zlib.error, zstandard.ZstdError) as error:
        raise StoreError(
            354,
            "CANNOT_DECOMPRESS",
            f"Cannot undo Content-Encoding {encoding}: {error}",
            status=400,
        ) from error
    if len(plain) > limit:
        raise StoreError(
            290, "LIMIT_EXCEEDED", f"The body is larger than {limit} bytes decompressed", status=413
        )
    return plain


def choose_encoding(accepted: str) -> str:
    """Return the first encoding of an ``Accept-Encoding`` header that is known here, or "" for none."""
    for item in accepted.split(","):
        name, _, parameters = item.strip().lower().partition(";")
        if name.strip() in _ENCODERS and parameters.replace(" ", "") not in {"q=0", "q=0.0"}:
            return name.strip()
    return ""


def compress(body: bytes, encoding: str) -> tuple[bytes, str]:
    """Apply ``encoding`` where it is worth it; returns the body and the encoding that it has now ("" for none)."""
    if not encoding or len(body) < _MIN_BYTES:
        return body, ""
    return _ENCODERS[encoding](body), encoding
