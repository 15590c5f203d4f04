"""A store on a disk of its own that a test can fill, in bytes or in files, and empty again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from tests.conftest import stop_process

__all__ = ["SmallDisk", "store_on_small_disk"]

# Inserts end when 256 MiB are left.
_BYTES = 640 << 20
_FILES = 20_000
_MOUNT = f'mount -t tmpfs -o size={_BYTES},nr_inodes={_FILES} tmpfs "$0" && exec "$@"'


class SmallDisk:
    """The disk as seen from here, although it is mounted for the store's process alone; ``url`` is the store's."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder

    def fill(self, what: Literal["bytes", "files"]) -> None:
        """Leave no byte, or no file, free."""
        with contextlib.suppress(OSError):
            if what == "bytes":
                with (self._folder / "filler").open("ab", buffering=0) as filler:
                    while filler.write(b"x" * 65_536):
                        pass
            fillers = self._folder / "fillers"
            fillers.mkdir(exist_ok=True)
            for number in range(_FILES if what == "files" else 0):
                (fillers / str(number)).touch()

    def free(self) -> None:
        """Take away what filled it."""
        (self._folder / "filler").unlink(missing_ok=True)
        shutil.rmtree(self._folder / "fillers", ignore_errors=True)


@contextmanager
def store_on_small_disk() -> Iterator[SmallDisk]:
    """Start a store on a tmpfs in a mount namespace of its own; skips, and says why, where that is not allowed."""
    folder = Path(tempfile.mkdtemp(prefix="mobius-small-disk-"))
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *own_user, "--mount", "sh", "-c", _MOUNT, str(folder), sys.executable]
    server = ["-m", "mobius_infra.store_server", "--path", str(folder / "data"), "--port", "0"]
    log = folder.with_suffix(".log")
    try:
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, *server], stdout=subprocess.PIPE, stderr=stderr, text=True
            )
    except FileNotFoundError:
        pytest.skip("NOT TESTED ON A FULL DISK: there is no unshare on the PATH")
    assert process.stdout is not None
    ready = process.stdout.readline().split()
    if not ready:
        stop_process(process)
        said = log.read_text()[:200]
        pytest.skip(f"NOT TESTED ON A FULL DISK: no disk of its own can be mounted ({said})")
    try:
        yield SmallDisk(ready[1], Path(f"/proc/{process.pid}/root{folder}"))
    finally:
        stop_process(process)
        shutil.rmtree(folder, ignore_errors=True)
        log.unlink()
