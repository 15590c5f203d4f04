"""One trace as a waterfall, reached from an exemplar."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime

import streamlit as st

from mobius_dashboards import formatters, markup, queries, strings
from mobius_dashboards.markup import esc
from mobius_dashboards.row_access import ask_reason
from mobius_dashboards.state import link
from mobius_dashboards.view import View
from mobius_dashboards.viewer import require
from mobius_dashboards.waterfall import Row, Span, Waterfall, arrange
from mobius_dashboards.waterfall_html import waterfall_html
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.residency.audit import ReasonError

__all__ = ["show"]

_MS = 1e6  # nanoseconds in a millisecond
_MOST_ROWS = 500


def show(view: View) -> None:
    """Draw the page.

    Raises
    ------
    ForbiddenError
        The viewer may not see single spans of a zone that the link means.
    """
    view = replace(view, scope=_scope(view))
    _crumbs(view)
    if not view.state.trace:
        text = "Open an endpoint and follow one of its examples, or add `trace=` with 32 hexadecimal digits to the address."
        st.html(markup.notice("This address names no trace.", markup.with_code(text)))
        return
    spans, where = _find(view)
    if spans is None:
        return
    if not spans:
        named = " or ".join(zone.name for zone in view.scope)
        text = (
            f"Zone {named} does not have trace {view.state.trace}. It may be older than the zone keeps spans, "
            "still on its way (a few seconds), or of another zone: choose that zone on the left."
        )
        st.html(markup.notice("This trace is not here.", esc(text)))
        return
    fall = arrange(spans)
    _head(view, fall, where)
    shown = Waterfall(fall.rows[:_MOST_ROWS], fall.start_ns, fall.end_ns, fall.repeated)
    st.html(waterfall_html(shown, view.colours))
    _notes(fall, len(spans))


def _scope(view: View) -> tuple[Zone, ...]:
    """Return the zones to look in: what the link names has to be the viewer's, else those with single spans."""
    if not (view.state.zone or view.state.region):
        found = tuple(zone for zone in view.scope if view.viewer.sees(zone.name, "spans"))
        if found:
            return found
    for zone in view.scope:
        require(view.viewer, zone.name, "spans")
    return view.scope


def _crumbs(view: View) -> None:
    back = markup.anchor(
        link(view.state, page="overview", region="", method="", route="", trace="", at=""),
        "Overview",
    )
    if view.state.route:
        href = link(view.state, page="endpoint", trace="", at="")
        back += f" / {markup.anchor(href, markup.endpoint(view.state.method, view.state.route))}"
    st.html(f'<div class="mr-crumbs">{back} / Trace</div>')


def _find(view: View) -> tuple[list[Span] | None, str]:
    """Look in each zone of the view, in its own store, until one has the trace; None where a zone asks why first."""
    for zone in view.scope:
        try:
            spans = queries.trace(view.viewer, zone, view.state.trace, view.state.at, view.now)
        except ReasonError:
            ask_reason(zone)
            return None, ""
        except MobiusError as error:
            st.html(markup.notice(strings.failure(error), esc(error), kind="error"))
            continue
        if spans:
            return spans, _zone_text(zone)
    return [], ""


def _zone_text(zone: Zone) -> str:
    return zone.name


def _head(view: View, fall: Waterfall, zone: str) -> None:
    root = fall.rows[0].span
    started = datetime.fromtimestamp(fall.start_ns / 1e9, UTC)
    errors = sum(row.span.error for row in fall.rows)
    failed = f", with {errors} failed {'span' if errors == 1 else 'spans'}" if errors else ""
    services = sorted({row.span.service for row in fall.rows})
    st.html(
        f'<h1 class="mr-head">{esc(root.name)} took {esc(formatters.duration_ms(fall.duration_ns / _MS))}{failed}</h1>'
        f'<p class="mr-sub">{markup.source_mark(root.source)} request · {esc(root.region)} (zone {esc(zone)}) · '
        f"{esc(formatters.instant(started))} · trace <code>{esc(view.state.trace)}</code></p>"
    )
    pairs = [
        ("Duration", esc(formatters.duration_ms(fall.duration_ns / _MS))),
        ("Spans", formatters.count(len(fall.rows))),
        ("Services", esc(", ".join(services))),
        ("Release", esc(root.version or formatters.NOTHING)),
    ]
    if root.http_status:
        pairs.append(("HTTP status", esc(root.http_status)))
    pairs += _blame(fall)
    st.html(markup.facts(pairs))


def _blame(fall: Waterfall) -> list[tuple[str, str]]:
    """Name what the critical path spent most time in."""
    spent: dict[str, int] = defaultdict(int)
    for row in fall.rows:
        spent[f"{row.span.service}: {row.span.name}"] += row.critical_ns
    total = sum(spent.values())
    if not total:
        return []
    name, most = max(spent.items(), key=lambda item: item[1])
    return [("Most of the critical path", f"{esc(name)} ({formatters.percent(most / total)})")]


def _notes(fall: Waterfall, read: int) -> None:
    notes = []
    notes.append(
        "The dark line under a bar is the critical path: shortening what it covers shortens the whole. "
        "Own time is a span's time without its children. Click a row for its attributes."
    )
    if len(fall.rows) > _MOST_ROWS:
        notes.append(f"The first {_MOST_ROWS} of {len(fall.rows)} spans are shown.")
    if read >= queries.MOST_SPANS:
        notes.append(f"Only the first {queries.MOST_SPANS} spans were read; the trace has more.")
    if orphans := sum(row.orphan for row in fall.rows):
        notes.append(f"{orphans} spans stand at the top because their parent is not in the store.")
    if fall.repeated:
        notes.append(f"{fall.repeated} spans arrived twice and are shown once.")
    if any(_before_parent(fall.rows)):
        notes.append("A span begins before its parent: the clocks of two hosts differ.")
    if any(row.span.resource.get("mobius.demo.generated") for row in fall.rows):
        notes.append("This trace is generated history of the demo, not a live request.")
    st.html("".join(f'<p class="mr-lead">{esc(note)}</p>' for note in notes))


def _before_parent(rows: tuple[Row, ...]) -> list[bool]:
    starts = {row.span.span_id: row.span.start_ns for row in rows}
    return [row.span.start_ns < starts.get(row.span.parent_id, 0) for row in rows]
