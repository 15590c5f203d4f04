"""The ports of the local stack: fixed, so that addresses stay the same, and each with an option."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mobius_pipeline.errors import UsageError

__all__ = ["DEFAULTS", "PortBlock", "check_free"]


@dataclass(frozen=True, slots=True)
class PortBlock:
    """Ports that follow each other, the option that moves them, and what listens on each."""

    option: str
    first: int
    users: tuple[str, ...]

    def port(self, user: str) -> int:
        """Port of one user of the block."""
        return self.first + self.users.index(user)


# First port of each block by its option; the blocks do not overlap.
DEFAULTS: Final = {
    "--dashboard-port": 8100,
    "--broker-port": 8120,
    "--store-port": 8130,
    "--demo-port": 8140,
    "--worker-port": 8150,
}


def check_free(blocks: Sequence[PortBlock]) -> None:
    """Make sure that every port can be had, before anything is started.

    Raises
    ------
    UsageError
        A port is taken, or two blocks overlap, or a block leaves the range of ports; names the option.
    """
    owner: dict[int, PortBlock] = {}
    for block in blocks:
        for offset, user in enumerate(block.users):
            port = block.first + offset
            if not 1 <= port <= 65_535:
                raise UsageError(f"there is no port {port} for the {user}", field=block.option)
            if port in owner:
                raise UsageError(
                    f"port {port} is wanted for the {user} and by {owner[port].option} too; "
                    f"move one of them with {block.option} or {owner[port].option}"
                )
            owner[port] = block
            _check(port, user, block)


def _check(port: int, user: str, block: PortBlock) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without it, connections of the last stack that linger in TIME_WAIT would look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = (
                "is in use"
                if error.errno == errno.EADDRINUSE
                else f"cannot be had ({error.strerror})"
            )
            last = block.first + len(block.users) - 1
            needs = (
                f"ports {block.first} to {last}" if len(block.users) > 1 else f"port {block.first}"
            )
            raise UsageError(
                f"port {port}, wanted for the {user}, {why}: end what listens there, or choose others with "
                f"{block.option} NUMBER (now {needs})"
            ) from error
