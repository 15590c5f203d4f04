"""Looks through backups and spools for what is to be erased, and names the files; changes none of them."""

from __future__ import annotations

import gzip
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["FilesFound", "search_files"]

_PACKED: Final = frozenset({".bin", ".br", ".bz2", ".lz4", ".tar", ".tgz", ".xz", ".zip", ".zst"})
"""Compressed, or may be: a store's own files among them."""

_PIECE: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class FilesFound:
    """``holding`` hold it. ``unread`` may: packed files, unreadable ones, and places that are no folder here."""

    searched: int
    holding: tuple[Path, ...]
    unread: tuple[str, ...]


def search_files(places: Iterable[str | Path], needles: Sequence[bytes]) -> FilesFound:
    """Search all files below ``places`` for any of ``needles``; gzip is looked into."""
    searched, holding, unread = 0, [], []
    for place in places:
        folder = Path(place)
        if "://" in str(place) or not folder.is_dir():
            unread.append(str(place))
            continue
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            if file.suffix.lower() in _PACKED:
                unread.append(str(file))
                continue
            try:
                found = _holds(file, needles)
            except (OSError, EOFError):
                unread.append(str(file))
                continue
            searched += 1
            if found:
                holding.append(file)
    return FilesFound(searched, tuple(holding), tuple(unread))


def _holds(file: Path, needles: Sequence[bytes]) -> bool:
    if file.suffix.lower() != ".gz":
        if not file.stat().st_size:
            return False
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            return any(text.find(needle) >= 0 for needle in needles)
    return any(any(needle in piece for needle in needles) for piece in _pieces(file, needles))


def _pieces(file: Path, needles: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the unpacked content, piece by piece, each with the end of the one before it."""
    overlap = max(map(len, needles), default=1) - 1
    with gzip.open(file) as opened:
        rest = b""
        while piece := opened.read(_PIECE):
            yield rest + piece
            rest = piece[-overlap:] if overlap else b""
