"""Become one Kafka broker: ``python -m mobius_infra.kafka_broker --data DIR --port N``.

It fetches the jars if need be, formats the folder if it is new, and then this very process becomes Java: its
process id is the broker's, SIGTERM stops it in good order, and whatever was to kill this process kills it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TextIO

from mobius_infra.kafka_broker.broker import free_ports
from mobius_infra.kafka_broker.distribution import lay_out
from mobius_infra.kafka_broker.node import Node
from mobius_pipeline.errors import MobiusError


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and become the broker; return an exit code where it does not come to that."""
    parser = argparse.ArgumentParser(
        prog="python -m mobius_infra.kafka_broker",
        description="One Apache Kafka node on 127.0.0.1. Needs Java 17 or later; Maven the first time.",
    )
    parser.add_argument("--data", type=Path, help="data folder; made when it is not there")
    parser.add_argument("--port", type=int, default=0, help="port of clients; 0 takes a free one")
    parser.add_argument(
        "--controller-port", type=int, default=0, help="port of its controller; the same"
    )
    parser.add_argument(
        "--fetch-only", action="store_true", help="only fetch the jars; prints where they are"
    )
    given = parser.parse_args(arguments)
    if given.data is None and not given.fetch_only:
        parser.error("--data is required")
    try:
        distribution = lay_out(say=lambda text: _say(text, sys.stderr))
        if given.fetch_only:
            _say(
                json.dumps({"jars": str(distribution.jars), "java": str(distribution.java)}),
                sys.stdout,
            )
            return 0
        port, controller_port = free_ports(given.port, given.controller_port)
        node = Node(given.data.absolute(), port, controller_port)
        command = node.prepare(distribution)
    except MobiusError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    _say(f"starting 127.0.0.1:{port}", sys.stdout)
    os.chdir(node.data)
    return os.execv(command[0], command)  # noqa: S606 - no shell wanted: the program is an absolute path


def _say(text: str, stream: TextIO) -> None:
    stream.write(f"{text}\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
