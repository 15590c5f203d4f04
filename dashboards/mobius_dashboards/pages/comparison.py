"""The part of an endpoint's page that says where the test lies, and why: the document of ``explain``, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import streamlit as st

from mobius_dashboards import detail_charts, formatters, markup, queries, strings
from mobius_dashboards.markup import esc
from mobius_dashboards.pages.parts import section
from mobius_dashboards.queries import Subject
from mobius_dashboards.view import View
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import MobiusError

__all__ = ["breakdown_rows", "explanation_rows", "segment_rows", "show_comparison", "split_rows"]

Document = Mapping[str, Any]
_MOST_EXPLANATIONS: Final = 6
_DIMENSIONS: Final = {
    "version": "Release",
    "hour of day": "Hour of day (UTC)",
    "instance": "Instance",
    "environment": "Environment",
    "status class": "Status class",
    "request size": "Request body",
    "response size": "Response body",
    "cache": "Cache",
}
_PARTS: Final = {
    "network": "Network, and the client itself",
    "queue": "Waiting for the handler",
    "self": "The service itself",
    "downstream": "What it calls",
}
_MEASURED: Final = {
    "queue": "Waiting for the handler",
    "database": "Database calls",
    "cache": "Cache calls",
    "http": "Calls of other services",
    "other": "Other calls",
    "own": "The service's own time",
    "total": "Whole request",
    "loop_lag": "Event loop late, at most",
    "loop_held": "Own code on the event loop",
    "garbage": "Garbage collection",
}


def show_comparison(view: View, zone: Zone, subject: Subject) -> None:
    """Draw shift function, distributions, explanations, segments and the split of the test's time."""
    try:
        document = queries.detail(view, zone, subject)
    except MobiusError as error:
        st.html(markup.notice(strings.failure(error), esc(error), kind="error"))
        return
    _shapes(view, document)
    _explanations(view, zone, document)
    _breakdown(document["breakdown"])
    _split(document)
    _load(document)


def _shapes(view: View, document: Document) -> None:
    if not any(document["distributions"].values()):
        return
    left, right = st.columns(2, gap="large")
    with left:
        section("Where the test is off", document["shift"]["text"])
        levels = document["shift"]["levels"]
        if levels:
            st.altair_chart(
                detail_charts.shift_curve(levels, view.colours), theme=None, width="stretch"
            )
            st.html(
                '<p class="mr-small">The band holds for all levels at once, with 95 %; inside the green one both '
                "sides count as the same.</p>"
            )
    with right:
        section("Both distributions", "How many requests take how long, users and tests.")
        st.html(markup.source_legend())
        st.altair_chart(
            detail_charts.density(document["distributions"], view.colours),
            theme=None,
            width="stretch",
        )


def _explanations(view: View, zone: Zone, document: Document) -> None:
    found = document["explanations"]
    if all(found[name]["gap_ratio"] is None for name in ("p95", "p50")):
        return
    section(
        "What explains it",
        "Shares of the gap between users and tests, each by itself: they overlap, so they do not add up.",
    )
    if not view.viewer.sees(zone.name, "spans"):
        st.html(
            '<p class="mr-small">From the rollup alone: raw spans of this zone are not yours to see.</p>'
        )
    for name, column in zip(("p95", "p50"), st.columns(2, gap="large"), strict=True):
        with column:
            gap = formatters.ratio(found[name]["gap_ratio"])
            st.html(
                f'<div class="mr-card"><h4>{name}: users wait {esc(gap)} as long</h4>'
                f"<p>{esc(found[name]['text'])}</p></div>"
            )
            rows = explanation_rows(found[name]["ranked"])
            if rows:
                head = [("Candidate", ""), ("Share of the gap", "nowrap"), ("Effect", "num")]
                st.html(markup.table(head, rows, css="mr-dense", label=f"Explanations of {name}"))
    _patterns(found["patterns"])
    _segments(document["segments"])


def explanation_rows(ranked: Sequence[Document]) -> list[list[str]]:
    """Return the table of candidates, the first six; those that hold are marked in words."""
    rows = []
    for one in ranked[:_MOST_EXPLANATIONS]:
        what = _candidate(one)
        word = (
            "<small>surely explains something</small>"
            if one["holds"]
            else "<small>not sure</small>"
        )
        rows.append(
            [
                f"{esc(what)} {word}",
                markup.exact(one["share"], formatters.percent_interval(one["share"])),
                esc(formatters.duration_ms((one["effect_ms"] or {}).get("value"))),
            ]
        )
    return rows


def _patterns(patterns: Sequence[Document]) -> None:
    if not patterns:
        return
    section(
        "What the slow requests have in common",
        "Users' requests that are slower than nearly all of the tests', in a sample of traces: which of their parts "
        "took how long. Measured on requests in which the pattern was not searched.",
    )
    head = [
        ("These parts took", ""),
        ("Of such requests are slow", "num"),
        ("Of the slow are such", "num"),
    ]
    st.html(
        markup.table(
            head, pattern_rows(patterns), css="mr-dense", label="Patterns of slow requests"
        )
    )


