"""Becomes another program that dies when its parent dies.

Run as a script by :mod:`mobius_infra.stack.process`: ``launch.py PARENT PROGRAM ARGUMENT...``. A program
cannot be told from outside to die with its parent (``PR_SET_PDEATHSIG`` acts on the caller alone, and
outlives ``exec``), hence this step between. Standard library only: it starts in a few milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Ask for SIGKILL on the parent's death, then become the program."""
    parent = int(sys.argv[1])
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGKILL)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell wanted: the program is an absolute path


if __name__ == "__main__":
    main()
