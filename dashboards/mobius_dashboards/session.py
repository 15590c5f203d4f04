"""What a browser's session keeps between two renderings belongs to one viewer with one policy."""

from __future__ import annotations

from typing import Final

import streamlit as st

from mobius_dashboards.viewer import Viewer

__all__ = ["forget_another", "forget_everything"]

_OWNER: Final = "viewer"


def forget_another(viewer: Viewer) -> None:
    """Throw away what the session holds where somebody else left it, or the same person with another policy."""
    owner = (viewer.name, viewer.subject, *viewer.policy)
    if st.session_state.get(_OWNER, owner) != owner:
        forget_everything()
    st.session_state[_OWNER] = owner


def forget_everything() -> None:
    """Throw away what the session holds."""
    st.session_state.clear()
