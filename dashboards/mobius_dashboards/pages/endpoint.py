"""One endpoint in one region: whether its tests tell the truth, how far they are off, and since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import streamlit as st

from mobius_analysis.series import Exemplar, Source
from mobius_dashboards import charts, formatters, markup, queries, strings
from mobius_dashboards import state as states
from mobius_dashboards.const import MARGIN
from mobius_dashboards.grouping import group_findings
from mobius_dashboards.markup import esc
from mobius_dashboards.pages.comparison import show_comparison
from mobius_dashboards.pages.parts import IN_THE_TABLE, cell_row, finding_card, section
from mobius_dashboards.queries import Subject
from mobius_dashboards.row_access import ask_reason
from mobius_dashboards.state import link
from mobius_dashboards.view import View
from mobius_dashboards.viewer import require
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.options import format_time
from mobius_pipeline.residency.audit import ReasonError

__all__ = ["show"]

Cell = Mapping[str, Any]
_QUANTILES: Final = ("p50", "p95", "p99")


def show(view: View) -> None:
    """Draw the page."""
    for zone in view.scope:
        require(view.viewer, zone.name)
    state = view.state
    overview = link(state, page="overview", region="", method="", route="", trace="", at="")
    st.html(f'<div class="mr-crumbs">{markup.anchor(overview, "Overview")} / Endpoint</div>')
    if not state.route:
        st.html(markup.notice("This address names no endpoint.", "Choose one in the overview."))
        return
    cells, failures = _cells(view)
    for failure in failures:
        st.html(markup.notice(strings.failure(failure), esc(failure), kind="error"))
    cell = next((c for c in cells if state.region in ("", c["region"])), None)
    if cell is None:
        _nothing(view, cells)
        return
    zone = view.zones.zones[cell["zone"]]
    require(view.viewer, zone.name)
    subject = Subject(
        cell["region"],
        cell["service"],
        cell["method"],
        cell["route"],
        state.environment,
        cell["vantage"] or "client",
    )
    _head(view, cell, cells)
    _findings(view, zone, cell)
    _compare(view, zone, subject, cell)
    if cell["production"]["requests"] and cell["synthetic"]["requests"]:
        show_comparison(view, zone, subject)
    _regions(view, cells, cell)
    _examples(view, zone, subject, cell)
    _runs(view, zone, subject)


def _cells(view: View) -> tuple[list[Cell], tuple[MobiusError, ...]]:
    """Return the endpoint's cells in all regions that the viewer sees, what is untrue first."""
    everywhere = replace(view.state, region="")
    scope = states.scope(everywhere, view.zones, view.viewer)
    found = queries.correlation(replace(view, state=everywhere, scope=scope))
    cells = [
        cell
        for cell in found.document["cells"]
        if cell["route"] == view.state.route and view.state.method in ("", cell["method"])
    ]
    return sorted(cells, key=strings.rank), found.failures


def _nothing(view: View, cells: Sequence[Cell]) -> None:
    name = f"{view.state.method} {view.state.route}".strip()
    where = f" in {view.state.region}" if view.state.region else ""
    elsewhere = ", ".join(sorted({cell["region"] for cell in cells}))
    text = f"It has requests in {elsewhere}: choose that region on the left." if cells else ""
    if not text and (rule := strings.least_people(view.viewer)):
        text = f"Or too few people use it: {rule}."
    st.html(
        markup.notice(
            f"No requests to {name}{where} in this window.",
            markup.with_code(
                text or strings.no_requests("such requests", [z.name for z in view.scope])
            ),
        )
    )


def _head(view: View, cell: Cell, cells: Sequence[Cell]) -> None:
    window = formatters.window(view.window.since, view.window.until)
    place = f"{cell['service']} in {cell['region']} (zone {cell['zone']})"
    if not view.state.region and len(cells) > 1:
        place += f", the region to look at first of {len(cells)}"
    lines = "".join(f"<p>{markup.with_code(line)}</p>" for line in strings.why(cell))
    st.html(
        f'<div class="mr-eyebrow">{markup.endpoint(cell["method"], cell["route"])} {markup.chip(cell["verdict"])}</div>'
        f'<h1 class="mr-head">{esc(strings.endpoint_headline(cell))}</h1>'
        f'<p class="mr-sub">{esc(place)} · {esc(window)}'
        f"{f' · {esc(view.state.environment)}' if view.state.environment else ''}</p>"
        f'<div class="mr-why mr-v-{esc(cell["verdict"])}">{lines}</div>'
    )


