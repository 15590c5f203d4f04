"""The waterfall as HTML: one row a span, opened by a click. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mobius_dashboards.formatters import duration_ms
from mobius_dashboards.markup import esc
from mobius_dashboards.theme import Palette
from mobius_dashboards.waterfall import Row, Waterfall

__all__ = ["service_colours", "waterfall_html"]

_MS: Final = 1e6  # nanoseconds in a millisecond
_LONGEST_VALUE: Final = 2_000


def service_colours(fall: Waterfall, colours: Palette) -> dict[str, str]:
    """Give each service a colour, in the order in which they come; after eight they repeat."""
    names = dict.fromkeys(row.span.service for row in fall.rows)
    return {name: colours.services[i % len(colours.services)] for i, name in enumerate(names)}


def waterfall_html(fall: Waterfall, colours: Palette) -> str:
    """Return legend, time axis and rows."""
    tints = service_colours(fall, colours)
    legend = "".join(
        f'<span class="mr-wf-name"><i class="dot" style="--k:{tint}"></i>{esc(name)}</span>'
        for name, tint in tints.items()
    )
    ticks = "".join(
        f'<i style="left:{share * 100:g}%">{esc(duration_ms(fall.duration_ns * share / _MS) if share else "0 ms")}</i>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    axis = (
        '<div class="mr-wf-axis"><div>Span</div>'
        f'<div class="mr-wf-tick" style="--k:0">{ticks}</div>'
        '<div class="mr-wf-self">Duration</div><div class="mr-wf-self">Own time</div></div>'
    )
    rows = "".join(_row(row, fall, tints[row.span.service]) for row in fall.rows)
    return f'<div class="mr-legend">{legend}</div><div class="mr-wf">{axis}{rows}</div>'


def _row(row: Row, fall: Waterfall, tint: str) -> str:
    span = row.span
    whole = max(fall.duration_ns, 1)

    def place(css: str, start: int, end: int) -> str:
        left = 100 * (start - fall.start_ns) / whole
        width = 100 * (end - start) / whole
        return f'<i class="{css}" style="left:{left:.3f}%;width:{width:.3f}%"></i>'

    bars = place("mr-wf-bar", span.start_ns, span.end_ns)
    bars += "".join(place("mr-wf-crit", start, end) for start, end in row.critical)
    error = ' <span class="mr-wf-err">✕ error</span>' if span.error else ""
    orphan = " <small>(parent missing)</small>" if row.orphan else ""
    css = "mr-wf-row mr-wf-error" if span.error else "mr-wf-row"
    return (
        f'<details style="--k:{tint}"><summary class="{css}">'
        f'<div class="mr-wf-name" style="padding-left:{min(row.depth, 14) * 0.95:.2f}rem" title="{esc(span.name)}">'
        f'<i class="dot"></i><b>{esc(span.name)}</b>{error}<small>{esc(span.kind.lower())}</small>{orphan}</div>'
        f'<div class="mr-wf-track">{bars}</div>'
        f'<div class="mr-wf-self mr-wf-dur">{esc(duration_ms(span.duration_ns / _MS))}</div>'
        f'<div class="mr-wf-self">{esc(duration_ms(row.self_ns / _MS))}</div></summary>'
        f"{_details(row, fall)}</details>"
    )


def _details(row: Row, fall: Waterfall) -> str:
    span = row.span
    own: dict[str, str] = {
        "service": span.service,
        "begins": f"{duration_ms((span.start_ns - fall.start_ns) / _MS)} after the trace",
        "critical path": duration_ms(row.critical_ns / _MS) if row.critical else "not on it",
    }
    if span.status_message:
        own["status message"] = span.status_message
    parts = [_pairs("Span", own), _pairs("Attributes", dict(sorted(span.attributes.items())))]
    resource = {
        "service.version": span.version,
        "service.instance.id": span.instance,
        "cloud.region": span.region,
        **span.resource,
    }
    parts.append(_pairs("Resource", {name: value for name, value in resource.items() if value}))
    for at, name, attributes in span.events:
        when = duration_ms((at - fall.start_ns) / _MS)
        parts.append(
            _pairs(f"Event {name}, {when} after the trace began", dict(attributes) or {"": ""})
        )
    return f'<div class="mr-wf-more">{"".join(parts)}</div>'


def _pairs(title: str, pairs: Mapping[str, str]) -> str:
    if not pairs:
        return ""
    rows = "".join(
        f"<tr><td>{esc(name)}</td><td>{esc(str(value)[:_LONGEST_VALUE])}</td></tr>"
        for name, value in pairs.items()
    )
    return f"<h5>{esc(title)}</h5><table><tbody>{rows}</tbody></table>"
