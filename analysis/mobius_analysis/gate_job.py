"""One gate: find the runs of a build, predict production from them, judge against budgets, keep the predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from mobius_analysis.correlate import Vantage, pick_vantage
from mobius_analysis.gate import Decision, GateCell, Limit, Record, Verdict, decide, overall
from mobius_analysis.gate_budgets import Budget, budget_for
from mobius_analysis.intervals import Bounds, least_requests
from mobius_analysis.pair_history import (
    TestRun,
    load_pairs,
    load_runs,
    load_test,
    load_users,
    measure,
)
from mobius_analysis.pairs import Measured, Pair
from mobius_analysis.prediction import PREDICTED, Prediction, Predictor, Subject
from mobius_analysis.prediction_store import save_predictions, score_stored
from mobius_analysis.rollup import CELL, Window
from mobius_analysis.verdicts import name_of
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Ask", "GateResult", "run_gate"]

_BASELINE: Final = timedelta(hours=24)
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
_HEADLINE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Ask:
    """What to judge, and against what.

    Either ``run``, or ``test``: all runs of ``release``, or the newest run of each region where it is empty. ``max_regression`` is the share
    by which production's p95 may grow. The history begins at ``since``.
    """

    since: datetime
    until: datetime
    run: str = ""
    test: str = ""
    release: str = ""
    budgets: tuple[Budget, ...] = ()
    max_regression: float | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the gate found.

    ``unjudged`` are tested endpoints without a budget, ``unused`` budgets that no tested endpoint has;
    ``releases`` and ``pairs`` measure the history.
    """

    verdict: Verdict
    runs: tuple[TestRun, ...]
    cells: tuple[GateCell, ...]
    record: Mapping[float, Record]
    releases: int
    pairs: int
    unjudged: tuple[tuple[str, Subject], ...]
    unused: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class _ZoneResult:
    runs: tuple[TestRun, ...]
    cells: tuple[GateCell, ...]
    record: Mapping[float, Record]
    releases: frozenset[str]
    pairs: int
    tested: frozenset[Subject]


def run_gate(
    zones: Sequence[Zone],
    ask: Ask,
    *,
    now: datetime,
    save: bool = True,
    advance: Callable[[int], None] = lambda _: None,
) -> GateResult:
    """Judge a build in every zone in which its test ran; ``advance`` hears of each run that was paired.

    Raises
    ------
    UsageError
        No zone has such a run; names those that there are.
    DependencyError
        A zone's store does not answer.
    TerminalError
        A store refused a query.
    """
    found: list[tuple[str, _ZoneResult]] = []
    known: list[TestRun] = []
    for zone in zones:
        client = connect(zone, Purpose.ANALYSIS)
        try:
            runs = _selected(client, ask)
            if runs:
                judge = _Zone(client, zone.name, ask, now, advance)
                found.append((zone.name, _judge_zone(judge, runs, save=save)))
            else:
                known += load_runs(client, _BEGINNING, ask.until)
        finally:
            client.close()
    if not found:
        raise UsageError(_nothing(ask, known), field="--run" if ask.run else "--test")
    cells = tuple(cell for _, one in found for cell in one.cells)
    tested = {(zone, subject) for zone, one in found for subject in one.tested}
    judged = {(cell.zone, cell.subject) for cell in cells}
    return GateResult(
        verdict=overall([cell.decision for cell in cells]),
        runs=tuple(run for _, one in found for run in one.runs),
        cells=cells,
        record=_add([one.record for _, one in found]),
        releases=len(frozenset().union(*(one.releases for _, one in found))),
        pairs=sum(one.pairs for _, one in found),
        unjudged=tuple(sorted(tested - judged)),
        unused=tuple(b for b in ask.budgets if not any(b.matches(s) for _, s in tested)),
    )


def _selected(client: Client, ask: Ask) -> tuple[TestRun, ...]:
    """Return the runs to judge, which are of one test and one release."""
    runs = load_runs(client, _BEGINNING, ask.until, test=ask.test, run=ask.run)
    if ask.run or not runs:
        return runs
    if ask.release:
        return tuple(run for run in runs if run.release == ask.release)
    # The newest run of each region, of what was tested last; earlier runs of the same build are history.
    newest = {run.region: run for run in runs if run.release == runs[-1].release}
    return tuple(sorted(newest.values(), key=lambda run: run.start))


