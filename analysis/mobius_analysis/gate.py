"""Will a build keep its budget in production? Judged from the prediction that its test run gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Final, Literal

from scipy.special import stdtrit

from mobius_analysis.correlate import Vantage
from mobius_analysis.intervals import CONFIDENCE, Bounds, least_requests
from mobius_analysis.prediction import Prediction, Subject

__all__ = ["Decision", "GateCell", "Limit", "Record", "Remedy", "Verdict", "decide", "overall"]

Verdict = Literal["pass", "fail", "cannot_tell"]
Remedy = Literal["requests", "history", "budget", "results", "baseline"]
"""What would settle a ``cannot_tell``: more requests in the test, more releases in the history, nothing (the
prediction lies at the budget itself), results request by request, or production to compare with."""

_MOST_REQUESTS: Final = 10_000_000
_MOST_RELEASES: Final = 200


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, why in one sentence, and what would settle it where it is ``cannot_tell``.

    ``requests`` and ``releases`` say how many more of them; None where that is not the remedy, or not known.
    """

    verdict: Verdict
    reason: str
    remedy: Remedy | None = None
    requests: int | None = None
    releases: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """How past predictions of one quantile fared: how many lay inside their 95 % interval.

    ``left_out``: every past pair predicted from the others; ``left_out_releases``: from other releases only;
    ``stored``: what gates predicted and production then showed.
    """

    left_out: tuple[int, int] = (0, 0)
    left_out_releases: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a quantile may take (seconds; None where nothing is known to compare with), and who says so.

    ``current`` is production's quantile now, where the limit is a multiple of it.
    """

    seconds: float | None
    source: str
    current: Bounds | None = None


@dataclass(frozen=True, slots=True)
class GateCell:
    """One endpoint, region and quantile of the build under test.

    ``test`` is the test's own quantile in seconds, ``pairs`` counts the history that lent to the prediction,
    ``actual`` is what users got with this release where they have met it already.
    """

    zone: str
    subject: Subject
    q: float
    vantage: Vantage
    answered: int
    failed: int
    test: Bounds | None
    prediction: Prediction | None
    budget: Limit
    pairs: int
    actual: Bounds | None
    decision: Decision


def decide(
    prediction: Prediction | None,
    limit: Limit,
    *,
    q: float,
    answered: int,
    lacking: str | None = None,
) -> Decision:
    """Judge one prediction against its limit; the error of a limit that was measured widens the comparison (MOVER).

    Parameters
    ----------
    answered
        Requests of the test whose latency counts.
    lacking
        Why the history is too thin to judge by, where it is.

    Returns
    -------
    Decision
        ``pass`` where the whole 95 % interval keeps the budget, ``fail`` where it is wholly beyond.
        Without an interval nothing passes.
    """
    least = least_requests(q)
    if answered < least:
        text = f"{answered:,} answered requests give no interval: run {least - answered:,} more"
        return Decision("cannot_tell", text, "requests", requests=least - answered)
    if lacking is not None:
        return Decision("cannot_tell", lacking, "history")
    if prediction is None:
        text = "no history of this test beside production: run it on releases that users have met"
        return Decision("cannot_tell", text, "history")
    if prediction.test is None:
        # Enough requests, yet no interval: they depend on each other, or were sampled.
        text = f"the test's interval is missing: run {answered:,} more requests"
        return Decision("cannot_tell", text, "requests", requests=answered)
    if limit.seconds is None:
        return Decision(
            "cannot_tell", "production has no such quantile to compare with", "baseline"
        )
    distance = log(limit.seconds / prediction.bounds.value)
    side = 1 if distance > 0 else 0
    now = _current_reach(limit.current, side)
    reach = sqrt(prediction.test[side] ** 2 + prediction.history**2 + now**2)
    if distance > reach:
        return Decision("pass", "the whole interval keeps the budget")
    if -distance > reach:
        return Decision("fail", "the whole interval is beyond the budget")
    return _what_would_settle(prediction, abs(distance), side, now, answered)


def _current_reach(current: Bounds | None, side: int) -> float:
    if current is None or current.low is None or current.high is None:
        return 0.0
    # The budget must hold even where production's present value is at the unfavourable end.
    return log(current.value / current.low) if side else log(current.high / current.value)


def _what_would_settle(
    prediction: Prediction, distance: float, side: int, now: float, answered: int
) -> Decision:
    assert prediction.test is not None  # noqa: S101 -- the caller looked
    rest = sqrt(prediction.history**2 + now**2)
    if distance > rest:
        # The test's part shrinks with the root of its requests.
        needed = answered * prediction.test[side] ** 2 / (distance**2 - rest**2)
        more = max(1, ceil(needed) - answered)
        if more <= _MOST_REQUESTS:
            return Decision(
                "cannot_tell", f"run {_round_up(more):,} more requests", "requests", _round_up(more)
            )
    floor = sqrt(prediction.floor**2 + now**2)
    if distance > floor:
        releases = _releases_needed(prediction, distance, now)
        many = "more releases" if releases is None else f"about {releases:,} more releases"
        return Decision(
            "cannot_tell",
            f"more history: {many} tested and met by users would narrow it",
            "history",
            releases=releases,
        )
    beyond = "below" if side else "above"
    text = (
        f"predicted so closely {beyond} the budget that releases differ by more than what is left"
    )
    return Decision("cannot_tell", text, "budget")


def _round_up(requests: int) -> int:
    """Two digits are all that such a forecast deserves."""
    unit: int = 10 ** max(0, len(str(requests)) - 2)
    return -(-requests // unit) * unit


def _releases_needed(prediction: Prediction, distance: float, now: float) -> int | None:
    """Least number of further releases, of the test's present size, if they vary as the past ones did."""
    settled = prediction.floor / float(stdtrit(1e9, (1 + CONFIDENCE) / 2))
    own = max(prediction.own, 1)
    for more in range(1, _MOST_RELEASES):
        t = float(stdtrit(own + more - 1, (1 + CONFIDENCE) / 2)) if own + more > 1 else 12.7
        reach = sqrt((t * settled) ** 2 * (1 + 1 / (own + more)) + now**2)
        if reach < distance:
            return more
    return None


def overall(decisions: Sequence[Decision]) -> Verdict:
    """Verdict of the whole gate: one failure fails it, and what nobody can tell never passes; nothing is no pass."""
    verdicts = {decision.verdict for decision in decisions}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "cannot_tell"
