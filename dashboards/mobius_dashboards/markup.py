"""Small pieces of HTML. Whatever comes from data or a URL passes through :func:`esc`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from mobius_dashboards.const import MARGIN, VERDICTS
from mobius_dashboards.formatters import percent

__all__ = [
    "anchor",
    "chip",
    "endpoint",
    "esc",
    "exact",
    "facts",
    "interval_bar",
    "meter",
    "notice",
    "ratio_domain",
    "source_legend",
    "source_mark",
    "table",
    "with_code",
]


def esc(value: object) -> str:
    """Return ``value`` as text that is safe inside HTML and inside a quoted attribute."""
    return escape(str(value), quote=True)


def anchor(href: str, inner: str, *, css: str = "") -> str:
    """Return a link inside this application; ``inner`` is HTML already."""
    return f'<a class="{esc(css)}" href="{esc(href)}">{inner}</a>'


def chip(verdict: str) -> str:
    """Return a verdict as glyph and word on its colour."""
    known = VERDICTS.get(verdict)
    word, glyph, meaning = (known.word, known.glyph, known.meaning) if known else (verdict, "?", "")
    css = verdict if known else "inconclusive"
    return (
        f'<span class="mr-chip mr-v-{css}" title="{esc(meaning)}">'
        f'<span aria-hidden="true">{glyph}</span> {esc(word)}</span>'
    )


def endpoint(method: str, route: str) -> str:
    """Return method and route, the method set small."""
    return f'<span class="mr-method">{esc(method or "–")}</span><span class="mr-route">{esc(route)}</span>'


def source_mark(source: str) -> str:
    """Return who sent a request: users, tests, or traffic that looks like a tool."""
    css, word = {
        "real": ("production", "user"),
        "synthetic": ("synthetic", "test"),
        "suspected": ("suspected", "suspected test"),
    }.get(source, ("suspected", source))
    return f'<span class="mr-source mr-s-{css}">{esc(word)}</span>'


def source_legend() -> str:
    """Return the legend of charts that compare production with tests."""
    return (
        '<p class="mr-key"><span class="mr-source mr-s-production">Production</span>'
        '<span class="mr-source mr-s-synthetic">Tests</span>'
        '<span class="mr-small">bands: 95 % intervals</span></p>'
    )


def notice(title: str, text: str = "", *, kind: str = "info") -> str:
    """Return a message that says what is the matter and what to do; ``text`` is HTML already."""
    return (
        f'<div class="mr-notice mr-n-{esc(kind)}" role="status"><strong>{esc(title)}</strong>'
        f"{f'<div>{text}</div>' if text else ''}</div>"
    )


def table(
    head: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[str]],
    *,
    css: str = "",
    label: str = "",
) -> str:
    """Return a table.

    Parameters
    ----------
    head
        Title and class ("" or "num" for right-aligned numbers) of each column.
    rows
        Cells, HTML already.
    """
    titles = "".join(f'<th scope="col" class="{kind}">{esc(title)}</th>' for title, kind in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{cell}</td>' for cell, (_, kind) in zip(row, head, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="mr-scroll"><table class="mr-table {esc(css)}" aria-label="{esc(label)}">'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return label and value pairs in one line; the values are HTML already."""
    items = "".join(f"<div><dt>{esc(name)}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="mr-facts">{items}</dl>'


def exact(interval: Mapping[str, Any] | None, text: str) -> str:
    """Return ``text`` with the interval it was rounded from, for those who point at it (and for tests)."""
    if not interval or interval.get("value") is None:
        return f"<span>{esc(text)}</span>"
    numbers = " ".join(str(interval.get(key)) for key in ("value", "low", "high"))
    return f'<span data-exact="{esc(numbers)}" title="{esc(numbers)}">{esc(text)}</span>'


def ratio_domain(ratios: Iterable[Mapping[str, Any] | None]) -> float:
    """Return the largest factor that the small ratio plots of one table show: 1.5 to 4; more stands at the edge."""
    most = 1.5
    for interval in ratios:
        for key in ("value", "low", "high"):
            value = (interval or {}).get(key)
            if value and value > 0:
                most = max(most, value * 1.08, 1.08 / value)
    return min(most, 4.0)


def interval_bar(interval: Mapping[str, Any] | None, verdict: str, domain: float) -> str:
    """Return a ratio with its interval on a log scale from 1/domain to domain, beside the 10 % band."""
    if not interval or not interval.get("value"):
        return ""

    def place(value: float) -> float:
        share = math.log(max(value, 1e-9)) / math.log(domain)
        return 50 + 50 * max(-1.0, min(1.0, share))

    value = float(interval["value"])
    low, high = float(interval.get("low") or value), float(interval.get("high") or value)
    left, right = place(low), place(high)
    band_left, band_right = place(1 / MARGIN), place(MARGIN)
    css = verdict if verdict in VERDICTS else "inconclusive"
    return (
        f'<span class="mr-iv mr-v-{css}" aria-hidden="true">'
        f'<i class="mr-iv-band" style="left:{band_left:.2f}%;width:{band_right - band_left:.2f}%"></i>'
        '<i class="mr-iv-one"></i>'
        f'<i class="mr-iv-line" style="left:{left:.2f}%;width:{right - left:.2f}%"></i>'
        f'<i class="mr-iv-dot" style="left:{place(value):.2f}%"></i></span>'
    )


def meter(title: str, share: float | None) -> str:
    """Return a share of 0 to 1 as a number over a bar."""
    width = 100 * min(1.0, max(0.0, share or 0.0))
    return (
        f'<div class="mr-meter"><div><b>{esc(percent(share))}</b> {esc(title)}</div>'
        f'<span><i style="width:{width:.1f}%"></i></span></div>'
    )


def with_code(text: str) -> str:
    """Return ``text`` escaped, with what stands in `backticks` set as code."""
    parts = esc(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
