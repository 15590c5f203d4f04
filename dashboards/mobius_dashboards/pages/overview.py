"""The overview: what is untrue, ranked; what the tests cover; how fresh the data are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from mobius_dashboards import formatters, markup, queries, strings
from mobius_dashboards.const import VERDICTS
from mobius_dashboards.grouping import group_findings
from mobius_dashboards.markup import esc
from mobius_dashboards.pages.parts import (
    IN_THE_TABLE,
    endpoint_link,
    finding_card,
    ratio_cell,
    section,
)
from mobius_dashboards.view import View
from mobius_dashboards.viewer import require
from mobius_pipeline.errors import MobiusError

__all__ = ["show"]

Cell = dict[str, Any]
_MOST_ROWS = 200
_FIRST_CARDS = 3
_MOST_CARDS = 60


def show(view: View) -> None:
    """Draw the page."""
    for zone in view.scope:
        require(view.viewer, zone.name)
        queries.ask_lag(view, zone)
    found = queries.correlation(view)
    cells = sorted(found.document["cells"], key=strings.rank)
    _head(view, cells)
    for failure in found.failures:
        st.html(markup.notice(strings.failure(failure), esc(failure), kind="error"))
    if cells:
        _strip(cells)
        _findings(view)
        _verdicts(view, cells)
        _hidden(view, found.hidden)
        _coverage(view, found.document["coverage"], cells)
    elif found.hidden:
        _hidden(view, found.hidden)
    elif not found.failures:
        text = strings.no_requests("requests", [zone.name for zone in view.scope])
        st.html(markup.notice("Nothing to judge yet", markup.with_code(text)))
    _health(view)


def _head(view: View, cells: Sequence[Cell]) -> None:
    production = sum(cell["production"]["requests"] or 0 for cell in cells)
    tests = sum(cell["synthetic"]["requests"] or 0 for cell in cells)
    parts = [
        formatters.window(view.window.since, view.window.until),
        f"{formatters.count(production)} production and {formatters.count(tests)} test requests",
        view.state.region or f"zones {', '.join(zone.name for zone in view.scope)}",
        *(value for value in (view.state.environment, view.state.service) if value),
    ]
    sub = " · ".join(parts)
    st.html(
        f'<h1 class="mr-head">{esc(strings.headline(cells))}</h1><p class="mr-sub">{esc(sub)}</p>'
    )


def _strip(cells: Sequence[Cell]) -> None:
    counted = strings.verdict_counts(cells)
    strip = "".join(f'<i class="mr-v-{name}" style="flex:{n}"></i>' for name, n in counted.items())
    legend = "".join(
        f'<span>{markup.chip(name)} <b>{n}</b> <span class="mr-small">{esc(VERDICTS[name].meaning)}</span></span>'
        for name, n in counted.items()
    )
    st.html(
        f'<div class="mr-strip" aria-hidden="true">{strip}</div><div class="mr-legend">{legend}</div>'
    )


_HEAD = (
    ("Endpoint", "ep"),
    ("Region", "nowrap"),
    ("Verdict", "nowrap"),
    ("p95, production ÷ tests (95 % interval)", "nowrap"),
    ("p50 ratio", "num"),
    ("Requests: users / tests", "num"),
    ("What is needed", "need"),
)


def _verdicts(view: View, cells: Sequence[Cell]) -> None:
    section(
        "Verdicts",
        "What is untrue first, there what misleads about most requests. The band is the margin of 10 %.",
    )
    domain = markup.ratio_domain((cell["ratio"] or {}).get("p95") for cell in cells)
    fine = [cell for cell in cells if cell["verdict"] == "representative"]
    rest = [cell for cell in cells if cell["verdict"] != "representative"]
    if not rest:
        fine, rest = [], fine
    label = "Endpoints by region, what is untrue first"
    st.html(
        markup.table(
            _HEAD,
            (_row(view, cell, domain) for cell in rest[:_MOST_ROWS]),
            css="mr-links",
            label=label,
        )
    )
    if fine:
        rows = (_row(view, cell, domain) for cell in fine[:_MOST_ROWS])
        body = markup.table(_HEAD, rows, css="mr-links", label="Representative endpoints by region")
        noun = "endpoint-region" if len(fine) == 1 else "endpoint-regions"
        summary = f"{markup.chip('representative')} {len(fine)} {noun}: the tests tell the truth"
        st.html(f'<details class="mr-fold"><summary>{summary}</summary>{body}</details>')
    if max(len(fine), len(rest)) > _MOST_ROWS:
        text = f"Only {_MOST_ROWS} rows are shown: choose a zone, region or service on the left."
        st.html(f'<p class="mr-lead">{text}</p>')


def _hidden(view: View, cells: int) -> None:
    """Say how many endpoints have too few people for this viewer, if any have."""
    if cells:
        st.html(f'<p class="mr-lead">{esc(strings.hidden(view.viewer, cells))}</p>')


def _row(view: View, cell: Cell, domain: float) -> list[str]:
    p50 = (cell["ratio"] or {}).get("p50")
    name = markup.endpoint(cell["method"], cell["route"])
    return [
        f"{markup.anchor(endpoint_link(view, cell), name, css='mr-go')} <small>{esc(cell['service'])}</small>",
        esc(cell["region"]),
        markup.chip(cell["verdict"]),
        ratio_cell(cell, "p95", domain),
        markup.exact(p50, formatters.ratio((p50 or {}).get("value"))),
        " / ".join(
            formatters.count(cell[side]["requests"]) for side in ("production", "synthetic")
        ),
        esc(strings.remedy(cell)),
    ]


def _findings(view: View) -> None:
    """Draw what jobs found beyond the verdicts, if there is anything: the news comes before the table."""
    found = []
    for zone in view.scope:
        try:
            found += queries.findings(view, zone)
        except MobiusError as error:
            st.html(markup.notice(strings.failure(error), esc(error), kind="error"))
    groups = group_findings(f for f in found if f.kind not in IN_THE_TABLE)
    if not groups:
        return
    section("Open findings", "")
    cards = [finding_card(view, group) for group in groups]
    shown = "".join(cards[:_FIRST_CARDS])
    st.html(f'<div class="mr-cards">{shown}</div>')
    if rest := cards[_FIRST_CARDS:_MOST_CARDS]:
        summary = f"{len(groups) - _FIRST_CARDS} more findings"
        st.html(
            f'<details class="mr-fold"><summary>{summary}</summary><div class="mr-cards">{"".join(rest)}</div></details>'
        )


def _coverage(view: View, coverage: dict[str, Any], cells: Sequence[Cell]) -> None:
    section("Coverage", "")
    left, right = st.columns([2, 3], gap="large")
    meters = "".join(
        markup.meter(title, coverage[key])
        for title, key in (
            ("of production requests have a test", "requests_share"),
            ("of the time users spend waiting has a test", "time_share"),
        )
    )
    left.html(meters)
    untested = [cell for cell in cells if cell["verdict"] == "untested"]
    if not untested:
        right.html(
            '<p class="mr-lead">Every endpoint that users request has a test in its region.</p>'
        )
        return
    waiting = sorted(untested, key=lambda cell: -cell["production"]["requests"])
    rows = (
        [
            markup.anchor(
                endpoint_link(view, cell),
                markup.endpoint(cell["method"], cell["route"]),
                css="mr-go",
            ),
            esc(cell["region"]),
            formatters.count(cell["production"]["requests"]),
            esc(formatters.interval_ms(cell["production"]["p95_ms"])),
        ]
        for cell in waiting[:6]
    )
    head = [
        ("Not tested", ""),
        ("Region", "nowrap"),
        ("Users’ requests", "num"),
        ("Users’ p95", "num"),
    ]
    right.html(markup.table(head, rows, css="mr-links mr-dense", label="Endpoints without a test"))
    if len(untested) > 6:
        right.html(f'<p class="mr-lead">and {len(untested) - 6} more in the table above.</p>')


def _health(view: View) -> None:
    section("Data", "")
    head = [
        ("Zone", ""), ("Regions", ""), ("Newest span", "nowrap"), ("Age", "num"),
        ("Spans in window", "num"), ("Test runs in window", "num"), ("Waiting messages", "num"),
        ("Dead letters", "num"), ("Quarantined spans", "num"),
    ]  # fmt: skip
    rows = []
    for zone in view.scope:
        try:
            health = queries.health(view, zone)
        except MobiusError as error:
            rows.append(
                [
                    esc(zone.name),
                    esc(", ".join(zone.regions)),
                    esc(strings.failure(error)),
                    *["–"] * 6,
                ]
            )
            continue
        seconds = (view.now - health.newest).total_seconds() if health.newest else None
        rows.append(
            [
                f"<b>{esc(zone.name)}</b>",
                esc(", ".join(zone.regions)),
                esc(formatters.instant(health.newest)),
                esc(formatters.age(seconds)),
                formatters.count(health.spans),
                formatters.count(health.runs),
                _waiting(queries.lag(view, zone)),
                formatters.count(health.dead_letters),
                formatters.count(health.quarantined),
            ]
        )
    st.html(markup.table(head, rows, label="State of the data, zone by zone"))
    hidden = [zone.name for zone in view.zones if not view.viewer.sees(zone.name)]
    text = (
        f"You see {view.viewer.sight}. "
        + (f"Hidden from you: {', '.join(hidden)}. " if hidden else "No zone is hidden from you. ")
        + "Each zone's numbers come from that zone's own store; spans never leave it."
    )
    st.html(f'<p class="mr-foot">{esc(text)}</p>')


def _waiting(lag: queries.Lag) -> str:
    if lag.messages is None:
        return f'<span title="{esc(lag.reason)}">not known</span>'
    return formatters.count(lag.messages)
