"""How often verdicts are wrong where the truth is known, how often they settle anything, and what others say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np

from mobius_analysis.intervals import Estimate, estimate
from mobius_analysis.ratio import MARGIN, ratio, shared_correlation
from mobius_analysis.verdicts import HEADLINE, Verdict, discoveries, judge
from mobius_infra.benchmarks._statistics_peers import PEERS
from mobius_infra.benchmarks._statistics_worlds import SHAPES, Draw, World, draw_pair, shifted

__all__ = [
    "CLAIM_COLUMNS",
    "OURS",
    "ClaimTask",
    "Shift",
    "claim_tasks",
    "measure_claims",
    "our_verdict",
]

OURS: Final = "mobius"
MINUTES: Final = (10, 60, 360)
REQUESTS: Final = (20, 200, 2000, 20_000)
PHIS: Final = (None, 0.5, 0.8)
CLAIM_COLUMNS: Final = ("shape", "phi", "minutes", "requests", "shift", "ratio", "method")
_MANY: Final = 20_000


@dataclass(frozen=True, slots=True)
class Shift:
    """What production is, measured by the test: ``whole``, every latency times ``ratio``; else its tail only."""

    ratio: float
    whole: bool = True

    @property
    def name(self) -> str:
        """Word for tables."""
        return "all" if self.whole else "tail"

    @property
    def truth(self) -> Verdict:
        """The verdict that a test of endless size would give; at the margin's edge it still is the truth."""
        if self.ratio > MARGIN * (1 + 1e-9):
            return "optimistic"
        return "pessimistic" if self.ratio < (1 - 1e-9) / MARGIN else "representative"

    @property
    def at_edge(self) -> bool:
        """Whether the ratio is the margin itself."""
        return abs(max(self.ratio, 1 / self.ratio) - MARGIN) < 1e-9

    def of(self, world: World) -> World:
        """``world`` so shifted."""
        if self.whole:
            return replace(world, scale=self.ratio)
        return replace(world, tail=self.ratio)


_NULLS: Final = (Shift(1.0), Shift(MARGIN), Shift(1 / MARGIN), Shift(MARGIN, whole=False))
_POWER: Final = (
    *(Shift(r) for r in (1.05, 1.2, 1.5, 2.0)),
    *(Shift(r, whole=False) for r in (1.2, 1.5, 2.0)),
)


@dataclass(frozen=True, slots=True)
class ClaimTask:
    """Draw both sides of one world ``repeats`` times and judge them under every shift of production."""

    world: World
    shifts: tuple[Shift, ...]
    repeats: int
    seed: tuple[int, ...]


def claim_tasks(repeats: int, seed: int) -> list[ClaimTask]:
    """Every shape at ratio 1 and at the margin's edges; lognormal also at the ratios of the power curves."""
    cells = product(MINUTES, REQUESTS, PHIS, SHAPES)
    return [
        ClaimTask(
            World(shape, phi, requests, minutes),
            (*_NULLS, *_POWER) if shape == "lognormal" else _NULLS,
            max(1, repeats // 2 if requests >= _MANY else repeats),
            (seed, 1, i),
        )
        for i, (minutes, requests, phi, shape) in enumerate(cells)
    ]


def measure_claims(task: ClaimTask) -> list[dict[str, Any]]:
    """One row per shift and method: how often each verdict was given.

    The shifts are applied to the same requests, so that a power curve is not blurred by its points'
    different draws.
    """
    rng = np.random.default_rng(task.seed)
    given: dict[tuple[Shift, str], Counter[str]] = {}
    for _ in range(task.repeats):
        production, test = draw_pair(rng, task.world, task.world)
        if production.clusters is None or test.clusters is None:
            continue
        known = {q: estimate(test.clusters, q) for q in HEADLINE}
        for shift in task.shifts:
            moved = shifted(production, shift.of(task.world))
            verdict, noted = our_verdict(moved, test, known)
            counts = given.setdefault((shift, OURS), Counter())
            counts.update([verdict, "windows"])
            counts["noted wrong"] += noted and verdict not in {shift.truth, "inconclusive"}
            for name, method in PEERS.items():
                given.setdefault((shift, name), Counter()).update([method(moved, test), "windows"])
    return [_row(task.world, shift, method, counts) for (shift, method), counts in given.items()]


def our_verdict(
    production: Draw, test: Draw, known: dict[float, Estimate] | None = None
) -> tuple[Verdict, bool]:
    """Judge one pair as `correlate` judges a family of this one cell; also whether its note warns."""
    y, x = production.clusters, test.clusters
    if y is None or x is None:
        return "inconclusive", False
    below = known or {q: estimate(x, q) for q in HEADLINE}
    above = {q: estimate(y, q) for q in HEADLINE}
    ratios = {
        q: ratio(above[q], below[q], shared_correlation(y, above[q], x, below[q])) for q in HEADLINE
    }
    members = [q for q in HEADLINE if ratios[q].known]
    kept = dict(zip(members, discoveries([ratios[q].p_beyond() for q in members]), strict=True))
    noted = any(e.drift or e.short or e.independent for e in (*above.values(), *below.values()))
    verdict = judge(ratios, kept, production_requests=y.requests, synthetic_requests=x.requests)
    return verdict, noted


def _row(world: World, shift: Shift, method: str, counts: Counter[str]) -> dict[str, Any]:
    key = (world.shape, world.phi, world.minutes, world.requests, shift.name, shift.ratio, method)
    names = (
        "windows",
        "optimistic",
        "pessimistic",
        "representative",
        "inconclusive",
        "noted wrong",
    )
    return {
        **dict(zip(CLAIM_COLUMNS, key, strict=True)),
        "truth": shift.truth,
        "at_edge": shift.at_edge,
        **{name.replace(" ", "_"): counts[name] for name in names},
    }
