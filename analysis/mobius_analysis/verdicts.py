"""Verdicts: whether the synthetic test tells the truth about what users get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, hypot, inf, log, sqrt
from typing import Final, Literal, get_args

from scipy.special import ndtri

from mobius_analysis.histogram import HALF_BUCKET
from mobius_analysis.intervals import Bounds, Estimate
from mobius_analysis.ratio import MARGIN, Ratio

__all__ = [
    "HEADLINE",
    "QUANTILES",
    "VERDICTS",
    "Needs",
    "Sample",
    "Side",
    "Verdict",
    "discoveries",
    "judge",
    "name_of",
    "name_ratio",
    "needs",
    "strictness",
]

Verdict = Literal[
    "representative", "optimistic", "pessimistic", "inconclusive", "untested", "unvisited"
]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
Side = Literal["production", "synthetic"]
QUANTILES: Final = (0.5, 0.95, 0.99)
HEADLINE: Final = (0.5, 0.95)
"""Quantiles that decide; p99 is reported beside them."""

FALSE_DISCOVERIES: Final = 0.05
_TOO_MANY: Final = 1000.0
_ROUNDING: Final = log(HALF_BUCKET)


@dataclass(frozen=True, slots=True)
class Needs:
    """What would settle an inconclusive cell.

    ``requests`` and ``minutes`` are further ones on ``side``, both None where more data would not
    settle it, because the ratio lies at the margin itself.
    """

    side: Side
    requests: int | None
    minutes: int | None
    text: str

    def document(self) -> dict[str, str | int | None]:
        """Return the JSON form."""
        return {
            "requests": self.requests,
            "minutes": self.minutes,
            "side": self.side,
            "text": self.text,
        }


def name_of(q: float) -> str:
    """Name of a quantile: 0.5 is p50, 0.999 is p99.9."""
    return f"p{q * 100:g}"


def name_ratio(q: float, found: Ratio) -> str:
    """Say a ratio with its interval for people: p95 1.32 (1.21 to 1.44)."""
    bounds = found.bounds
    if bounds.low is None or bounds.high is None:
        return f"{name_of(q)} {bounds.value:.2f} (no interval)"
    return f"{name_of(q)} {bounds.value:.2f} ({bounds.low:.2f} to {bounds.high:.2f})"


def discoveries(p_values: Sequence[float]) -> list[bool]:
    """Which of a family's claims Benjamini and Hochberg (1995) keep at a false discovery rate of 5 %."""
    # Not scipy.stats.false_discovery_control: scipy.stats costs a second of CPU time to load.
    size = len(p_values)
    held = [p for rank, p in enumerate(sorted(p_values), 1) if p <= FALSE_DISCOVERIES * rank / size]
    threshold = held[-1] if held else -1.0
    return [p <= threshold for p in p_values]


def judge(
    ratios: Mapping[float, Ratio],
    kept: Mapping[float, bool],
    *,
    production_requests: int,
    synthetic_requests: int,
    margin: float = MARGIN,
) -> Verdict:
    """Judge one cell; exactly one verdict always applies.

    Optimistic beats pessimistic where the headline quantiles disagree, since it is the lie that hurts
    users; both beat representative.

    Parameters
    ----------
    ratios
        Per headline quantile; those that cannot be computed at all are missing.
    kept
        Per headline quantile, whether its claim survived the correction for the whole family.
    """
    if synthetic_requests == 0:
        return "untested"
    if production_requests == 0:
        return "unvisited"
    if any(kept.get(q, False) and ratio.above(margin) for q, ratio in ratios.items()):
        return "optimistic"
    if any(kept.get(q, False) and ratio.below(margin) for q, ratio in ratios.items()):
        return "pessimistic"
    if all(q in ratios and ratios[q].equivalent(margin) for q in HEADLINE):
        return "representative"
    return "inconclusive"


@dataclass(frozen=True, slots=True)
class Sample:
    """Size of one side: answered requests, and the minutes that had any."""

    requests: int
    minutes: int

    @property
    def per_minute(self) -> float:
        """Requests in a minute that has any."""
        return self.requests / self.minutes if self.minutes else 1.0


