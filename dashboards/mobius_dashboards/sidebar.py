"""The sidebar: who looks, and the choices that make a view. A changed choice changes the URL, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import streamlit as st

from mobius_dashboards import formatters, queries
from mobius_dashboards.const import MATCHES, MAX_WINDOW, PRESETS
from mobius_dashboards.login import login_configured
from mobius_dashboards.markup import anchor, esc
from mobius_dashboards.state import State, Window, link, to_params
from mobius_dashboards.viewer import Viewer
from mobius_instrumentation.zones import Zones
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.options import format_time

__all__ = ["sidebar"]

_CUSTOM: Final = "custom"
# What is no longer meant once another thing is chosen.
_DROPS: Final = {"zone": ("region", "environment", "service"), "region": ()}


def sidebar(viewer: Viewer, zones: Zones, state: State, window: Window, now: datetime) -> None:
    """Draw the sidebar."""
    bar = st.sidebar
    bar.html(
        f'<p class="mr-brand">{anchor(link(State(since=state.since, until=state.until)), "Mobius RUM")}</p>'
        f'<p class="mr-viewer">Viewer <b>{esc(viewer.name)}</b> sees {esc(viewer.sight)}. '
        f"{anchor(link(replace(state, page='residency', trace='', at='')), 'Residency')}</p>"
    )
    seen = [zone for zone in zones if viewer.sees(zone.name)]
    chosen = [zone for zone in seen if state.zone in ("", zone.name)]
    environments, services = _facets(viewer, zones, state, window)
    with bar:
        _select("Zone", "zone", state, [zone.name for zone in seen], "All zones you see")
        regions = [region for zone in chosen for region in zone.regions]
        _select("Region", "region", state, regions, "All regions")
        _select("Environment", "environment", state, environments, "All environments")
        _select("Service", "service", state, services, "All services")
        _window(state, window, now)
        _select("Compare with", "match", state, list(MATCHES), "All of production", words=MATCHES)
        st.button(
            "Refresh",
            on_click=queries.forget,
            width="stretch",
            help="Reads the stores again; without it, a page shows them at most 20 s late.",
        )
        if login_configured():
            st.button("Log out", on_click=st.logout, width="stretch")
        st.html(f'<p class="mr-viewer">Read at {esc(formatters.instant(now))}</p>')


def _facets(
    viewer: Viewer, zones: Zones, state: State, window: Window
) -> tuple[list[str], list[str]]:
    """Environments and services in the window; where a store is away the page itself says so."""
    environments: set[str] = set()
    services: set[str] = set()
    for zone in zones:
        if not viewer.sees(zone.name) or state.zone not in ("", zone.name):
            continue
        try:
            found = queries.facets(viewer, zone, window)
        except MobiusError:
            continue
        environments.update(found.environments)
        services.update(found.services)
    return sorted(environments), sorted(services)


def _select(
    title: str,
    name: str,
    state: State,
    options: Sequence[str],
    everything: str,
    *,
    words: Mapping[str, str] | None = None,
) -> None:
    value = getattr(state, name)
    # A value that the window does not have stays chosen and visible: the page says that it found nothing.
    values = ["", *options] if value in ("", *options) else ["", value, *options]
    key = f"choose-{name}"
    st.session_state[key] = value
    st.selectbox(
        title,
        values,
        key=key,
        format_func=lambda option: (words or {}).get(option, option) or everything,
        on_change=_chosen,
        args=(name,),
    )


def _chosen(name: str) -> None:
    value = st.session_state.get(f"choose-{name}") or ""
    _go({name: value, **dict.fromkeys(_DROPS.get(name, ()), "")})


def _go(changes: dict[str, str]) -> None:
    """Change the URL; Streamlit then runs the page anew from it."""
    for name, value in changes.items():
        if value:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)


def _window(state: State, window: Window, now: datetime) -> None:
    preset = state.since if state.since in PRESETS and not state.until else _CUSTOM
    st.session_state["choose-window"] = preset
    st.segmented_control(
        "Time window",
        [*PRESETS, _CUSTOM],
        key="choose-window",
        format_func=lambda option: PRESETS.get(option, "Custom"),
        on_change=_window_chosen,
        args=(window,),
        width="stretch",
    )
    if preset != _CUSTOM:
        return
    earliest, latest = now - 12 * MAX_WINDOW, now + timedelta(minutes=1)
    for title, name, moment in (
        ("From (UTC)", "since", window.since),
        ("To (UTC)", "until", window.until),
    ):
        st.session_state[f"choose-{name}"] = min(max(moment, earliest), latest).replace(tzinfo=None)
        st.datetime_input(
            title,
            key=f"choose-{name}",
            step=timedelta(minutes=1),
            format="YYYY-MM-DD",
            on_change=_edge_chosen,
            args=(window,),
        )


def _window_chosen(window: Window) -> None:
    choice = st.session_state.get("choose-window")
    if choice == _CUSTOM:
        _go({"since": format_time(window.since), "until": format_time(window.until)})
    elif choice:
        # The default stands in no URL.
        _go({"since": to_params(replace(State(), since=choice)).get("since", ""), "until": ""})


def _edge_chosen(window: Window) -> None:
    edges = {}
    for name, before in (("since", window.since), ("until", window.until)):
        value = st.session_state.get(f"choose-{name}") or before
        edges[name] = format_time(value.replace(tzinfo=UTC) if value.tzinfo is None else value)
    _go(edges)
