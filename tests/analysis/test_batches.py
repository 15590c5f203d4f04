"""All cells of a zone at once are what each is alone: sums, intervals, ratios."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mobius_analysis.batch_loader import load_batches
from mobius_analysis.cells import load_cells
from mobius_analysis.correlate import Cell, SideSummary, correlate, measure, pick_vantage, summarise
from mobius_analysis.error_rates import ErrorComparison, compare_errors, failures_of
from mobius_analysis.intervals import Bounds
from mobius_analysis.ratio import ratio, shared_correlation
from mobius_analysis.rollup import CELL, Window, load_rollup
from mobius_analysis.testing import Requests, insert_rollup, loaded, lognormal, rollup_rows
from mobius_analysis.verdicts import QUANTILES
from tests.analysis.conftest import END, START, Shop

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
WHOLE = Window(BEGIN, BEGIN + timedelta(hours=2))


def zone(seed: int, cells: int = 14) -> Iterator[Requests]:
    """Endpoints of many kinds: busy and idle, with gaps, sampled, of several versions, tested or not."""
    rng = np.random.default_rng(seed)
    for number in range(cells):
        where = {
            "service": f"service-{number % 3}",
            "route": f"/{number % 5}",
            "region": f"eu-{number}",
        }
        for source, vantage in (
            ("real", "server"),
            ("real", "client"),
            ("synthetic", "server"),
            ("synthetic", "client"),
            ("suspected", "server"),
        ):
            if rng.random() < 0.25:
                continue
            T = 120
            present = rng.random(T) < rng.choice([0.02, 0.1, 0.7, 1.0])
            drawn = lognormal(
                rng,
                BEGIN,
                0.2 * rng.standard_normal(T),
                rate=float(rng.choice([0.05, 1, 30])),
                median=float(rng.choice([0.00001, 0.02, 0.5])),
                present=present,
            )
            for version in ("1.0.0", "1.1.0"):
                part = rng.random(len(drawn[0])) < 0.5
                yield Requests(
                    drawn[0][part],
                    drawn[1][part],
                    **where,
                    source=source,  # type: ignore[arg-type]  # one of those above
                    vantage=vantage,  # type: ignore[arg-type]  # one of those above
                    version=version,
                    status_class=str(rng.choice(["2xx", "2xx", "4xx", "5xx"])),
                    weight=float(rng.choice([1, 1, 1, 3.7])),
                )


def sides_of(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    real = rows.filter((pl.col("source") == "real") & (pl.col("vantage") == "server"))
    test = rows.filter(pl.col("source") == "synthetic")
    return real, test.filter(pl.col("vantage") == pick_vantage(test))


def parts_of(errors: ErrorComparison) -> list[object]:
    sides = [
        None if side is None else (bounds(side.bounds), near(side.effective))
        for side in (errors.production, errors.synthetic)
    ]
    compared = [
        None if found is None else bounds(found) for found in (errors.difference, errors.ratio)
    ]
    return [*sides, *compared]


def alone(rows: pl.DataFrame) -> tuple[SideSummary, SideSummary, dict[float, Bounds]]:
    """One cell by itself: matrices of minutes times buckets, quantile by quantile."""
    (production, y), (synthetic, x) = (summarise(side) for side in sides_of(rows))
    ratios = {}
    for q in QUANTILES:
        above, below = production.estimate(q), synthetic.estimate(q)
        if above is not None and below is not None and x is not None and y is not None:
            shared = shared_correlation(y, above, x, below)
            ratios[q] = ratio(above, below, shared).bounds
    return production, synthetic, ratios


def numbers(side: SideSummary) -> list[object]:
    found = [] if side.estimates is None else sorted(side.estimates.items())
    return [
        *(side.requests, side.errors, side.answered, side.minutes, side.sampled),
        *(near(value) for value in (side.weight, side.seconds)),
        *(
            (
                q,
                bounds(e.bounds),
                bounds(e.inner),
                near(e.variance),
                e.drift,
                e.missing,
                e.independent,
            )
            for q, e in found
        ),
    ]


def bounds(found: Bounds) -> list[object]:
    return [near(value) for value in (found.value, found.low, found.high)]


def near(value: float | None) -> object:
    """Sums of floats in another order; all else is the same."""
    return value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)


def same(cell: Cell, frame: pl.DataFrame) -> None:
    first, end = cell.window.minutes
    rows = frame.filter(
        pl.col("minute").is_between(first, end, closed="left"),
        *(pl.col(name) == value for name, value in zip(CELL, cell.subject, strict=True)),
    )
    production, synthetic, ratios = alone(rows)
    assert numbers(cell.production) == numbers(production)
    assert numbers(cell.synthetic) == numbers(synthetic)
    assert {q: bounds(r.bounds) for q, r in cell.ratios.items()} == {
        q: bounds(b) for q, b in ratios.items()
    }
    real, test = (failures_of(side) for side in sides_of(rows))
    assert parts_of(cell.errors) == parts_of(compare_errors(real, test))
    suspected = rows.filter(pl.col("source") == "suspected")
    assert cell.suspected == suspected["requests"].sum()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length", [None, timedelta(minutes=35)])
def test_many_cells_at_once_are_what_each_is_alone(seed: int, length: timedelta | None) -> None:
    frame = loaded(rollup_rows(list(zone(seed))))
    cells = correlate(frame, WHOLE.cut(length))
    for cell in cells:
        same(cell, frame)
    measured = {len(cell.ratios) for cell in cells}
    assert measured == {0, 3}
    assert any(cell.production.sampled for cell in cells)


def test_what_corrections_took_away_is_no_minute() -> None:
    requests = next(zone(1))
    rows = rollup_rows([replace(requests, weight=1.0, status_class="2xx", source="real")])
    gone = rows.head(5).with_columns(
        pl.col("requests", "errors", "weight", "weight_squared", "error_weight") * -1,
        weights=pl.col("weights").list.eval(-pl.element()),
    )
    (cell,) = correlate(loaded(pl.concat([rows, gone])), [WHOLE])
    (rest,) = correlate(loaded(rows.tail(-5)), [WHOLE])
    assert numbers(cell.production) == numbers(rest.production)


def test_windows_may_come_in_any_order_and_leave_gaps() -> None:
    frame = loaded(rollup_rows(list(zone(3))))
    first, _, third = WHOLE.cut(timedelta(minutes=40))
    cells = correlate(frame, [third, first])
    assert {cell.window for cell in cells} == {first, third}
    for cell in cells:
        same(cell, frame)


@pytest.mark.store
@pytest.mark.parametrize("length", [None, timedelta(minutes=35)])
def test_the_store_hands_out_the_same_in_parts(empty: Shop, length: timedelta | None) -> None:
    groups = list(zone(7))
    for some in (groups[::2], groups[1::2]):  # unmerged: a series' minutes lie in several rows
        insert_rollup(empty.client, rollup_rows(some))
    windows = WHOLE.cut(length)
    frame = load_rollup(empty.client, WHOLE)
    parts = list(load_batches(empty.client, windows, most_buckets=900))
    services = {service for batch, _ in parts for service in batch.groups["service"]}
    assert len(parts) > len(services) == 3
    shares = [share for _, share in parts]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    cells = [cell for batch, _ in parts for cell in measure(batch, windows)]
    assert len(cells) == len({(cell.subject, cell.window) for cell in cells})
    for cell in cells:
        same(cell, frame)
    whole = load_cells(empty.client, empty.zone, WHOLE.start, WHOLE.end, length).cells
    for cell in whole:
        same(cell, frame)
    expected = [(cell.window, cell.subject, cell.verdict) for cell in correlate(frame, windows)]
    assert [(cell.window, cell.subject, cell.verdict) for cell in whole] == expected


@pytest.mark.store
def test_a_store_without_traffic_has_no_parts(empty: Shop) -> None:
    assert list(load_batches(empty.client, [Window(START, END)])) == []
