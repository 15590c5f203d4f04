"""Outlives the supervisor by one moment, to end what the supervisor could not.

Reads process groups from standard input, one a line: ``+1234`` to watch, ``-1234`` to forget. When the
input ends - the supervisor is done, or was killed - every group still watched is killed. ``launch.py``
ends the parts themselves; this ends the children that they started. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Watch until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