def strictness(family: int) -> float:
    """How much wider than its 95 % interval the strictest claim in a family of that size must clear."""
    return float(
        ndtri(1 - FALSE_DISCOVERIES / 2 / max(family, 1)) / ndtri(1 - FALSE_DISCOVERIES / 2)
    )


def needs(
    q: float,
    ratio: Ratio | None,
    estimates: Mapping[Side, Estimate | None],
    samples: Mapping[Side, Sample],
    *,
    family: int = 1,
    margin: float = MARGIN,
) -> Needs:
    """Estimate what would settle quantile ``q``, from intervals that shrink with the root of the sample.

    ``family`` is the number of comparisons made together: a claim has to hold among all of them.
    """
    sides: tuple[Side, Side] = ("production", "synthetic")
    for side in sides:
        estimate = estimates[side]
        if estimate is None or estimate.bounds.low is None:
            missing = 1 if estimate is None else estimate.missing
            return _more(side, missing, samples[side], f"for an interval of {name_of(q)} at all")
    if ratio is None or ratio.inner.low is None or ratio.inner.high is None:
        return Needs("synthetic", None, None, "latencies of both sides are needed")
    distance = abs(log(ratio.bounds.value))
    within = distance < log(margin)
    widths = {side: _half(estimates[side], inner=within) for side in sides}
    # The half width that would settle it on the nearer side: equivalent, or beyond the margin.
    target = abs(log(margin) - distance) / (1.0 if within else strictness(family))
    if hypot(*widths.values()) > log(margin) / 2:
        # So wide that nobody knows yet where the ratio lies: first find that out.
        target = max(target, log(margin) / 2)
    wide: Side = max(sides, key=lambda side: widths[side])
    factor = _growth(widths[wide], min(widths.values()), target)
    if factor <= _TOO_MANY:
        more = ceil(samples[wide].requests * (factor - 1))
        return _more(wide, max(1, more), samples[wide], f"to settle {name_of(q)}")
    factor = _joint_growth(tuple(widths.values()), target)
    if factor <= _TOO_MANY:
        more = ceil(samples[wide].requests * (factor - 1))
        purpose = f"and as many times more on the other side to settle {name_of(q)}"
        return _more(wide, max(1, more), samples[wide], purpose)
    text = f"the ratio of {name_of(q)} lies at the margin itself; more data would hardly settle it"
    return Needs(wide, None, None, text)


def _growth(wide: float, other: float, target: float) -> float:
    """How many times the sample of one side must grow for the ratio to reach the half width ``target``.

    The half bucket on each side does not shrink with the sample.
    """
    rest = sqrt(max(0.0, target**2 - other**2)) - _ROUNDING
    return ((wide - _ROUNDING) / rest) ** 2 if rest > 0 else inf


def _joint_growth(widths: tuple[float, ...], target: float) -> float:
    """How many times both samples must grow: the root u of sum (s u + rounding)^2 = target^2, as 1 / u^2."""
    spreads = [max(0.0, width - _ROUNDING) for width in widths]
    a, b = sum(s * s for s in spreads), _ROUNDING * sum(spreads)
    c = len(spreads) * _ROUNDING**2 - target**2
    if c >= 0 or a <= 0:
        return inf
    return (a / (sqrt(b * b - a * c) - b)) ** 2


def _half(estimate: Estimate | None, *, inner: bool) -> float:
    bounds = Bounds(1.0) if estimate is None else estimate.inner if inner else estimate.bounds
    return log(bounds.high / bounds.low) / 2 if bounds.low and bounds.high else 0.0


def _more(side: Side, requests: int, sample: Sample, purpose: str) -> Needs:
    minutes = ceil(requests / max(sample.per_minute, 1e-9))
    text = f"about {requests:,} more {side} requests ({minutes:,} min at this rate) {purpose}"
    return Needs(side, requests, minutes, text)
