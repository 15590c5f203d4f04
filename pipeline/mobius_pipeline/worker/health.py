"""What a worker says about itself over HTTP: ``/livez``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, Literal

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import MobiusError, UsageError
from mobius_pipeline.store import Purpose, connect, store_errors
from mobius_pipeline.worker.metrics import RetryCause, WorkerMetrics
from mobius_pipeline.worker.steps import Batch, Step

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["LIVE_SECONDS", "READY_SECONDS", "Dependency", "Health", "Timed", "serve_health"]

Dependency = Literal["broker", "store"]

# Longer than any one request may take (a time-out ends each after 30 s), so that a store that hangs makes a worker
# unready and never dead: killing it would change nothing.
LIVE_SECONDS: Final = 120.0
# Longer than the loop may be away from the broker while a big insert runs.
READY_SECONDS: Final = 30.0
# How often the store is asked for its newest row, which also proves that it answers while there is no traffic.
_ASK_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Answers:
    """When a dependency last answered, and last failed to (monotonic seconds)."""

    answered: float = float("-inf")
    failed: float = float("-inf")

    def problem(self, now: float) -> str:
        if self.answered == float("-inf"):
            return "has not answered yet"
        if self.failed >= self.answered:
            return "does not answer"
        if now - self.answered > READY_SECONDS:
            return f"last answered {now - self.answered:.0f} s ago"
        return ""


@dataclass(slots=True)
class Health:
    """Written by the worker's loop and the watcher of the store, read by the HTTP server's threads.

    Each field has one kind of writer and is one assignment, so no lock is needed.
    """

    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    clock: Callable[[], float] = time.monotonic
    _beat: float = field(init=False)
    _reading: bool = False
    _answers: dict[Dependency, _Answers] = field(
        default_factory=lambda: {"broker": _Answers(), "store": _Answers()}
    )

    def __post_init__(self) -> None:
        """Begin alive and not ready."""
        self._beat = self.clock()
        self.metrics.heartbeat(lambda: self.clock() - self._beat)

    def beat(self) -> None:
        """The loop turned."""
        self._beat = self.clock()

    def answered(self, dependency: Dependency) -> None:
        """Broker or store answered."""
        self._answers[dependency].answered = self.clock()

    def began_again(self, cause: RetryCause) -> None:
        """The worker lost its place, or a dependency, and begins again at the ledger."""
        self._reading = False
        self.metrics.retried(cause)
        if cause in ("broker", "store"):
            self._answers[cause].failed = self.clock()

    def began_reading(self, ends: Mapping[int, int]) -> None:
        """The worker has its place in the topic, as broker and store told it; messages are there below ``ends``."""
        self.answered("broker")
        self.answered("store")
        self.metrics.ends(ends)
        self._reading = True

    def turned(self, heard: float, ends: Mapping[int, int], paused: Collection[int] = ()) -> None:
        """The loop turned; the broker was ``heard`` then and has messages below ``ends``."""
        self.beat()
        self._answers["broker"].answered = heard
        self.metrics.ends(ends, len(paused))

    def stored(self, batch: Batch) -> None:
        """A batch is finished."""
        self.beat()
        self.answered("store")
        self.metrics.finished(batch)

    def live(self) -> tuple[bool, dict[str, object]]:
        """Whether the loop turns, and what ``/livez`` says."""
        age = self.clock() - self._beat
        return age <= LIVE_SECONDS, {"heartbeat_age_seconds": round(age, 3)}

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Whether the worker reads and both dependencies answered lately, and what ``/readyz`` says."""
        now = self.clock()
        problems: dict[str, str] = {
            name: answers.problem(now) for name, answers in self._answers.items()
        }
        if not self._reading:
            problems["worker"] = "has no place in the topic yet"
        ready = not any(problems.values())
        return ready, {name: problem or "ok" for name, problem in problems.items()}


class Timed:
    """The step that inserts, with its seconds told."""

    def __init__(self, step: Step[Batch, Batch], health: Health) -> None:
        self._step = step
        self._health = health

    def submit(self, item: Batch) -> Iterator[Batch]:
        """Time one batch."""
        self._health.beat()
        begun = self._health.clock()
        for out in self._step.submit(item):
            self._health.metrics.inserted(self._health.clock() - begun)
            yield out

    def poll(self) -> Iterable[Batch]:
        """As the step."""
        return self._step.poll()

    def close(self) -> Iterable[Batch]:
        """As the step."""
        return self._step.close()


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:  # the base class's name
            path = self.path.partition("?")[0]
            if path == "/metrics":
                text = health.metrics.text()
                self._answer(200, text, "text/plain; version=0.0.4; charset=utf-8")
            elif path in {"/livez", "/readyz"}:
                good, document = health.live() if path == "/livez" else health.ready()
                body = json.dumps({"ok": good, **document}).encode()
                self._answer(200 if good else 503, body, "application/json")
            else:
                self._answer(404, b"/livez, /readyz, /metrics\n", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Keep quiet: probes come every second."""

    return Handler


@contextmanager
def serve_health(health: Health, zone: Zone, host: str, port: int) -> Iterator[None]:
    """Answer on ``host``:``port``, and watch the store, until the block ends; nothing happens for port 0.

    Raises
    ------
    UsageError
        The address cannot be had.
    """
    if not port:
        yield
        return
    try:
        server = ThreadingHTTPServer((host, port), _handler(health))
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be had ({error.strerror}); choose another port, or 0 for none",
            field="--health-port",
        ) from error
    server.daemon_threads = True
    done = threading.Event()
    threads = [
        threading.Thread(target=server.serve_forever, name="health", daemon=True),
        threading.Thread(target=_watch_store, args=(health, zone, done), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        # The watcher may hang in a request: it is a daemon, and is not waited for.
        done.set()
        server.shutdown()
        server.server_close()


def _watch_store(health: Health, zone: Zone, done: threading.Event) -> None:
    """Ask the store for its newest row now and then, over a connection of its own."""
    while not done.is_set():
        # What is wrong, the loop finds out by itself and says; silence here makes the worker unready in time.
        with suppress(MobiusError), closing(connect(zone, Purpose.INGEST)) as client:
            while not done.is_set():
                with store_errors(zone):
                    health.metrics.newest_row(_newest_row(client))
                health.answered("store")
                done.wait(_ASK_SECONDS)
        done.wait(_ASK_SECONDS)


def _newest_row(client: Client) -> float:
    # The engine keeps the greatest start of each part: no row is read.
    count, newest = client.query("SELECT count(), max(start) FROM spans").result_rows[0]
    return float(newest.replace(tzinfo=UTC).timestamp()) if count else float("nan")
