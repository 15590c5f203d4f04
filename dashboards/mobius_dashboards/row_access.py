"""Single requests are shown only after their zone has written down who reads them, and why where it asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from mobius_dashboards.markup import esc, notice
from mobius_dashboards.viewer import Viewer, require
from mobius_instrumentation.zones import Zone
from mobius_pipeline.residency.audit import LONGEST_REASON, RowRead, record_read

if TYPE_CHECKING:
    from mobius_pipeline.residency.audit import Action

__all__ = ["ask_reason", "open_rows"]


def open_rows(viewer: Viewer, zone: Zone, action: Action, rows: Mapping[str, str]) -> None:
    """Write down that ``viewer`` reads single requests; whatever reads them calls it first.

    Raises
    ------
    ForbiddenError
        The viewer sees only aggregates of this zone.
    ReasonError
        The zone asks for a reason, and the viewer has given none: :func:`ask_reason` asks.
    DependencyError, TerminalError
        It could not be written.
    """
    require(viewer, zone.name, "spans")
    reason = str(st.session_state.get(_key(zone), ""))
    read = RowRead(viewer.name, viewer.subject, action, rows, reason)
    record_read(zone, read, reason_needed=zone.name in viewer.asked_why)


def ask_reason(zone: Zone) -> None:
    """Ask why the viewer looks; the answer counts for this zone until the session ends."""
    st.html(
        notice(
            f"Why do you look at single requests of zone {zone.name}?",
            esc("The zone keeps who looked at what, when, and why."),
        )
    )
    with st.form(f"why-{zone.name}", border=False):
        st.text_input("Reason", key=_field(zone), max_chars=LONGEST_REASON)
        st.form_submit_button("Show them", on_click=_take, args=(zone,))


def _take(zone: Zone) -> None:
    st.session_state[_key(zone)] = str(st.session_state.get(_field(zone), "")).strip()


def _key(zone: Zone) -> str:
    return f"reason-{zone.name}"


def _field(zone: Zone) -> str:
    return f"reason-text-{zone.name}"
