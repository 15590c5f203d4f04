"""A server that traces before it forks: loads and uses the application, forks workers, each serves by uvicorn."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import Counter

import uvicorn

from tests.instrumentation.service_under_test import app


def main() -> None:
    from opentelemetry import trace

    # The parent traces as well, and its exporter has a thread and a client when it forks.
    tracer = trace.get_tracer("parent")
    for _ in range(5):
        tracer.start_span("parent").end()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    workers = []
    for _ in range(int(sys.argv[1])):
        child = os.fork()
        if child == 0:
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
            return
        workers.append(child)

    def end(number: int, _frame: object) -> None:
        for worker in workers:
            os.kill(worker, number)

    signal.signal(signal.SIGTERM, end)
    sys.stderr.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stderr.flush()
    codes = Counter(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers)
    sys.stderr.write(f"workers ended with {dict(codes)}\n")


if __name__ == "__main__":
    main()