def _findings(view: View, zone: Zone, cell: Cell) -> None:
    """Draw what a release did to this endpoint, if a job found something."""
    subject = (cell["region"], cell["service"], cell["method"], cell["route"])
    try:
        found = [
            finding
            for finding in queries.findings(view, zone)
            if finding.kind not in IN_THE_TABLE and finding.cell == subject
        ]
    except MobiusError as error:
        st.html(markup.notice(strings.failure(error), esc(error), kind="error"))
        return
    if cards := "".join(finding_card(view, group) for group in group_findings(found)):
        st.html(f'<div class="mr-cards">{cards}</div>')


def _compare(view: View, zone: Zone, subject: Subject, cell: Cell) -> None:
    try:
        shapes = queries.shapes(view, zone, subject)
    except MobiusError as error:
        st.html(markup.notice(strings.failure(error), esc(error), kind="error"))
        return
    left, right = st.columns([5, 4], gap="large")
    with left:
        section(
            "Latency, from the fastest to the slowest request",
            "Where the lines lie apart, tests and users live in different worlds."
            + (" All minutes of the window, not the matched ones." if view.state.match else ""),
        )
        st.html(markup.source_legend())
        _chart(charts.quantile_curves(shapes.curve, view.colours, height=330))
    with right:
        section(
            "How many times as long users wait",
            "Inside the band, production and tests count as the same.",
        )
        rows = _ratio_rows(cell)
        if rows:
            _chart(charts.ratio_forest(rows, view.colours))
        else:
            st.html(markup.notice("There is no ratio: one side has no answered requests."))
        _numbers(cell)
    section(
        "Over time",
        f"Each point covers {strings.stretch(shapes.bin_minutes)}; dotted lines are releases, from when users met them.",
    )
    st.html(markup.source_legend())
    edges = (format_time(view.window.since), format_time(view.window.until))
    for name in ("p95", "p50"):
        rows = [row for row in shapes.series if row["quantile"] == name]
        _chart(
            charts.quantile_series(
                rows,
                shapes.releases,
                view.colours,
                quantile=name,
                window=edges,
            )
        )


def _chart(chart: Any) -> None:
    st.altair_chart(chart, theme=None, width="stretch")


def _ratio_rows(cell: Cell) -> list[dict[str, Any]]:
    rows = []
    for name in _QUANTILES:
        interval = (cell["ratio"] or {}).get(name)
        if interval and interval.get("value"):
            text = formatters.ratio_interval(interval)
            if interval.get("low") is None:
                text += ", too few data for an interval"
            rows.append({"label": name, "text": text, "verdict": _side(interval), **interval})
    return rows


def _side(interval: Mapping[str, Any]) -> str:
    low, high = interval.get("low"), interval.get("high")
    if low is None or high is None:
        return "unsure"
    if low > MARGIN:
        return "above"
    if high < 1 / MARGIN:
        return "below"
    return "inside" if low > 1 / MARGIN and high < MARGIN else "unsure"


def _numbers(cell: Cell) -> None:
    head = [("", "nowrap"), ("Production", "num"), ("Tests", "num"), ("Ratio", "num")]
    sides = (cell["production"], cell["synthetic"])
    rows = []
    for name in _QUANTILES:
        ratio = (cell["ratio"] or {}).get(name)
        rows.append(
            [
                f"<b>{name}</b>",
                *(
                    markup.exact(s[f"{name}_ms"], formatters.interval_ms(s[f"{name}_ms"]))
                    for s in sides
                ),
                markup.exact(ratio, formatters.ratio((ratio or {}).get("value"))),
            ]
        )
    rows.append(["Requests", *(formatters.count(side["requests"]) for side in sides), ""])
    errors = cell["errors"]
    shares = (errors[side] for side in ("production", "synthetic"))
    rows.append(
        [
            "Failed",
            *(markup.exact(s, formatters.percent((s or {}).get("value"))) for s in shares),
            esc(strings.errors_word(errors)),
        ]
    )
    st.html(markup.table(head, rows, css="mr-dense", label="Latency with 95 % intervals"))


