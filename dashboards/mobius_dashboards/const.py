"""Names that several pages share: verdicts, time windows, limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

__all__ = [
    "CACHE_SECONDS",
    "MARGIN",
    "MATCHES",
    "MAX_WINDOW",
    "PAGES",
    "PRESETS",
    "SOURCE_WORDS",
    "UNTRUE",
    "VERDICTS",
    "VerdictWord",
]

PAGES: Final = ("overview", "endpoint", "trace", "residency")
PRESETS: Final = {"1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d"}
# How production's minutes are matched to the test's; none where nothing is chosen.
MATCHES: Final = {"hour": "The tests' hours of day", "load": "The tests' load"}
# Longer windows belong to a report: a page would read months of minutes to draw a thousand pixels.
MAX_WINDOW: Final = timedelta(days=31)
# What a page may be behind the store.
CACHE_SECONDS: Final = 20
# Production and tests are the same while their ratio lies within 1/MARGIN .. MARGIN.
MARGIN: Final = 1.1


@dataclass(frozen=True, slots=True)
class VerdictWord:
    """How a verdict is written: always a glyph and a word, so that colour only repeats it."""

    word: str
    glyph: str
    meaning: str
    rank: int


VERDICTS: Final = {
    "optimistic": VerdictWord("optimistic", "▲", "users get it slower than the tests say", 0),
    "pessimistic": VerdictWord("pessimistic", "▼", "users get it faster than the tests say", 1),
    "untested": VerdictWord("untested", "○", "users request it, no test does", 2),
    "inconclusive": VerdictWord("inconclusive", "?", "the data cannot tell yet", 3),
    "unvisited": VerdictWord("unvisited", "◌", "a test requests it, no user does", 4),
    "representative": VerdictWord("representative", "✓", "the tests tell the truth", 5),
}
# Verdicts that say: the tests do not represent users here.
UNTRUE: Final = ("optimistic", "pessimistic")
SOURCE_WORDS: Final = {"production": "Production", "synthetic": "Tests"}
