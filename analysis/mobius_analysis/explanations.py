"""Candidates for what explains a gap, each with its share of it, an interval and the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.blocks import LEAST_BLOCKS, Replicated, blocks_of, draw_blocks, share_of
from mobius_analysis.components import OWN
from mobius_analysis.decompose import LEAST_REQUESTS, Decomposition, Segments, decompose, segments
from mobius_analysis.dimensions import Dimension
from mobius_analysis.request_parts import Neighbourhood, Parted
from mobius_analysis.verdicts import name_of

__all__ = [
    "LEAST_SHARE",
    "Explanation",
    "component_explanations",
    "describe",
    "holding",
    "segment_explanations",
]

Kind = Literal["mix", "within", "component"]

LEAST_SHARE: Final = 0.15
"""Share of the gap below which nothing is said to explain it, however sure."""

_ONE_VALUE: Final = frozenset({"hour of day"})
"""Dimensions of which single values are no explanation: they would only be many."""

_MOST_PARTS: Final = 20
_SMALL: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Explanation:
    """One candidate at one quantile.

    Attributes
    ----------
    share
        Of the gap, as a difference of logarithms (mix, within) or of milliseconds (component).
    expected
        Share that it would have if everything were slower alike; it must explain more than that.
    gap
        Logarithm of production / test at this quantile, in the data that the candidate is made of.
    """

    kind: Kind
    dimension: str
    value: str | None
    q: float
    effect_ms: Replicated
    share: Replicated
    expected: float
    source: str
    gap: float
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def document(self, *, holds: bool) -> dict[str, Any]:
        """Return the JSON form, described in docs/verdicts.md."""
        return {
            "kind": self.kind,
            "dimension": self.dimension,
            "value": self.value,
            "source": self.source,
            "share": self.share.bounds().document(),
            "effect_ms": self.effect_ms.bounds().document(),
            "holds": holds,
            "evidence": dict(self.evidence),
        }


def holding(candidates: Sequence[Explanation]) -> list[bool]:
    """Which candidates surely explain at least 15 % of the gap, more than they would by being there.

    The lower bound is that of an interval of 1 - 0.05 / n for n candidates (Bonferroni).
    """
    confidence = 1 - 0.05 / max(1, len(candidates))
    found = []
    for one in candidates:
        low = one.share.bounds(confidence).low
        found.append(
            low is not None and low > one.expected and one.share.value >= one.expected + LEAST_SHARE
        )
    return found


def segment_explanations(
    dimension: Dimension, quantiles: Sequence[float]
) -> tuple[Segments | None, list[Explanation]]:
    """Candidates of one dimension: its mix, and each value by itself; none where it has one value only."""
    if dimension.production.is_empty() or dimension.synthetic.is_empty():
        return None, []
    both = segments(dimension.production, dimension.synthetic, dimension.values)
    if len(dimension.values) < 2:
        return both, []
    found = [one for q in quantiles for one in _of_quantile(dimension, both, decompose(both, q))]
    return both, found


def _of_quantile(
    dimension: Dimension, both: Segments, parts: Decomposition
) -> Iterator[Explanation]:
    if abs(parts.gap.value) < _SMALL:
        return
    p, x = (side[0].sum(axis=1) / side[0].sum() for side in (both.production, both.synthetic))
    if parts.mix is not None and parts.mix_ms is not None:
        most = int(np.argmax(np.abs(p - x)))
        evidence = {
            "value": both.values[most],
            "production_share": round(float(p[most]), 4),
            "synthetic_share": round(float(x[most]), 4),
        }
        yield Explanation(
            "mix", dimension.name, None, parts.q, parts.mix_ms, share_of(parts.mix, parts.gap), 0.0,
            dimension.origin, parts.gap.value, evidence,
        )  # fmt: skip
    if dimension.name in _ONE_VALUE:
        return
    for value, effect in parts.within.items():
        s = both.values.index(value)
        evidence = {
            "production_share": round(float(p[s]), 4),
            "production_requests": int(both.requests[0, s]),
            "synthetic_requests": int(both.requests[1, s]),
        }
        yield Explanation(
            "within", dimension.name, value, parts.q, parts.within_ms[value],
            share_of(effect, parts.gap), float(p[s]), dimension.origin,
            parts.gap.value, evidence,
        )  # fmt: skip


def component_explanations(
    requests: Sequence[Parted], around: Sequence[Neighbourhood], quantiles: Sequence[float]
) -> dict[float, list[Explanation]]:
    """Candidates by where the time of the requests around each quantile went.

    The mean duration around a quantile is the sum of its parts' means, hence the gap is the sum of their
    differences (the decomposition of a quantile by conditional means; Tasche 1999). Quantiles with fewer
    than 30 requests around them on a side, or without any part but the endpoint's own time, have none.
    """
    found: dict[float, list[Explanation]] = {}
    for q in quantiles:
        sides = [_around(requests, around, q, source) for source in ("real", "synthetic")]
        if min(len(side) for side in sides) >= LEAST_REQUESTS:
            found[q] = list(_components(sides[0], sides[1], q, "span"))
            y, x = ([_by_service(one) for one in side] for side in sides)
            if len({name for one in (*y, *x) for name in one.parts}) > 1:
                found[q] += _components(y, x, q, "service")
    return found


def _by_service(one: Parted) -> Parted:
    """The same request with its time by service: its own parts and those of its spans are its service's."""
    sums: dict[str, float] = {}
    for label, seconds in one.parts.items():
        service, colon, _ = label.partition(": ")
        name = service if colon else one.service
        sums[name] = sums.get(name, 0.0) + seconds
    return replace(one, parts=sums)


