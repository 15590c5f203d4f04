"""The dashboard's entry: builds the view from the URL and hands it to its page. Run by `mobius-rum dashboard`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import streamlit as st

from mobius_dashboards import state as states
from mobius_dashboards import strings
from mobius_dashboards.configuration import configuration
from mobius_dashboards.login import current_viewer
from mobius_dashboards.markup import esc, notice, with_code
from mobius_dashboards.pages import endpoint, overview, residency, trace
from mobius_dashboards.session import forget_another
from mobius_dashboards.sidebar import sidebar
from mobius_dashboards.style import css
from mobius_dashboards.theme import palette
from mobius_dashboards.view import View
from mobius_pipeline.errors import MobiusError

_PAGES: Final[dict[str, Callable[[View], None]]] = {
    "overview": overview.show,
    "endpoint": endpoint.show,
    "trace": trace.show,
    "residency": residency.show,
}


def main() -> None:
    """Draw one page."""
    now = datetime.now(UTC)
    state, problems = states.parse(st.query_params.to_dict(), now)
    st.set_page_config(
        page_title=f"{strings.title(state)} · Mobius RUM",
        page_icon=str(Path(__file__).with_name("icon.png")),
        layout="wide",
    )
    colours = palette(st.context.theme.type)
    st.html(css(colours))
    try:
        viewer = current_viewer(now)
        if viewer is None:
            return
        forget_another(viewer)
        zones = configuration().zones
        window = state.window(now)
        sidebar(viewer, zones, state, window, now)
        for problem in problems:
            st.html(notice(problem, kind="warn"))
        if not viewer.zones:
            st.html(notice("You see no zone.", with_code(strings.no_zone(viewer.name))))
            return
        scope = states.scope(state, zones, viewer)
        _PAGES[state.page](View(viewer, zones, state, window, scope, colours, now))
    except MobiusError as error:
        st.html(notice(strings.failure(error), esc(error), kind="error"))


# One page that routes by the URL's parameters: it also keeps Streamlit from serving the files of pages/ as
# scripts of their own, past the checks above.
st.navigation([st.Page(main, title="Mobius RUM", default=True)], position="hidden").run()
