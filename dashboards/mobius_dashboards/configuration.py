"""The residency map and the policy of the same file, read once per process and again when the file changes."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from mobius_instrumentation.zones import Zones
from mobius_pipeline.config import find_zones_file, load_config
from mobius_pipeline.residency.contradictions import load_policy
from mobius_pipeline.residency.policy import Policy

__all__ = ["Configuration", "configuration"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Where the zones are, and who may see them."""

    zones: Zones
    policy: Policy


def configuration() -> Configuration:
    """Return map and policy in use; a policy that contradicts itself is none, so nothing is shown by it.

    Raises
    ------
    UsageError
        There is no file, or it is wrong, as `mobius-rum residency check` says.
    """
    file = find_zones_file()
    try:
        found = file.stat()
        changed = (found.st_mtime_ns, found.st_size, found.st_ino)
    except OSError:
        changed = (0, 0, 0)  # reading it says what is the matter
    return _load(str(file), changed)


@st.cache_resource(show_spinner=False, max_entries=4)
def _load(file: str, changed: tuple[int, ...]) -> Configuration:  # noqa: ARG001 - part of the cache's key
    policy = load_policy(file)
    return Configuration(load_config(file), policy)