def _around(
    requests: Sequence[Parted], around: Sequence[Neighbourhood], q: float, source: str
) -> list[Parted]:
    place = next((one for one in around if one.q == q and one.source == source), None)
    if place is None:
        return []
    return [
        one
        for one in requests
        if one.source == source and place.low <= one.duration_ns <= place.high
    ]


def _components(
    production: Sequence[Parted], synthetic: Sequence[Parted], q: float, dimension: str
) -> Iterator[Explanation]:
    totals: dict[str, float] = {}
    for one in (*production, *synthetic):
        for name, seconds in one.parts.items():
            totals[name] = totals.get(name, 0.0) + seconds
    names = sorted(totals, key=lambda name: (-totals[name], name))
    if names == [OWN]:
        return
    kept = [*names[:_MOST_PARTS], *(["(other parts)"] if len(names) > _MOST_PARTS else [])]
    means, freedoms, present = [], [], []
    for seed, side in ((41, production), (43, synthetic)):
        matrix = _matrix(side, names, len(kept))
        drawn, freedom = _drawn_means(matrix, side, seed)
        means.append(drawn)
        freedoms.append(freedom)
        present.append((matrix > 0).mean(axis=0))
    freedom = min(freedoms)
    difference = 1000 * (means[0] - means[1])
    whole = Replicated(difference.sum(axis=1), freedom)
    if abs(whole.value) < _SMALL:
        return
    gap = float(np.log(means[0][0].sum() / means[1][0].sum()))
    for k, name in enumerate(kept):
        effect = Replicated(difference[:, k], freedom)
        evidence = {
            "production_ms": float(f"{1000 * means[0][0, k]:.4g}"),
            "synthetic_ms": float(f"{1000 * means[1][0, k]:.4g}"),
            "production_present_share": round(float(present[0][k]), 4),
            "synthetic_present_share": round(float(present[1][k]), 4),
            "production_requests": len(production),
            "synthetic_requests": len(synthetic),
        }
        share = share_of(effect, whole)
        yield Explanation(
            "component", dimension, name, q, effect, share, 0.0, "spans", gap, evidence
        )


def _matrix(side: Sequence[Parted], names: Sequence[str], kept: int) -> NDArray[np.float64]:
    """Seconds of each request in each part, those beyond the kept ones in the last column."""
    place = {name: min(i, kept - 1) for i, name in enumerate(names)}
    matrix = np.zeros((len(side), kept))
    for i, one in enumerate(side):
        for name, seconds in one.parts.items():
            matrix[i, place[name]] += seconds
    return matrix


def _drawn_means(
    matrix: NDArray[np.float64], side: Sequence[Parted], seed: int
) -> tuple[NDArray[np.float64], int]:
    """Weighted means of the data and of each draw of blocks of minutes, and the degrees of freedom."""
    minutes = np.asarray([one.minute for one in side], np.int64)
    place, count = blocks_of(minutes)
    if count < LEAST_BLOCKS:  # requests taken as independent
        place, count = np.arange(len(side)) % 8, 8
    weights = np.asarray([one.weight for one in side])
    sums = np.zeros((count, matrix.shape[1]))
    mass = np.zeros(count)
    np.add.at(sums, place, matrix * weights[:, None])
    np.add.at(mass, place, weights)
    drawn = draw_blocks(count, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        means: NDArray[np.float64] = (drawn @ sums) / (drawn @ mass)[:, None]
    return means, count - 1


def describe(one: Explanation) -> str:
    """Say one explanation in a sentence."""
    bounds = one.share.bounds()
    reach = (
        ""
        if bounds.low is None or bounds.high is None
        else f" ({bounds.low:.0%} to {bounds.high:.0%})"
    )
    share = f"{bounds.value:.0%}{reach} of the gap at {name_of(one.q)}"
    evidence = one.evidence
    if one.kind == "mix":
        return (
            f"{one.dimension} explains {share}: {evidence['value']} is"
            f" {evidence['production_share']:.0%} of users' requests and {evidence['synthetic_share']:.0%} of the test's"
        )
    if one.kind == "within":
        return (
            f"{one.dimension} {one.value} explains {share}, with"
            f" {evidence['production_share']:.0%} of users' requests"
        )
    return (
        f"{one.value} explains {share}: {evidence['production_ms']:g} ms for users,"
        f" {evidence['synthetic_ms']:g} ms in the test"
    )
