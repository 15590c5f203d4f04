"""The residency map that the dashboard works with, read once per process and again when the file changes."""

from __future__ import annotations

import streamlit as st

from mobius_instrumentation.zones import Zones
from mobius_pipeline.config import find_zones_file, load_config

__all__ = ["configuration"]


def configuration() -> Zones:
    """Return the residency map in use.

    Raises
    ------
    UsageError
        There is none, or it is wrong.
    """
    file = find_zones_file()
    try:
        changed = file.stat().st_mtime_ns
    except OSError:
        changed = 0  # load_config says what is the matter
    return _load(str(file), changed)


@st.cache_resource(show_spinner=False, max_entries=4)
def _load(file: str, changed: int) -> Zones:  # noqa: ARG001 - part of the cache's key
    return load_config(file)
