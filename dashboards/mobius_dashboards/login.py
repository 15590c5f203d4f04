"""Who looks: whoever has logged in with the configured provider, or a local user where none is configured."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import streamlit as st

from mobius_dashboards.configuration import configuration
from mobius_dashboards.identity import LEEWAY, Identity, LoginError, identity_from
from mobius_dashboards.markup import esc, notice
from mobius_dashboards.oidc_options import OidcOptions, oidc_options
from mobius_dashboards.session import forget_everything
from mobius_dashboards.viewer import Viewer, local_viewer, login_viewer

__all__ = ["current_viewer", "login_configured"]

# A page left open looks at the clock so often at least: timers of sleeping browsers are late.
_LOOK_SECONDS: Final = 60.0


def login_configured() -> bool:
    """Whether people log in, and so can log out."""
    return oidc_options(os.environ) is not None


def current_viewer(now: datetime) -> Viewer | None:
    """Return who looks, or None after drawing what asks for a login: nothing else may be drawn then.

    Raises
    ------
    UsageError
        The configuration of login, zones or policy is wrong; it fails closed.
    """
    options = oidc_options(os.environ)
    if options is None:
        return local_viewer(configuration().policy)
    # The policy is read for whoever has logged in: its errors name files and keys.
    who = _logged_in(options, now)
    if who is None:
        return None
    viewer = login_viewer(configuration().policy, who.name, who.groups, os.environ)
    return replace(viewer, subject=who.subject)


def _logged_in(options: OidcOptions, now: datetime) -> Identity | None:
    if not st.user.get("is_logged_in"):
        _ask("Log in to see this dashboard.", "Log in")
        return None
    try:
        who = identity_from(st.user.to_dict(), options, now)
    except LoginError as error:
        _ask(str(error), "Log in again")
        return None
    _end_on_time(who.until)
    return who


def _ask(why: str, button: str) -> None:
    forget_everything()
    st.html(notice(why, esc("Nothing is shown without a valid login."), kind="warn"))
    st.button(button, key="login", on_click=st.login, type="primary")


def _end_on_time(until: datetime) -> None:
    """Draw a page that is left open anew when the login ends, so that nothing stays on the screen."""

    def left() -> float:
        return (until + LEEWAY - datetime.now(UTC)).total_seconds()

    def look() -> None:
        if left() <= 0:
            st.rerun(scope="app")

    st.fragment(look, run_every=min(max(left(), 1.0), _LOOK_SECONDS))()