def _regions(view: View, cells: Sequence[Cell], shown: Cell) -> None:
    if len(cells) < 2:
        return
    section("The same endpoint, region by region", "")
    domain = markup.ratio_domain((cell["ratio"] or {}).get("p95") for cell in cells)
    rows = [
        cell_row(
            view,
            cell,
            domain,
            name=esc(cell["region"]) + (" <small>shown above</small>" if cell is shown else ""),
        )
        for cell in sorted(cells, key=lambda c: c["region"])
    ]
    head = [
        ("Region", "ep"),
        ("Verdict", "nowrap"),
        ("p95, production ÷ tests (95 % interval)", "nowrap"),
        ("p50 ratio", "num"),
        ("Production p95", "num"),
        ("Tests p95", "num"),
        ("Requests", "num"),
    ]
    st.html(markup.table(head, rows, css="mr-links", label="Regions"))


def _examples(view: View, zone: Zone, subject: Subject, cell: Cell) -> None:
    section(
        "Requests to look at",
        "The request nearest to each quantile, of users and of tests, from the last hours of the window.",
    )
    if not view.viewer.sees(zone.name, "spans"):
        text = f"{view.viewer.name} sees aggregates of zone {zone.name}, not single requests."
        st.html(markup.notice("Single requests are hidden from you.", esc(text)))
        return
    sources: tuple[tuple[Source, str], ...] = (("real", "production"), ("synthetic", "synthetic"))
    columns: list[dict[str, Exemplar]] = []
    for source, side in sources:
        wanted = {
            name: interval["value"] / 1e3
            for name in _QUANTILES
            if (interval := cell[side][f"{name}_ms"]) and interval.get("value")
        }
        try:
            columns.append(queries.examples(view, zone, subject, wanted, source) if wanted else {})
        except ReasonError:
            ask_reason(zone)
            return
        except MobiusError as error:
            st.html(markup.notice(strings.failure(error), esc(error), kind="error"))
            return
    if not any(columns):
        st.html(
            markup.notice(
                "No single requests are stored for this window.",
                "Raw spans are kept for a shorter time than the rollup: choose a window nearer to now.",
            )
        )
        return
    head = [("Near", "nowrap"), ("User", ""), ("Test", "")]
    rows = [
        [f"<b>{name}</b>", *(_example(view, zone, column.get(name)) for column in columns)]
        for name in (*_QUANTILES, "slowest")
    ]
    st.html(markup.table(head, rows, label="Examples"))


def _example(view: View, zone: Zone, found: Exemplar | None) -> str:
    if found is None:
        return '<span class="mr-small">none stored</span>'
    href = link(
        view.state, page="trace", zone=zone.name, trace=found.trace_id, at=format_time(found.start)
    )
    text = f"{formatters.duration_ms(found.duration_ms)}"
    rest = f"{found.start:%m-%d %H:%M:%S} UTC, release {found.version or formatters.NOTHING}, trace {found.trace_id[:8]}"
    return f"{markup.anchor(href, esc(text), css='mr-plain mr-trace')} <small>{esc(rest)}</small>"


def _runs(view: View, zone: Zone, subject: Subject) -> None:
    try:
        found = queries.runs(view, zone, subject)
        generated = view.viewer.sees(zone.name, "spans") and queries.generated(view, zone, subject)
    except MobiusError as error:
        st.html(markup.notice(strings.failure(error), esc(error), kind="error"))
        return
    section("Test runs in this window", "")
    if found:
        head = [
            ("Run", ""), ("Test", ""), ("Tool", ""), ("Release", ""), ("Began (UTC)", "nowrap"),
            ("Requests here", "num"), ("Failed", "num"), ("", ""),
        ]  # fmt: skip
        rows = [
            [
                f'<span title="{esc(run.run)}">{esc(run.run[:48])}</span>',
                esc(run.test or "–"),
                esc(run.tool or "marked spans, no result file"),
                esc(run.release or "–"),
                esc(f"{run.start:%Y-%m-%d %H:%M}"),
                formatters.count(run.requests),
                formatters.count(run.failed),
                "<small>generated</small>" if run.generated else "",
            ]
            for run in found[:10]
        ]
        st.html(markup.table(head, rows, label="Test runs"))
        if len(found) > 10:
            st.html(f'<p class="mr-lead">and {len(found) - 10} earlier ones in this window.</p>')
    else:
        text = "Bring a run's results in with `mobius-rum import synthetic FILE --region REGION --test NAME`."
        st.html(markup.notice("No test requested this endpoint here.", markup.with_code(text)))
    if generated or any(run.generated for run in found):
        text = (
            "This window includes generated history of the demo: requests drawn from the demo's latency models and sent "
            "through the real pipeline. The verdict is measured from them as from any other request."
        )
        st.html(f'<p class="mr-foot">{esc(text)}</p>')
