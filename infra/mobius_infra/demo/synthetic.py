"""Run the shop's test suite against one region after the other, and import each result file.

``python -m mobius_infra.demo.synthetic --target eu-west-1=http://127.0.0.1:8141 ... --out DIR --every 60``.
A file that could not be imported (the store was away) stays in the folder and is tried again after the
next run, also after a restart of this program; imported files go to ``DIR/imported``.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from mobius_infra.demo import shop
from mobius_infra.demo.counters import write_atomically
from mobius_infra.demo.options import Target, add_targets

__all__ = ["Runner", "main"]

_LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
_USERS: Final = 4
_NICE: Final = 5
_GRACE_SECONDS: Final = 30.0
_IMPORT_SECONDS: Final = 60.0
_UNIMPORTED_DAYS: Final = 7


class Runner:
    """Runs the suite and keeps count.

    Parameters
    ----------
    folder
        Where result files wait for their import.
    stop
        Set to end: a run under way is cut off, and its file not imported.
    """

    def __init__(
        self, folder: Path, seconds: float, stop: threading.Event, stats_file: Path | None = None
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        self._stop = stop
        self._stats_file = stats_file
        self.counters = dict.fromkeys(
            ("runs", "imported", "requests", "failed_runs", "failed_imports"), 0
        )
        (folder / "imported").mkdir(parents=True, exist_ok=True)

    def run(self, target: Target) -> None:
        """Run the suite once against ``target``; what came of it is counted, never raised."""
        region, url = target
        version = _version(url)
        if version is None:
            _say(f"no storefront at {url} ({region}); no test run")
            self._count(failed_runs=1)
            return
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        file = self._folder / f"{region}__{version}__{name}.jsonl"
        environment = {
            **os.environ,
            "MOBIUS_TEST_RESULTS": str(file),
            "MOBIUS_TEST_NAME": shop.TEST_NAME,
            "MOBIUS_TEST_RUN": name,
        }
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(_LOCUSTFILE),
            "--headless",
            "--host",
            url,
        ]
        command += ["-u", str(_USERS), "-r", str(_USERS), "-t", f"{self._seconds:.0f}s", "-s", "5"]
        # A failed request makes Locust exit with 1, but the run is good.
        command += ["--only-summary", "--loglevel", "WARNING", "--exit-code-on-error", "0"]
        code = self._child(command, environment, self._seconds + _GRACE_SECONDS)
        if self._stop.is_set():
            file.unlink(missing_ok=True)
        elif code != 0 or not file.is_file():
            _say(f"the test run against {region} failed (Locust exited with {code})")
            file.unlink(missing_ok=True)
            self._count(failed_runs=1)
        else:
            self._count(runs=1)

    def import_files(self) -> None:
        """Import what waits in the folder, oldest first."""
        for file in sorted(self._folder.glob("*__*__*.jsonl"), key=lambda f: f.stat().st_mtime):
            if self._stop.is_set():
                return
            region, version, _ = file.stem.split("__")
            document = _import(file, region, version)
            if document is None:
                self._count(failed_imports=1)
                if time.time() - file.stat().st_mtime > _UNIMPORTED_DAYS * 86_400:
                    file.unlink()
                return  # the others would fail alike; after the next run
            file.replace(file.parent / "imported" / file.name)
            self._count(imported=1, requests=int(document["requests"]))

    def _child(self, command: list[str], environment: dict[str, str], seconds: float) -> int | None:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        # Elsewhere a load generator has its own machine; here it must not take what it measures.
        os.setpriority(os.PRIO_PROCESS, child.pid, _NICE)
        deadline = time.monotonic() + seconds
        while child.poll() is None:
            if self._stop.wait(0.2) or time.monotonic() > deadline:
                child.terminate()
                try:
                    child.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        return child.returncode

    def _count(self, **more: int) -> None:
        for name, number in more.items():
            self.counters[name] += number
        if self._stats_file is not None:
            pending = len(list(self._folder.glob("*__*__*.jsonl")))
            write_atomically(self._stats_file, json.dumps({**self.counters, "pending": pending}))


def _import(file: Path, region: str, version: str) -> dict[str, Any] | None:
    """Import one file through the product's own command; None if that failed."""
    command = ["nice", "-n", str(_NICE), sys.executable, "-m", "mobius_infra.cli"]
    command += ["import", "synthetic", str(file), "--json"]
    command += ["--region", region, "--test", shop.TEST_NAME, "--release", version]
    command += ["--service", shop.SERVICE_STOREFRONT, "--environment", shop.ENVIRONMENT]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        _say(f"{file.name}: the import took over {_IMPORT_SECONDS:.0f} s")
        return None
    if done.returncode != 0:
        _say(f"{file.name}: not imported (exit {done.returncode}): {done.stderr.strip()[-400:]}")
        return None
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _version(url: str) -> str | None:
    """Release that answers at ``url``, None if nothing does."""
    try:
        answer = httpx.get(f"{url}/healthz", timeout=5, trust_env=False)
        return str(answer.raise_for_status().json()["version"])
    except (httpx.HTTPError, KeyError, ValueError):
        return None


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> None:
    """Test the demo shop on a schedule."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    add_targets(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the result files")
    parser.add_argument(
        "--every",
        type=float,
        default=60.0,
        help="seconds from round to round; a round tests each region once",
    )
    parser.add_argument("--run-seconds", type=float, default=22.0, help="length of one run")
    parser.add_argument("--stats-file", type=Path, help="JSON counters, renewed at every change")
    parser.add_argument("--rounds", type=int, help="stop after so many rounds; else at SIGTERM")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    runner = Runner(options.out, options.run_seconds, stop, options.stats_file)
    rounds = 0
    while not stop.is_set():
        next_round = time.monotonic() + options.every
        for target in options.target:
            if not stop.is_set():
                runner.run(target)
                runner.import_files()
        rounds += 1
        if rounds == options.rounds:
            break
        stop.wait(max(0.0, next_round - time.monotonic()))


if __name__ == "__main__":
    main()
