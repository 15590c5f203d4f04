"""Fuzzes one target for a number of CPU seconds with Atheris: ``python -m tests.fuzz TARGET --seconds N``.

Goes on after a finding: each place that fails is kept once, with the input that showed it. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import atheris

from tests.fuzz.target import ENGINE_TARGETS, TARGETS, Target, load

__all__ = ["main"]


@dataclass
class Result:
    """What a run did; ``cpu_seconds`` are this process's own, those of a store are beside them."""

    target: str
    inputs: int = 0
    accepted: int = 0
    cpu_seconds: float = 0.0
    store_cpu_seconds: float = 0.0
    findings: dict[str, int] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, *ENGINE_TARGETS])
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="Corpus and findings")
    options = parser.parse_args()
    folder: Path = options.folder / options.target
    corpus, findings = folder / "corpus", folder / "findings"
    for path in (corpus, findings):
        path.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(
        include=["mobius_pipeline", "mobius_instrumentation", "tests.fuzz"]
    ):
        target = load(options.target)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    one_input = _bounded(target, Result(options.target), options.seconds, findings)
    flags = [
        "-max_len=8192",
        "-len_control=20",
        "-timeout=30",
        "-rss_limit_mb=3000",
        "-print_final_stats=0",
        f"-artifact_prefix={findings}/",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one_input)
    atheris.Fuzz()


def _bounded(
    target: Target, result: Result, seconds: float, findings: Path
) -> Callable[[bytes], None]:
    begin = time.process_time()

    def one_input(data: bytes) -> None:
        result.inputs += 1
        try:
            result.accepted += target.check(data)
        except Exception as error:  # noqa: BLE001 -- whatever escapes is a finding
            _keep(error, data, result, findings)
        result.cpu_seconds = round(time.process_time() - begin, 1)
        if result.cpu_seconds > seconds:
            result.store_cpu_seconds = round(target.close(), 1)
            sys.stdout.write(json.dumps(asdict(result)) + "\n")
            sys.stdout.flush()
            # libFuzzer ends a process only by an error.
            os._exit(1 if result.findings else 0)

    return one_input


def _keep(error: Exception, data: bytes, result: Result, findings: Path) -> None:
    last = traceback.extract_tb(error.__traceback__)[-1]
    name = f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
    if name not in result.findings:
        (findings / name).write_bytes(getattr(error, "input", data))
        (findings / f"{name}.txt").write_text(
            "".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace"
        )
        sys.stderr.write(f"FOUND {name}: {error!s:.300}\n")
    result.findings[name] = result.findings.get(name, 0) + 1


if __name__ == "__main__":
    main()