def _nothing(ask: Ask, known: Sequence[TestRun]) -> str:
    what = f"run {ask.run!r}" if ask.run else f"run of test {ask.test!r}"
    if ask.release:
        what += f" with release {ask.release!r}"
    newest = sorted(known, key=lambda run: run.start)[-3:]
    if not newest:
        return f"no {what}: no test run was imported yet; see `mobius-rum import synthetic`"
    names = ", ".join(
        f"{run.run} (test {run.test}, release {run.release or 'not named'})" for run in newest
    )
    return f"no {what}; the newest runs are {names}"


@dataclass(frozen=True, slots=True)
class _Zone:
    client: Client
    name: str
    ask: Ask
    now: datetime
    advance: Callable[[int], None]


def _judge_zone(zone: _Zone, runs: tuple[TestRun, ...], *, save: bool) -> _ZoneResult:
    """Judge one zone.

    1. Pair all runs of the test with users' traffic, and part the build's own from the history.
    2. Measure the build's test.
    3. Predict and decide.
    4. Score past predictions, and keep the new ones.
    """
    client, ask, test = zone.client, zone.ask, runs[-1].test
    history = load_runs(client, ask.since, ask.until, test=test)  # 1
    chosen = {run.run for run in runs}
    all_runs = [*[r for r in history if r.run not in chosen], *runs]
    pairs = load_pairs(client, all_runs, ask.until, advance=zone.advance)
    predictors: dict[Vantage, Predictor] = {
        vantage: Predictor(p for p in many if p.run not in chosen)
        for vantage, many in pairs.items()
    }
    rows = load_test(client, runs)  # 2
    judge = _Judge(client, zone.name, runs, ask, predictors, _actual(pairs, chosen))
    cells = tuple(judge.cells(rows))  # 3
    stored = score_stored(client, test, pairs)  # 4
    if save:
        save_predictions(client, cells, runs, zone.now)
    used = [predictors[vantage] for vantage in sorted({cell.vantage for cell in cells})]
    return _ZoneResult(
        runs=runs,
        cells=cells,
        record={q: _record(used, q, stored.get(q, (0, 0))) for q in PREDICTED},
        releases=frozenset(p.release or p.run for one in used for p in one.pairs),
        pairs=sum(len(one.pairs) for one in used),
        tested=frozenset(rows.select(CELL).unique().iter_rows()),
    )


def _actual(pairs: Mapping[Vantage, Sequence[Pair]], chosen: set[str]) -> dict[Subject, Measured]:
    return {
        pair.subject: pair.production
        for many in pairs.values()
        for pair in many
        if pair.run in chosen
    }


def _record(used: Sequence[Predictor], q: float, stored: tuple[int, int]) -> Record:
    def count(*, whole_release: bool) -> tuple[int, int]:
        hits = [
            past.inside
            for one in used
            for past in one.past(q, whole_release=whole_release)
            if past.inside is not None
        ]
        return sum(hits), len(hits)

    return Record(count(whole_release=False), count(whole_release=True), stored)


def _add(records: Sequence[Mapping[float, Record]]) -> dict[float, Record]:
    def total(field: str, q: float) -> tuple[int, int]:
        parts = [getattr(record[q], field) for record in records]
        return sum(inside for inside, _ in parts), sum(n for _, n in parts)

    return {
        q: Record(total("left_out", q), total("left_out_releases", q), total("stored", q))
        for q in PREDICTED
    }


