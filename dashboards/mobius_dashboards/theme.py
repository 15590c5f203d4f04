"""The look: one palette for light and one for dark, from which Streamlit, CSS and charts take their colours.

Production and tests keep their two colours everywhere. Blue against orange stays apart for every common
kind of colour blindness (Okabe and Ito, "Color Universal Design", 2008); dashes and words repeat it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["DARK", "LIGHT", "Mode", "Palette", "chart_config", "palette", "streamlit_flags"]

Mode = Literal["light", "dark"]
_FONT: Final = '"Source Sans", "Source Sans 3", "Segoe UI", system-ui, sans-serif'


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one mode, as CSS hex codes."""

    mode: Mode
    ground: str
    raised: str
    sidebar: str
    ink: str
    muted: str
    line: str
    accent: str
    link: str
    production: str
    synthetic: str
    good: str
    optimistic: str
    pessimistic: str
    unsure: str
    missing: str
    error: str
    services: tuple[str, ...]

    def verdict(self, verdict: str) -> str:
        """Colour that repeats the word of a verdict."""
        return {
            "representative": self.good,
            "optimistic": self.optimistic,
            "pessimistic": self.pessimistic,
            "untested": self.missing,
        }.get(verdict, self.unsure)

    def source(self, source: str) -> str:
        """Colour of a source of requests; production where it is not a test."""
        return self.synthetic if source == "synthetic" else self.production


LIGHT: Final = Palette(
    mode="light",
    ground="#FFFFFF",
    raised="#F6F7F9",
    sidebar="#F6F7F9",
    ink="#17202B",
    muted="#5B6675",
    line="#DFE3E8",
    accent="#2F4A66",
    link="#0B5CAD",
    production="#0B66C3",
    synthetic="#C96A00",
    good="#0B7A66",
    optimistic="#B3204D",
    pessimistic="#6A48B8",
    unsure="#5B6675",
    missing="#7A6100",
    error="#B3204D",
    services=(
        "#2E6F9E",
        "#8A5FA8",
        "#3B8A6E",
        "#B07A2A",
        "#A8515F",
        "#5E7A2F",
        "#4F6AA8",
        "#7A6A5A",
    ),
)
DARK: Final = Palette(
    mode="dark",
    ground="#0F151C",
    raised="#18202A",
    sidebar="#141B23",
    ink="#E7ECF2",
    muted="#9BA8B7",
    line="#2C3742",
    accent="#9DB8D6",
    link="#7CB8F5",
    production="#5BAEFF",
    synthetic="#FFA648",
    good="#4CCDB0",
    optimistic="#FF7FA3",
    pessimistic="#B9A0FF",
    unsure="#A5B1BF",
    missing="#E2C25A",
    error="#FF7FA3",
    services=(
        "#6FB1DE",
        "#C39ADF",
        "#74C6A6",
        "#E0B063",
        "#E08D9A",
        "#A5C46E",
        "#92A9E6",
        "#BFAE9C",
    ),
)


def palette(mode: str | None) -> Palette:
    """Palette of ``mode``; the light one while a browser has not said which it shows."""
    return DARK if mode == "dark" else LIGHT


def streamlit_flags() -> list[str]:
    """Command-line flags that give Streamlit's own widgets the same two palettes."""
    flags = ["--theme.baseFontSize=15", "--theme.baseRadius=6px", "--theme.showSidebarBorder=true"]
    for colours in (LIGHT, DARK):
        options = {
            "primaryColor": colours.accent,
            "backgroundColor": colours.ground,
            "secondaryBackgroundColor": colours.raised,
            "textColor": colours.ink,
            "linkColor": colours.link,
            "borderColor": colours.line,
            "sidebar.backgroundColor": colours.sidebar,
            "sidebar.secondaryBackgroundColor": colours.ground,
        }
        flags += [f"--theme.{colours.mode}.{name}={value}" for name, value in options.items()]
    return flags


def chart_config(colours: Palette) -> dict[str, Any]:
    """Vega-Lite configuration of every chart."""
    axis = {
        "labelColor": colours.muted,
        "titleColor": colours.muted,
        "gridColor": colours.line,
        "domainColor": colours.line,
        "tickColor": colours.line,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelPadding": 6,
        "gridOpacity": 0.7,
    }
    return {
        "background": "transparent",
        "font": _FONT,
        "view": {"stroke": None},
        "axis": axis,
        "title": {"color": colours.ink, "fontSize": 13, "anchor": "start", "fontWeight": 600},
    }