def pattern_rows(patterns: Sequence[Document]) -> list[list[str]]:
    """Return the table of patterns, each a conjunction of ranges of the times of components."""
    return [
        [
            " and ".join(
                f"<b>{esc(one['component'])}</b> {esc(formatters.duration_ms(one['low_ms']))} to "
                f"{esc(formatters.duration_ms(one['high_ms']))}"
                for one in pattern["ranges"]
            ),
            *(
                markup.exact(pattern[key], formatters.percent_interval(pattern[key]))
                for key in ("precision", "recall")
            ),
        ]
        for pattern in patterns
    ]


def _candidate(one: Document) -> str:
    dimension = _DIMENSIONS.get(one["dimension"], one["dimension"])
    match one["kind"]:
        case "mix":
            return f"{dimension}: another mix"
        case "within":
            return f"{dimension} {one['value']}: slower by itself"
        case _:
            return f"Time in {one['value']}"


def _segments(segments: Sequence[Document]) -> None:
    told = [one for one in segments if len(one["values"]) > 1]
    if not told:
        return
    with st.expander("By segment: release, hour, instance, sizes, cache"):
        for one in told:
            name = _DIMENSIONS.get(one["dimension"]) or str(one["dimension"])
            shares = one["known_share"]
            known = ", ".join(
                f"{formatters.percent(shares[side])} of {word}"
                for side, word in (("production", "users'"), ("synthetic", "tests'"))
            )
            lead = (
                ""
                if one["source"] == "rollup"
                else f"From a sample of spans; known for {known} requests."
            )
            section(name, lead)
            head = [
                ("Value", ""), ("Users", "num"), ("Tests", "num"),
                ("Users p50", "num"), ("Tests p50", "num"), ("Users p95", "num"), ("Tests p95", "num"),
            ]  # fmt: skip
            st.html(markup.table(head, segment_rows(one), css="mr-dense", label=name))


def segment_rows(segment: Document) -> list[list[str]]:
    """Return the table of one dimension's values; what one side does not have is a dash."""
    return [
        [
            esc(value["value"]),
            *(
                esc(formatters.percent(value[f"{side}_share"]))
                for side in ("production", "synthetic")
            ),
            *(
                esc(formatters.duration_ms(value[f"{side}_{name}_ms"]))
                for name in ("p50", "p95")
                for side in ("production", "synthetic")
            ),
        ]
        for value in segment["values"]
    ]


def _breakdown(breakdown: Document | None) -> None:
    if breakdown is None:
        return
    shares = ", ".join(
        f"{formatters.percent(breakdown[side]['measured_share'])} of {word} requests"
        for side, word in (("production", "users'"), ("synthetic", "tests'"))
    )
    section(
        "What a request's time is made of",
        f"Means with 95 % intervals, as the service measured itself; known of {shares}. "
        "The last three happen meanwhile and are no parts of the sum.",
    )
    head = [("", ""), ("Users", "num"), ("Tests", "num"), ("Difference", "num")]
    st.html(
        markup.table(head, breakdown_rows(breakdown), css="mr-dense", label="Parts of a request")
    )


def breakdown_rows(breakdown: Document) -> list[list[str]]:
    """Return the table of parts; those that are 0 on both sides are left out."""
    rows = []
    for part in (*breakdown["parts"], *breakdown["meanwhile"]):
        sides = [part[key] for key in ("production_ms", "synthetic_ms", "difference_ms")]
        if not any(side and side["value"] for side in sides):
            continue
        name = esc(_MEASURED[part["part"]])
        rows.append(
            [
                f"<b>{name}</b>" if part["part"] == "total" else name,
                *(markup.exact(side, formatters.interval_ms(side)) for side in sides),
            ]
        )
    return rows


def _split(document: Document) -> None:
    split = document["split"]
    if not split or not split["client"]:
        return
    section(
        "Where the test's own time goes",
        f"{formatters.count(split['answered'])} answered requests of tests, joined with the service's spans by trace id. "
        "The network is what the client measured and the service did not.",
    )
    head = [
        ("", ""), ("Share of the client's time", "nowrap"), ("Mean", "num"), ("p50", "num"), ("p95", "num"),
    ]  # fmt: skip
    st.html(
        markup.table(head, split_rows(split), css="mr-dense", label="Split of the client's time")
    )


def split_rows(split: Document) -> list[list[str]]:
    """Return the table of the parts of a joined request's time; a part that nobody measured is said to be unknown."""
    rows = []
    for name, title in _PARTS.items():
        part = split[name]
        if part is None:
            rows.append([esc(title), '<span class="mr-small">not measured</span>', "–", "–", "–"])
            continue
        rows.append(
            [
                esc(title),
                markup.exact(part["share"], formatters.percent_interval(part["share"])),
                *(
                    markup.exact(part[key], formatters.interval_ms(part[key]))
                    for key in ("mean_ms", "p50_ms", "p95_ms")
                ),
            ]
        )
    client = split["client"]
    rows.append(
        [
            "<b>The client's whole time</b>",
            "100 %",
            *(
                markup.exact(client[key], formatters.interval_ms(client[key]))
                for key in ("mean_ms", "p50_ms", "p95_ms")
            ),
        ]
    )
    return rows


def _load(document: Document) -> None:
    if text := document["load"]["text"]:
        section("How the tests sent their requests", text)
