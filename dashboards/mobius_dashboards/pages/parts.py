"""Pieces that several pages draw alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from mobius_dashboards import formatters, markup
from mobius_dashboards.evidence import movement_sentence
from mobius_dashboards.grouping import Group
from mobius_dashboards.markup import esc
from mobius_dashboards.state import link
from mobius_dashboards.view import View

__all__ = [
    "IN_THE_TABLE",
    "cell_row",
    "endpoint_link",
    "finding_card",
    "ratio_cell",
    "requests_cell",
    "section",
]

Cell = Mapping[str, Any]
# Findings that say what a row of the verdict table says.
IN_THE_TABLE: Final = frozenset({"optimistic_test", "pessimistic_test", "untested_endpoint"})


def section(title: str, lead: str) -> None:
    """Draw the heading of a part of a page, and a line on how to read it."""
    text = f'<p class="mr-lead">{esc(lead)}</p>' if lead else ""
    st.html(f'<h2 class="mr-h2">{esc(title)}</h2>{text}')


def endpoint_link(view: View, cell: Cell) -> str:
    """Address of the endpoint page of a cell, in the same window."""
    return link(
        view.state,
        page="endpoint",
        region=cell["region"],
        service=cell["service"],
        method=cell["method"],
        route=cell["route"],
        trace="",
        at="",
    )


def ratio_cell(cell: Cell, quantile: str, domain: float) -> str:
    """Return a ratio as a small plot and in numbers."""
    interval = (cell["ratio"] or {}).get(quantile)
    plot = markup.interval_bar(interval, cell["verdict"], domain)
    text = markup.exact(interval, formatters.ratio_interval(interval))
    return f'<span class="mr-pair">{plot}{text}</span>'


def requests_cell(cell: Cell) -> str:
    """Return the requests of both sides."""
    users, tests = (
        formatters.count(cell[side]["requests"]) for side in ("production", "synthetic")
    )
    return f"{users} users<small>{tests} tests</small>"


def cell_row(view: View, cell: Cell, domain: float, *, name: str) -> list[str]:
    """Return the row of one region in a comparison of regions; ``name`` is HTML already."""
    p50 = (cell["ratio"] or {}).get("p50")
    return [
        markup.anchor(
            endpoint_link(view, cell), f'<span class="mr-route">{name}</span>', css="mr-go"
        ),
        markup.chip(cell["verdict"]),
        ratio_cell(cell, "p95", domain),
        markup.exact(p50, formatters.ratio((p50 or {}).get("value"))),
        *(
            markup.exact(cell[side]["p95_ms"], formatters.interval_ms(cell[side]["p95_ms"]))
            for side in ("production", "synthetic")
        ),
        requests_cell(cell),
    ]


def finding_card(view: View, group: Group) -> str:
    """Return a finding of one or several regions, with a link to each."""
    lines = []
    for finding in group.findings:
        where = esc(finding.region or "no region")
        if finding.route:
            href = link(
                view.state,
                page="endpoint",
                region=finding.region,
                service=finding.service,
                method=finding.method,
                route=finding.route,
            )
            where = markup.anchor(href, where)
        lines.append(f"<p>{where} <span>{esc(movement_sentence(finding.evidence))}</span></p>")
    about = f"{group.service} · since {formatters.instant(group.since)} · {group.severity}"
    return (
        f'<div class="mr-card mr-sev-{esc(group.severity)}"><h4>{esc(group.title)}</h4>'
        f'{"".join(lines)}<span class="mr-small">{esc(about)}</span></div>'
    )
