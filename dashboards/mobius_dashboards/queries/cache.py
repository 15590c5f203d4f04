"""The cache of all queries, and small helpers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import streamlit as st

from mobius_dashboards.const import CACHE_SECONDS

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["cached", "forget", "one"]

cached: Final = st.cache_data(ttl=CACHE_SECONDS, show_spinner=False, max_entries=256)
"""Decorator: keeps results for a few seconds. The first argument has to be the viewer's policy."""


def forget() -> None:
    """Throw away what was read, so that the next rendering reads again."""
    st.cache_data.clear()


def one(client: Client, sql: str, parameters: dict[str, Any] | None = None) -> Any:
    """Return the only value of a query's answer."""
    return client.query(sql, parameters=parameters).result_rows[0][0]
