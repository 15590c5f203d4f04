"""Residency: which zones there are, what crossed their borders, and what was kept from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import streamlit as st

from mobius_dashboards import formatters, markup, queries, strings
from mobius_dashboards.configuration import configuration
from mobius_dashboards.markup import esc
from mobius_dashboards.pages.parts import section
from mobius_dashboards.queries import Borders
from mobius_dashboards.view import View
from mobius_dashboards.viewer import require
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.residency.policy import Policy, ZonePolicy

__all__ = ["show"]

_NOT_YOURS: Final = '<span class="mr-small">not yours to see</span>'
_NOBODY: Final = "region of no zone"
_MOST_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class _Account:
    """What is known of the zones that the page reads: their books, and the failures of those that are away."""

    borders: Mapping[str, Borders]
    spans: Mapping[str, int | None]
    failures: tuple[MobiusError, ...]


def show(view: View) -> None:
    """Draw the page."""
    for zone in view.scope:
        require(view.viewer, zone.name)
    policy = configuration().policy
    account = _read(view)
    _head(view, account)
    for failure in account.failures:
        st.html(markup.notice(strings.failure(failure), esc(failure), kind="error"))
    _zones(view, policy)
    _flows(view, policy, account)
    _held_back(view, policy, account)
    _kept_out(view, account)
    _audited(view, account)


def _read(view: View) -> _Account:
    borders: dict[str, Borders] = {}
    spans: dict[str, int | None] = {}
    failures: list[MobiusError] = []
    for zone in view.scope:
        try:
            borders[zone.name] = queries.borders(view, zone)
            spans[zone.name] = queries.health(view, zone).spans
        except MobiusError as error:
            failures.append(error)
    return _Account(borders, spans, tuple(failures))


def _head(view: View, account: _Account) -> None:
    sent = sum(hour.sent for each in account.borders.values() for hour in each.exported)
    held = sum(hour.held_back for each in account.borders.values() for hour in each.exported)
    text = "No span crossed a border"
    if sent:
        text += f"; {formatters.count(sent)} sums of many requests went to the hub"
        text += f", {formatters.count(held)} were held back"
    sub = f"{formatters.window(view.window.since, view.window.until)} · zones {', '.join(z.name for z in view.scope)}"
    st.html(f'<h1 class="mr-head">{esc(text)}</h1><p class="mr-sub">{esc(sub)}</p>')


def _zones(view: View, policy: Policy) -> None:
    section(
        "Zones",
        "Each has its own topic, store and credentials. What may leave, who sees what, and for how long it is kept, "
        "as zones.toml has it; mobius-rum residency check prints all of it.",
    )
    head = [
        ("Zone", ""), ("Regions", ""), ("You see", "nowrap"), ("To the hub", ""), ("Cells there", "nowrap"),
        ("Spans are kept", "nowrap"), ("A reason is asked", "nowrap"),
    ]  # fmt: skip
    rows = []
    for zone in view.zones:
        if not view.viewer.sees(zone.name):
            rows.append(
                [f"<b>{esc(zone.name)}</b>", _NOT_YOURS, "nothing", *[formatters.NOTHING] * 4]
            )
            continue
        rows.append(_zone_row(view, zone, policy.zones[zone.name], hub=policy.hub is not None))
    st.html(markup.table(head, rows, label="Zones and their rules"))


def _zone_row(view: View, zone: Zone, rules: ZonePolicy, *, hub: bool) -> list[str]:
    level = "spans" if view.viewer.sees(zone.name, "spans") else "aggregates"
    crosses = hub and "latency_minute" in rules.to_hub.tables
    names = ", ".join(each for each in rules.to_hub.columns if each != "minute")
    days = rules.retention.spans
    return [
        f"<b>{esc(zone.name)}</b>",
        esc(", ".join(zone.regions)),
        level
        if level == "spans"
        else f"{level}<br><small>cells of {rules.least_subjects:,} people or more</small>",
        f"requests by the hour, by <small>{esc(names)}</small>" if crosses else "nothing",
        f"{rules.to_hub.least_subjects:,} people or more" if crosses else formatters.NOTHING,
        "for ever" if days is None else f"{days:,} days",
        "yes" if rules.reason_for_rows else "no",
    ]


def _flows(view: View, policy: Policy, account: _Account) -> None:
    """Draw where the spans that arrived in each zone belong, and what went on to the hub."""
    section(
        "What crosses",
        "Spans that arrived in a zone, by the zone that their region belongs to. What belongs elsewhere is quarantined "
        "where it arrived. Only sums go on, to the hub.",
    )
    others = [zone.name for zone in view.zones]
    head = [("Arrived in", "")]
    head += [(f"of {name}", "num") for name in (*others, _NOBODY)]
    head += [("Sent to another zone", "num"), ("Sums sent to the hub", "num")]
    rows = [
        [
            f"<b>{esc(zone.name)}</b>",
            *_arrived(view, zone, account, [*others, _NOBODY]),
            "none",
            _sent(policy, account.borders.get(zone.name)),
        ]
        for zone in view.scope
    ]
    st.html(markup.table(head, rows, label="Where data of each zone went"))


def _arrived(view: View, zone: Zone, account: _Account, columns: list[str]) -> Iterator[str]:
    found = account.borders.get(zone.name)
    if found is None or found.quarantined is None:
        yield from [_unknown(view, zone)] * len(columns)
        return
    kept = dict.fromkeys(columns, 0)
    for each in found.quarantined:
        owner = view.zones.zone_of(each.region) if each.region else None
        kept[owner.name if owner else _NOBODY] += each.spans
    for name in columns:
        if name == zone.name:
            yield f"{formatters.count(account.spans.get(name))} stored"
        else:
            yield f"{formatters.count(kept[name])} quarantined" if kept[name] else "0"


def _unknown(view: View, zone: Zone) -> str:
    if view.viewer.sees(zone.name, "spans"):
        return formatters.NOTHING
    return '<span title="single requests are not yours to see">not yours</span>'


def _sent(policy: Policy, found: Borders | None) -> str:
    if policy.hub is None:
        return '<span title="zones.toml has no [hub]">no hub</span>'
    return (
        formatters.NOTHING
        if found is None
        else formatters.count(sum(h.sent for h in found.exported))
    )


def _held_back(view: View, policy: Policy, account: _Account) -> None:
    section(
        "Held back from the hub",
        "Sums of too few people stay, and those from which one could be worked out by subtraction. "
        "How much was held back is told in the zone alone.",
    )
    if not any(each.exported for each in account.borders.values()):
        st.html(_nothing_exported(view, policy))
        return
    head = [
        ("Zone", ""), ("Hours", "num"), ("Newest hour", "nowrap"), ("Cells sent", "num"), ("Cells too small", "num"),
        ("Totals sent", "num"), ("Totals too small", "num"), ("Held back beside", "num"), ("Crossed", ""),
        ("Counted by", "nowrap"),
    ]  # fmt: skip
    rows = [
        _export_row(zone, account.borders[zone.name])
        for zone in view.scope
        if zone.name in account.borders
    ]
    st.html(markup.table(head, rows, label="Exports to the hub"))


def _nothing_exported(view: View, policy: Policy) -> str:
    if policy.hub is None:
        return markup.notice("zones.toml has no [hub], so nothing leaves a zone.")
    text = f"`mobius-rum residency export --zone {view.scope[0].name}` exports finished hours; so does the schedule."
    return markup.notice("No hour of this window was exported.", markup.with_code(text))


def _export_row(zone: Zone, found: Borders) -> list[str]:
    hours = found.exported
    if not hours:
        return [f"<b>{esc(zone.name)}</b>", "0", *[formatters.NOTHING] * 8]
    sent = sum(hour.sent for hour in hours)
    held = sum(hour.held_back for hour in hours)
    share = sent / (sent + held) if sent + held else None
    numbers = (
        sum(hour.sent_cells for hour in hours),
        sum(hour.small_cells for hour in hours),
        sum(hour.sent_totals for hour in hours),
        sum(hour.small_totals for hour in hours),
        sum(hour.hidden_beside for hour in hours),
    )
    return [
        f"<b>{esc(zone.name)}</b>",
        formatters.count(len(hours)),
        esc(formatters.instant(hours[-1].hour)),
        *(formatters.count(number) for number in numbers),
        markup.meter("of the sums", share),
        esc(" and ".join(sorted({hour.counted_by for hour in hours}))),
    ]


def _kept_out(view: View, account: _Account) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        section(
            "Quarantined",
            "Spans whose region is not of the zone where they arrived, or that cannot count.",
        )
        _quarantined(view, account)
    with right:
        section(
            "Removed attributes",
            "By a service before it sent them (its allow-list, its SDK’s limits), or by the zone before it stored spans of "
            "other sources.",
        )
        _removed(view, account)


def _quarantined(view: View, account: _Account) -> None:
    rows = [
        [
            f"<b>{esc(zone.name)}</b>",
            esc(each.reason),
            esc(each.region or "none"),
            formatters.count(each.spans),
            esc(formatters.instant(each.newest)),
        ]
        for zone, found in _known(view, account)
        for each in found.quarantined or ()
    ]
    if not rows:
        hidden = [zone.name for zone, found in _known(view, account) if found.quarantined is None]
        text = (
            f"Not yours to see: single requests of {', '.join(hidden)}."
            if hidden
            else "Nothing was quarantined in this window."
        )
        st.html(f'<p class="mr-lead">{esc(text)}</p>')
        return
    head = [("Zone", ""), ("Why", ""), ("Region", ""), ("Spans", "num"), ("Newest", "nowrap")]
    st.html(markup.table(head, rows[:_MOST_ROWS], css="mr-dense", label="Quarantined spans"))


def _removed(view: View, account: _Account) -> None:
    rows = [
        [
            f"<b>{esc(zone.name)}</b>",
            esc(each.service or "none"),
            esc(each.region or "none"),
            esc(each.remover),
            formatters.count(each.attributes),
            formatters.count(each.spans),
        ]
        for zone, found in _known(view, account)
        for each in found.removed
    ]
    if not rows:
        st.html('<p class="mr-lead">No span of this window lacks an attribute.</p>')
        return
    head = [
        ("Zone", ""),
        ("Service", ""),
        ("Region", ""),
        ("Removed by", ""),
        ("Attributes", "num"),
        ("Spans that lack any", "num"),
    ]
    st.html(markup.table(head, rows[:_MOST_ROWS], css="mr-dense", label="Removed attributes"))


def _audited(view: View, account: _Account) -> None:
    section(
        "Who read single requests",
        "Written down in the zone before anything is shown. mobius-rum residency audit says which ones, and why.",
    )
    rows = [
        [
            f"<b>{esc(zone.name)}</b>",
            esc(each.viewer),
            esc(each.action.replace("_", " ")),
            formatters.count(each.reads),
            formatters.count(each.with_reason),
            esc(formatters.instant(each.newest)),
        ]
        for zone, found in _known(view, account)
        for each in found.reads or ()
    ]
    if rows:
        head = [
            ("Zone", ""), ("Viewer", ""), ("What", ""), ("Reads", "num"), ("With a reason", "num"), ("Last", "nowrap"),
        ]  # fmt: skip
        st.html(
            markup.table(head, rows[:_MOST_ROWS], css="mr-dense", label="Reads of single requests")
        )
    elif all(found.reads is None for _, found in _known(view, account)):
        st.html(
            '<p class="mr-lead">Who reads single requests is told to those who may read them.</p>'
        )
    else:
        st.html('<p class="mr-lead">Nobody read single requests in this window.</p>')


def _known(view: View, account: _Account) -> Iterator[tuple[Zone, Borders]]:
    for zone in view.scope:
        if zone.name in account.borders:
            yield zone, account.borders[zone.name]
