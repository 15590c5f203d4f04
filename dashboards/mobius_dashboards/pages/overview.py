"""The overview: what is untrue, ranked; what the tests cover; how fresh the data are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from mobius_dashboards import formatters, markup, queries, strings
from mobius_dashboards.const import VERDICTS
from mobius_dashboards.evidence import evidence_sentences
from mobius_dashboards.markup import esc
from mobius_dashboards.pages.parts import endpoint_link, ratio_cell, requests_cell, section
from mobius_dashboards.state import link
from mobius_dashboards.view import View
from mobius_dashboards.viewer import require
from mobius_pipeline.errors import MobiusError

__all__ = ["show"]

Cell = dict[str, Any]
_MOST_ROWS = 200
# Findings that say what a row of the verdict table says.
_IN_THE_TABLE = {"optimistic_test", "pessimistic_test", "untested_endpoint"}


def show(view: View) -> None:
    """Draw the page."""
    for zone in view.scope:
        require(view.viewer, zone.name)
    found = queries.correlation(view)
    cells = sorted(found.document["cells"], key=strings.rank)
    _head(view, cells)
    for failure in found.failures:
        st.html(markup.notice(strings.failure(failure), esc(failure), kind="error"))
    if cells:
        _verdicts(view, cells)
        left, right = st.columns([3, 2], gap="large")
        with left:
            _findings(view)
        with right:
            _coverage(view, found.document["coverage"], cells)
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


def _verdicts(view: View, cells: Sequence[Cell]) -> None:
    counted = strings.verdict_counts(cells)
    strip = "".join(f'<i class="mr-v-{name}" style="flex:{n}"></i>' for name, n in counted.items())
    legend = "".join(
        f'<span>{markup.chip(name)} <b>{n}</b> <span class="mr-small">{esc(VERDICTS[name].meaning)}</span></span>'
        for name, n in counted.items()
    )
    domain = markup.ratio_domain((cell["ratio"] or {}).get("p95") for cell in cells)
    head = [
        ("Endpoint", "ep"),
        ("Region", "nowrap"),
        ("Verdict", "nowrap"),
        ("p95, production ÷ tests (95 % interval)", "nowrap"),
        ("p50 ratio", "num"),
        ("Requests", "num"),
        ("What is needed", "need"),
    ]
    st.html(
        f'<div class="mr-strip" aria-hidden="true">{strip}</div><div class="mr-legend">{legend}</div>'
    )
    st.html(
        markup.table(
            head,
            (_row(view, cell, domain) for cell in cells[:_MOST_ROWS]),
            css="mr-links",
            label="Endpoints by region, what is untrue first",
        )
    )
    if len(cells) > _MOST_ROWS:
        rest = f"{len(cells) - _MOST_ROWS} more rows: choose a zone, region or service on the left."
        st.html(f'<p class="mr-lead">{rest}</p>')


def _row(view: View, cell: Cell, domain: float) -> list[str]:
    several = len(view.scope) > 1
    zone = f"<br><small>zone {esc(cell['zone'])}</small>" if several else ""
    p50 = (cell["ratio"] or {}).get("p50")
    name = markup.endpoint(cell["method"], cell["route"])
    return [
        markup.anchor(endpoint_link(view, cell), name, css="mr-go")
        + f"<br><small>{esc(cell['service'])}</small>",
        f"{esc(cell['region'])}{zone}",
        markup.chip(cell["verdict"]),
        ratio_cell(cell, "p95", domain),
        markup.exact(p50, formatters.ratio((p50 or {}).get("value"))),
        requests_cell(cell),
        esc(strings.remedy(cell)),
    ]


def _findings(view: View) -> None:
    section("Open findings", "")
    try:
        found = [
            finding
            for zone in view.scope
            for finding in queries.findings(view, zone)
            if finding.kind not in _IN_THE_TABLE
        ]
    except MobiusError as error:
        st.html(markup.notice(strings.failure(error), esc(error), kind="error"))
        return
    if not found:
        st.html(
            '<p class="mr-lead">None: no release moved production and tests apart, and no span came from a foreign '
            "region. <code>mobius-rum correlate</code> looks again.</p>"
        )
        return
    for finding in found[:12]:
        href = link(
            view.state,
            page="endpoint",
            region=finding.region,
            service=finding.service,
            method=finding.method,
            route=finding.route,
        )
        where = " · ".join(
            part
            for part in (
                finding.region,
                finding.service,
                f"since {formatters.instant(finding.since)}",
            )
            if part
        )
        lines = "".join(f"<p>{esc(line)}</p>" for line in evidence_sentences(finding.evidence))
        st.html(
            f'<div class="mr-card mr-sev-{esc(finding.severity)}"><h4>{markup.anchor(href, esc(finding.title))}</h4>{lines}'
            f'<span class="mr-small">{esc(finding.kind.replace("_", " "))}, {esc(finding.severity)} · {esc(where)}</span></div>'
        )
    if len(found) > 12:
        st.html(f'<p class="mr-lead">and {len(found) - 12} more.</p>')


def _coverage(view: View, coverage: dict[str, Any], cells: Sequence[Cell]) -> None:
    meters = "".join(
        markup.meter(title, coverage[key])
        for title, key in (
            ("of production requests have a test", "requests_share"),
            ("of the time users spend waiting has a test", "time_share"),
        )
    )
    section("Coverage", "")
    st.html(meters)
    untested = [cell for cell in cells if cell["verdict"] == "untested"]
    if not untested:
        return
    rows = (
        [
            markup.anchor(
                endpoint_link(view, cell),
                markup.endpoint(cell["method"], cell["route"]),
                css="mr-go",
            ),
            esc(cell["region"]),
            formatters.count(cell["production"]["requests"]),
        ]
        for cell in untested[:8]
    )
    head = [("Not tested", ""), ("Region", "nowrap"), ("User requests", "num")]
    st.html(markup.table(head, rows, css="mr-links", label="Endpoints without a test"))
    if len(untested) > 8:
        st.html(f'<p class="mr-lead">and {len(untested) - 8} more in the table above.</p>')


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
        f"You see {view.viewer.level} of {', '.join(view.viewer.zones) or 'no zone'}. "
        + (f"Hidden from you: {', '.join(hidden)}. " if hidden else "No zone is hidden from you. ")
        + "Each zone's numbers come from that zone's own store; spans never leave it."
    )
    st.html(f'<p class="mr-foot">{esc(text)}</p>')


def _waiting(lag: queries.Lag) -> str:
    if lag.messages is None:
        return f'<span title="{esc(lag.reason)}">not known</span>'
    return formatters.count(lag.messages)
