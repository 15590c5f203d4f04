"""Who runs this process, for the audit log."""

from __future__ import annotations

import os
import pwd

__all__ = ["system_user"]


def system_user() -> str:
    """Name of this process's user by the system, not by variables that anybody may set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
