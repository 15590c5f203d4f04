"""Line charts in small panels as SVG text: few enough marks that no plotting library is worth its weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from math import log10
from typing import Final

__all__ = ["COLOURS", "Line", "Panel", "figure"]

COLOURS: Final = ("#1b6ca8", "#d1495b", "#edae49", "#3a7d44", "#7b4fa3", "#555555")
_WIDTH: Final = 250
_HEIGHT: Final = 170
_LEFT: Final = 52
_TOP: Final = 74
_GAP: Final = 44
_BOTTOM: Final = 50
_STYLE: Final = (
    "text{font-family:Helvetica,Arial,sans-serif;font-size:11px;fill:#222}"
    ".title{font-size:14px;font-weight:bold}.panel{font-weight:bold}.faint{fill:#666}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One series: ``ys`` beside the panel's ticks, None where there is no figure; ``errors`` are standard errors."""

    name: str
    ys: Sequence[float | None]
    errors: Sequence[float | None] = ()
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart over evenly spaced ticks.

    Attributes
    ----------
    limits
        Lowest and highest y.
    marks
        Values of y that have a grid line with a label.
    targets
        Values of y that have a dashed line.
    logarithmic
        Whether y grows by factors.
    """

    title: str
    ticks: Sequence[str]
    lines: Sequence[Line]
    limits: tuple[float, float]
    marks: Sequence[float]
    targets: Sequence[float] = field(default_factory=tuple)
    logarithmic: bool = False
    label: Callable[[float], str] = "{:g}".format
    below: str = ""


def figure(title: str, panels: Sequence[Panel], *, columns: int = 3) -> str:
    """Draw the panels in rows of ``columns``, with one legend for all."""
    rows = -(-len(panels) // columns)
    width = columns * (_LEFT + _WIDTH) + 24
    height = _TOP + rows * (_HEIGHT + _GAP + _BOTTOM) + 8
    body = [f'<text class="title" x="12" y="22">{escape(title)}</text>', _legend(panels)]
    for i, panel in enumerate(panels):
        x = _LEFT + (i % columns) * (_LEFT + _WIDTH)
        y = _TOP + (i // columns) * (_HEIGHT + _GAP + _BOTTOM)
        body.append(f'<g transform="translate({x},{y})">{_draw(panel)}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}"><style>{_STYLE}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(body)}</svg>\n'
    )


def _legend(panels: Sequence[Panel]) -> str:
    names = {line.name: line.colour for panel in panels for line in panel.lines}
    parts, x = [], 12
    for name, colour in names.items():
        paint = COLOURS[colour % len(COLOURS)]
        parts.append(
            f'<line x1="{x}" x2="{x + 18}" y1="40" y2="40" stroke="{paint}" stroke-width="2.5"/>'
        )
        parts.append(f'<text x="{x + 23}" y="44">{escape(name)}</text>')
        x += 42 + 6 * len(name)
    return "".join(parts)


def _draw(panel: Panel) -> str:
    parts = [f'<text class="panel" x="0" y="-8">{escape(panel.title)}</text>']
    for mark in panel.marks:
        y = _y(panel, mark)
        parts.append(f'<line x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="-6" y="{y + 4}" text-anchor="end">{panel.label(mark)}</text>')
    for target in panel.targets:
        y = _y(panel, target)
        parts.append(
            f'<line x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}" stroke="#222" stroke-dasharray="5 4"/>'
        )
    for i, tick in enumerate(panel.ticks):
        x = _x(panel, i)
        parts.append(f'<text x="{x}" y="{_HEIGHT + 16}" text-anchor="middle">{escape(tick)}</text>')
    parts.append(
        f'<text class="faint" x="{_WIDTH / 2}" y="{_HEIGHT + 32}" text-anchor="middle">{escape(panel.below)}</text>'
    )
    # The first line is drawn last, to lie on top.
    parts += [_line(panel, line) for line in reversed(panel.lines)]
    return "".join(parts)


def _line(panel: Panel, line: Line) -> str:
    paint = COLOURS[line.colour % len(COLOURS)]
    errors = line.errors or [None] * len(line.ys)
    parts: list[str] = []
    run: list[tuple[float, float]] = []
    for i, (value, error) in enumerate(zip(line.ys, errors, strict=True)):
        if value is None:
            parts.append(_path(run, paint))
            run = []
            continue
        x, y = _x(panel, i), _y(panel, value)
        run.append((x, y))
        parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{paint}"/>')
        if error:
            low, high = _y(panel, value - error), _y(panel, value + error)
            parts.append(
                f'<line x1="{x}" x2="{x}" y1="{low}" y2="{high}" stroke="{paint}" stroke-opacity="0.5"/>'
            )
    parts.append(_path(run, paint))
    return "".join(parts)


def _path(run: Sequence[tuple[float, float]], paint: str) -> str:
    points = " ".join(f"{x},{y}" for x, y in run)
    return (
        f'<polyline points="{points}" fill="none" stroke="{paint}" stroke-width="2"/>'
        if len(run) > 1
        else ""
    )


def _x(panel: Panel, i: int) -> float:
    return round((i + 0.5) / len(panel.ticks) * _WIDTH, 1)


def _y(panel: Panel, value: float) -> float:
    """Vertical position; values beyond the limits stay on the border."""
    low, high = panel.limits
    value = min(max(value, low), high)
    share = (
        log10(value / low) / log10(high / low)
        if panel.logarithmic
        else (value - low) / (high - low)
    )
    return round(_HEIGHT * (1 - share), 1)
