"""ClickHouse's own framing of compressed blocks, which its native clients use over HTTP too.

A frame: CityHash128 of what follows (16 bytes), method (1), size with this header of 9 bytes (4), size decompressed
(4), data. The hash is version 1.0.2 of CityHash, which ClickHouse has kept since; later versions give other values.
Format: ClickHouse, `src/Compression/ICompressionCodec.h`. Hash: Pike and Alakuijala, CityHash (Google, 2011).
"""

from __future__ import annotations

import struct
from typing import Final

import lz4.block  # type: ignore[import-untyped]  # ships no types
import zstandard

__all__ = ["city_hash_128", "frame", "unframe"]

_NONE: Final = 0x02
_LZ4: Final = 0x82
_ZSTD: Final = 0x90
_CHECKSUM: Final = 16
_HEADER: Final = struct.Struct("<BII")

_K0: Final = 0xC3A5C85C97CB3127
_K1: Final = 0xB492B66FBE98F273
_K2: Final = 0x9AE16A3B2F90404F
_K3: Final = 0xC949D7C7509E6557  # not in later versions
_MUL: Final = 0x9DDFEA08EB382D69
_MASK: Final = (1 << 64) - 1


def unframe(body: bytes) -> bytes:
    """Decompress all frames of ``body``. Checksums are not looked at: TCP has its own, and time would be measured.

    Raises
    ------
    ValueError
        The body ends within a frame, or a frame's method is unknown or its data damaged.
    """
    parts = []
    at = 0
    while at < len(body):
        begin = at + _CHECKSUM + _HEADER.size
        if begin > len(body):
            raise ValueError("a compressed block ends within its header")
        method, size, plain_size = _HEADER.unpack_from(body, at + _CHECKSUM)
        at += _CHECKSUM + size
        if size < _HEADER.size or at > len(body):
            raise ValueError("a compressed block ends within its data")
        parts.append(_decompress(method, memoryview(body)[begin:at], plain_size))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _decompress(method: int, data: memoryview, size: int) -> bytes:
    if method == _NONE:
        return bytes(data)
    try:
        if method == _LZ4:
            return bytes(lz4.block.decompress(data, uncompressed_size=size))
        if method == _ZSTD:
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
        raise ValueError(f"a compressed block is damaged: {error}") from error
    raise ValueError(f"a block is compressed by an unknown method, {method:#x}")


def frame(body: bytes) -> bytes:
    """Frame ``body`` uncompressed, for answers of a few rows."""
    content = _HEADER.pack(_NONE, _HEADER.size + len(body), len(body)) + body
    return struct.pack("<QQ", *city_hash_128(content)) + content


def city_hash_128(data: bytes) -> tuple[int, int]:
    """CityHash128 1.0.2 of ``data``: its low and its high 64 bits."""
    if len(data) >= 16:
        return _seeded(data[16:], _u64(data, 0) ^ _K3, _u64(data, 8))
    if len(data) >= 8:
        seed = _u64(data, 0) ^ (len(data) * _K0 & _MASK)
        return _seeded(b"", seed, _u64(data, len(data) - 8) ^ _K1)
    return _seeded(data, _K0, _K1)


def _seeded(data: bytes, low: int, high: int) -> tuple[int, int]:
    return _long(data, low, high) if len(data) >= 128 else _murmur(data, low, high)


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _rotate(value: int, bits: int) -> int:
    value &= _MASK
    return (value >> bits | value << (64 - bits)) & _MASK if bits else value


def _mix(value: int) -> int:
    value &= _MASK
    return value ^ value >> 47


def _hash_16(low: int, high: int) -> int:
    mixed = _mix(((low ^ high) & _MASK) * _MUL)
    return _mix(((high ^ mixed) & _MASK) * _MUL) * _MUL & _MASK


def _hash_to_16(data: bytes) -> int:
    size = len(data)
    if size > 8:
        low, high = _u64(data, 0), _u64(data, size - 8)
        return _hash_16(low, _rotate(high + size, size)) ^ high
    if size >= 4:
        return _hash_16(size + (_u32(data, 0) << 3), _u32(data, size - 4))
    if size > 0:
        y = data[0] + (data[size >> 1] << 8)
        z = size + (data[-1] << 2)
        return _mix(y * _K2 ^ z * _K3) * _K2 & _MASK
    return _K2


def _weak_32(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = (_u64(data, at + step) for step in (0, 8, 16, 24))
    a = (a + w) & _MASK
    b = _rotate(b + a + z, 21)
    c = a
    a = (a + x + y) & _MASK
    b = (b + _rotate(a, 44)) & _MASK
    return (a + z) & _MASK, (b + c) & _MASK


def _murmur(data: bytes, a: int, b: int) -> tuple[int, int]:
    left = len(data) - 16
    if left <= 0:
        a = _mix(a * _K1) * _K1 & _MASK
        c = (b * _K1 + _hash_to_16(data)) & _MASK
        d = _mix(a + (_u64(data, 0) if len(data) >= 8 else c))
    else:
        c = _hash_16(_u64(data, len(data) - 8) + _K1 & _MASK, a)
        d = _hash_16((b + len(data)) & _MASK, (c + _u64(data, len(data) - 16)) & _MASK)
        a = (a + d) & _MASK
        at = 0
        while left > 0:
            a = ((a ^ _mix(_u64(data, at) * _K1) * _K1) & _MASK) * _K1 & _MASK
            b ^= a
            c = ((c ^ _mix(_u64(data, at + 8) * _K1) * _K1) & _MASK) * _K1 & _MASK
            d ^= c
            at += 16
            left -= 16
    a = _hash_16(a, c)
    b = _hash_16(d, b)
    return a ^ b, _hash_16(b, a)


def _long(data: bytes, x: int, y: int) -> tuple[int, int]:
    size = len(data)
    z = size * _K1 & _MASK
    v0 = (_rotate(y ^ _K1, 49) * _K1 + _u64(data, 0)) & _MASK
    v1 = (_rotate(v0, 42) * _K1 + _u64(data, 8)) & _MASK
    w0 = (_rotate(y + z, 35) * _K1 + x) & _MASK
    w1 = _rotate(x + _u64(data, 88), 53) * _K1 & _MASK
    at = 0
    while size - at >= 128:
        for _ in range(2):
            x = _rotate(x + y + v0 + _u64(data, at + 16), 37) * _K1 & _MASK
            y = _rotate(y + v1 + _u64(data, at + 48), 42) * _K1 & _MASK
            x ^= w1
            y ^= v0
            z = _rotate(z ^ w0, 33)
            v0, v1 = _weak_32(data, at, v1 * _K1, x + w0)
            w0, w1 = _weak_32(data, at + 32, z + w1, y)
            z, x = x, z
            at += 64
    y = (y + _rotate(w0, 37) * _K0 + z) & _MASK
    x = (x + _rotate(v0 + z, 49) * _K0) & _MASK
    # The rest, in steps of 32 bytes from the end; the last step may reach back into what was hashed already.
    done = 0
    while done < size - at:
        done += 32
        y = (_rotate(y - x, 42) * _K0 + v1) & _MASK
        w0 = (w0 + _u64(data, size - done + 16)) & _MASK
        x = (_rotate(x, 49) * _K0 + w0) & _MASK
        w0 = (w0 + v0) & _MASK
        v0, v1 = _weak_32(data, size - done, v0, v1)
    x = _hash_16(x, v0)
    y = _hash_16(y, w0)
    return (_hash_16((x + v1) & _MASK, w1) + y) & _MASK, _hash_16(
        (x + w1) & _MASK, (y + v1) & _MASK
    )
