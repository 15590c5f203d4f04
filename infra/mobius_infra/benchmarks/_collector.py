"""OpenTelemetry Collectors, of `infra/benchmarks/` if none is named: built once with their own builder, and kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from mobius_infra.kafka_broker.distribution import cache_folder
from mobius_pipeline.errors import DependencyError

__all__ = ["CollectorMissingError", "build", "definition_folder"]

_BUILDER: Final = "go.opentelemetry.io/collector/cmd/builder@v0.161.0"
_NAME: Final = re.compile(rb"^  name: ([\w-]+)$", re.MULTILINE)


class CollectorMissingError(DependencyError):
    """The Collector can be neither found nor built on this machine; says what is missing."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "the OpenTelemetry Collector",
            "this machine",
            reason=reason,
            remedy="install Go 1.25 or later, or leave it out with --without-collector",
        )


def definition_folder() -> Path:
    """Folder of the builder's manifest, the configuration and the rollup: in the wheel, or in the repository."""
    package = Path(__file__).resolve().parent
    packed = package / "definition"
    return packed if packed.is_dir() else package.parents[1] / "benchmarks"


def build(manifest_file: Path | None = None, *, seconds: float = 1800.0) -> Path:
    """Return the Collector's program; the first time it is built, which takes minutes.

    Raises
    ------
    CollectorMissingError
        There is no Go, or the build fails or takes longer than ``seconds``.
    """
    manifest = (manifest_file or definition_folder() / "manifest.yaml").read_bytes()
    named = _NAME.search(manifest)
    if named is None:
        raise CollectorMissingError("its manifest has no dist.name")
    digest = hashlib.sha256(manifest + _BUILDER.encode()).hexdigest()[:12]
    folder = cache_folder() / f"collector-{digest}"
    program = folder / named[1].decode()
    if program.is_file():
        return program
    if shutil.which("go") is None:
        raise CollectorMissingError("Go is missing")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "collector.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            _build(manifest, program, seconds)
    return program


def _build(manifest: bytes, program: Path, seconds: float) -> None:
    folder = program.parent
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as beside:
        work = Path(beside)
        (work / "manifest.yaml").write_bytes(manifest)
        try:
            done = subprocess.run(
                ["go", "run", _BUILDER, "--config", "manifest.yaml"],
                cwd=work,
                env={**os.environ, "GOFLAGS": "-buildvcs=false"},
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CollectorMissingError(f"it was not built after {seconds:.0f} s") from error
        if done.returncode or not (work / "build" / program.name).is_file():
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise CollectorMissingError(f"its builder failed: {last[:300]}")
        (work / "build").rename(folder)