@dataclass(frozen=True, eq=False)
class _Judge:
    """Judges the cells of one zone; ``actual`` is what users got with the build where they have met it."""

    client: Client
    zone: str
    runs: Sequence[TestRun]
    ask: Ask
    predictors: Mapping[Vantage, Predictor]
    actual: Mapping[Subject, Measured]

    @property
    def release(self) -> str:
        """The build's version; empty where no run names it."""
        return self.runs[-1].release

    def cells(self, rows: pl.DataFrame) -> Iterator[GateCell]:
        """Judge every tested endpoint that has a budget."""
        current = self._current(rows) if self.ask.max_regression is not None else {}
        for key, part in rows.partition_by(CELL, as_dict=True, maintain_order=True).items():
            subject: Subject = (str(key[0]), str(key[1]), str(key[2]), str(key[3]))
            for q in PREDICTED:
                for limit in self._limits(subject, q, current.get(subject)):
                    yield self._cell(subject, part, q, limit)

    def _limits(self, subject: Subject, q: float, current: Bounds | None) -> Iterator[Limit]:
        budget = budget_for(self.ask.budgets, subject, q)
        if budget is not None:
            yield Limit(budget.seconds, f"budget of {budget.pattern}")
        grow = self.ask.max_regression
        if grow is not None and q == _HEADLINE:
            seconds = None if current is None else current.value * (1 + grow)
            yield Limit(seconds, f"production now + {grow * 100:g} %", current)

    def _cell(self, subject: Subject, rows: pl.DataFrame, q: float, limit: Limit) -> GateCell:
        vantage = self._vantage(subject, rows)
        rows = rows.filter(pl.col("vantage") == vantage)
        test = measure(rows, run=True)
        predictor = self.predictors[vantage]
        prediction = (
            None
            if test is None
            else predictor.predict(subject, test, q, self.release, self.runs[-1].start.timestamp())
        )
        answered = 0 if test is None else test.answered
        actual = self.actual.get(subject)
        return GateCell(
            zone=self.zone,
            subject=subject,
            q=q,
            vantage=vantage,
            answered=answered,
            failed=int(rows["errors"].sum()),
            test=None if test is None else test.quantiles[q],
            prediction=prediction,
            budget=limit,
            pairs=0 if prediction is None else prediction.own,
            actual=None if actual is None else actual.quantiles[q],
            decision=self._decide(predictor, prediction, limit, q, answered),
        )

    def _vantage(self, subject: Subject, rows: pl.DataFrame) -> Vantage:
        """Like with like: where the test was measured, and its past runs too."""
        vantage = pick_vantage(rows)
        here, there = (
            sum(p.subject == subject for p in self.predictors[v].pairs)
            for v in ("server", "client")
        )
        if vantage == "server" and here < there and "client" in rows["vantage"]:
            return "client"
        return vantage

    def _decide(
        self,
        predictor: Predictor,
        prediction: Prediction | None,
        limit: Limit,
        q: float,
        answered: int,
    ) -> Decision:
        if any(run.reported for run in self.runs) and not answered:
            text = "the file holds percentiles only, which have no interval: give results request by request"
            return Decision("cannot_tell", text, "results")
        lacking = None
        if prediction is None and predictor.pairs:
            lacking = (
                f"no past run has the {least_requests(q)} answered requests that {name_of(q)} needs"
            )
        elif prediction is not None and not prediction.own:
            lacking = "users have not met this endpoint beside a run of this test yet"
        elif predictor.releases < 2 and not predictor.knows(self.release):
            lacking = "the history holds one release: how releases differ is not known yet"
        return decide(prediction, limit, q=q, answered=answered, lacking=lacking)

    def _current(self, rows: pl.DataFrame) -> dict[Subject, Bounds]:
        """Production's p95 of the last 24 h, with any release but the one under test."""
        subjects: list[Subject] = sorted(rows.select(CELL).unique().iter_rows())
        window = Window.of(self.ask.until - _BASELINE, self.ask.until)
        found: dict[Subject, Bounds] = {}
        for region in sorted({subject[0] for subject in subjects}):
            users = load_users(self.client, region, self.runs[-1].environment, window, subjects)
            if self.release:
                users = users.filter(pl.col("version") != self.release)
            for key, part in users.partition_by(CELL, as_dict=True).items():
                measured = measure(part)
                if measured is not None:
                    subject = (str(key[0]), str(key[1]), str(key[2]), str(key[3]))
                    found[subject] = measured.quantiles[_HEADLINE]
        return found
