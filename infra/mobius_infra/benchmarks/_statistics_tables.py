"""Pool what the simulations counted into the tables that are printed, with the Monte-Carlo error of each share."""

from __future__ import annotations

from collections.abc import Sequence
from math import expm1
from typing import Any, Final

import polars as pl

__all__ = [
    "coverage_table",
    "coverage_targets",
    "false_claims",
    "false_passes",
    "methods_table",
    "power_table",
    "real_targets",
    "verdict_targets",
]

Rows = list[dict[str, Any]]

_LEAST_INTERVALS: Final = 50  # a share of fewer is noise
_UP_TO_HALF: Final = 0.92
_STRONG: Final = 0.88
_FALSE: Final = 0.05
_FALSE_AT_EDGE: Final = 0.025
_REAL: Final = 0.02
_FAR: Final = 1.5


def _share(part: str, whole: str, name: str) -> list[pl.Expr]:
    """A share and its standard error, which is never 0: of no hit in n it is that of half a hit."""
    share, n = pl.col(part) / pl.col(whole), pl.col(whole)
    inside = share.clip(0.5 / n, 1 - 0.5 / n)
    error = (inside * (1 - inside) / n).sqrt()
    return [share.round(4).alias(name), error.round(4).alias(f"{name}_se")]


def _percent(column: str) -> pl.Expr:
    """Log half width as a percentage of the value."""
    return pl.col(column).map_elements(lambda x: 100 * expm1(x), return_dtype=pl.Float64).round(2)


def coverage_table(rows: Rows, by: Sequence[str]) -> Rows:
    """Pool coverage over everything but ``by``.

    ``honest_or_covered`` is the share of windows that have no interval, or one that covers, or a note that
    they are too short or drift. Widths are half widths in per cent of the value, means over windows;
    ``width_to_oracle`` is the mean of each world's own ratio, since worlds of few requests have by far the
    widest intervals.
    """
    whole = pl.col("intervals").sum()
    widths = [
        ((pl.col(name) * pl.col("intervals")).sum() / whole).alias(name)
        for name in ("half_width", "oracle_half_width", "width_to_oracle")
    ]
    counts = [pl.col(name).sum() for name in ("windows", "intervals", "covered", "honest", "noted")]
    pooled = (
        _frame(rows)
        .with_columns(width_to_oracle=pl.col("half_width") / pl.col("oracle_half_width"))
        .group_by(by, maintain_order=True)
        .agg(*counts, *widths)
        .filter(pl.col("intervals") >= _LEAST_INTERVALS)
    )
    return pooled.select(
        *by,
        "windows",
        *_share("covered", "intervals", "coverage"),
        (pl.col("honest") / pl.col("windows")).round(4).alias("honest_or_covered"),
        (pl.col("noted") / pl.col("windows")).round(4).alias("noted"),
        (1 - pl.col("intervals") / pl.col("windows")).round(4).alias("without_interval"),
        _percent("half_width").alias("half_width_percent"),
        _percent("oracle_half_width").alias("oracle_half_width_percent"),
        pl.col("width_to_oracle").round(2),
    ).to_dicts()


def coverage_targets(rows: Rows) -> Rows:
    """Hold coverage against what is promised: from an hour on by itself, in shorter windows or with a note.

    Judged are the worlds pooled over their shapes; the worst is named.
    """
    by = ("phi", "minutes", "requests", "sampling", "together", "of", "quantile")
    table = [row for row in coverage_table(rows, by) if row["minutes"] >= 60]
    weak = [row for row in table if row["phi"] is None or row["phi"] <= 0.5]
    strong = [row for row in table if row["phi"] is not None and row["phi"] > 0.5]
    short = [row for row in coverage_table(rows, by) if row["minutes"] < 60]
    return [
        _least("coverage up to phi 0.5, 60 minutes and more", _UP_TO_HALF, weak, "coverage"),
        _least("coverage at phi 0.8, 60 minutes and more", _STRONG, strong, "coverage"),
        _least("covered or warned of, below 60 minutes", _STRONG, short, "honest_or_covered"),
    ]


def _least(what: str, limit: float, table: Rows, column: str) -> dict[str, Any]:
    worst = min(table, key=lambda row: row[column])
    return _target(
        what, limit, worst, column, met=worst[column] + 2 * worst["coverage_se"] >= limit
    )


def _target(
    what: str, limit: float, worst: dict[str, Any], column: str, *, met: bool
) -> dict[str, Any]:
    named = ("phi", "minutes", "requests", "sampling", "of", "quantile", "shift", "ratio", "window")
    where = {name: worst[name] for name in named if name in worst}
    error = worst.get(f"{column}_se", worst.get("coverage_se"))
    return {
        "what": what,
        "limit": limit,
        "worst": worst[column],
        "se": error,
        "met": met,
        "where": where,
    }


def false_claims(rows: Rows, by: Sequence[str]) -> Rows:
    """Share of windows in which a method claims what is not so, where the truth lies within the margin.

    At the margin's edge a claim towards the edge is the one that must stay below 2.5 %.
    """
    within = _frame(rows).filter(pl.col("truth") == "representative")
    pooled = within.group_by("method", *by, maintain_order=True).agg(
        pl.col("windows").sum(),
        (pl.col("optimistic") + pl.col("pessimistic")).sum().alias("flagged"),
        pl.col("optimistic").sum(),
        pl.col("pessimistic").sum(),
        pl.col("noted_wrong").sum(),
    )
    return pooled.select(
        "method",
        *by,
        "windows",
        *_share("flagged", "windows", "false_claims"),
        (pl.col("optimistic") / pl.col("windows")).round(4).alias("optimistic"),
        (pl.col("pessimistic") / pl.col("windows")).round(4).alias("pessimistic"),
        (pl.col("noted_wrong") / pl.col("windows")).round(4).alias("false_with_note"),
    ).to_dicts()


def false_passes(rows: Rows, by: Sequence[str]) -> Rows:
    """Share of windows in which a method says that all is well, where the truth lies at or beyond the margin."""
    beyond = _frame(rows).filter((pl.col("truth") != "representative") | pl.col("at_edge"))
    pooled = beyond.group_by("method", *by, maintain_order=True).agg(
        pl.col("windows").sum(), pl.col("representative").sum()
    )
    return pooled.select(
        "method", *by, "windows", *_share("representative", "windows", "false_passes")
    ).to_dicts()


def power_table(rows: Rows, by: Sequence[str]) -> Rows:
    """What each method says of lognormal worlds by true ratio: flagged as optimistic, passed, or undecided."""
    pooled = (
        _frame(rows)
        .filter((pl.col("shape") == "lognormal") & (pl.col("ratio") >= 1))
        .group_by("method", *by, maintain_order=True)
        .agg(pl.col("windows", "optimistic", "representative", "inconclusive").sum())
    )
    return pooled.select(
        "method",
        *by,
        "windows",
        *_share("optimistic", "windows", "flagged"),
        (pl.col("representative") / pl.col("windows")).round(4).alias("passed"),
        (pl.col("inconclusive") / pl.col("windows")).round(4).alias("undecided"),
    ).to_dicts()


def methods_table(rows: Rows) -> Rows:
    """All methods side by side, each figure pooled over every world.

    ``false_at_1``: flagged at the ratio 1. ``false_at_edge``: flagged at the margin itself, which for a plain
    rank test, that has no margin, is no mistake of its own. ``passed_beyond``, ``flagged_beyond`` and
    ``undecided_beyond``: said of lognormal worlds whose true ratio is 1.5 or 2, whole or in the tail.
    """
    one = {row["method"]: row for row in false_claims(rows, ("ratio",)) if row["ratio"] == 1}
    at_edge = false_claims([row for row in rows if row["at_edge"]], ())
    edge = {row["method"]: row for row in at_edge}
    beyond = power_table([row for row in rows if row["ratio"] >= _FAR], ())
    return [
        {
            "method": row["method"],
            "false_at_1": one[row["method"]]["false_claims"],
            "false_at_1_se": one[row["method"]]["false_claims_se"],
            "false_at_edge": edge[row["method"]]["false_claims"],
            "false_at_edge_se": edge[row["method"]]["false_claims_se"],
            "flagged_beyond": row["flagged"],
            "flagged_beyond_se": row["flagged_se"],
            "passed_beyond": row["passed"],
            "undecided_beyond": row["undecided"],
        }
        for row in beyond
    ]


def verdict_targets(rows: Rows, method: str) -> Rows:
    """Hold our own wrong verdicts against what is promised, each kind of window pooled over shapes and sizes."""
    own = [row for row in rows if row["method"] == method]
    by = ("phi", "minutes", "shift", "ratio")
    claims = false_claims(own, by)
    one = [row for row in claims if row["ratio"] == 1]
    edge = []
    for row in claims:
        if row["ratio"] != 1 and abs(max(row["ratio"], 1 / row["ratio"]) - 1.1) < 1e-9:
            towards = "optimistic" if row["ratio"] > 1 else "pessimistic"
            edge.append({**row, "towards": row[towards], "towards_se": row["false_claims_se"]})
    long = [row for row in edge if row["minutes"] >= 60]
    short = [{**row, "unwarned": row["towards"] - row["false_with_note"]} for row in edge]
    return [
        _most("false optimistic or pessimistic at ratio 1", _FALSE, one, "false_claims"),
        _most("claims at the margin's edge, 60 minutes and more", _FALSE_AT_EDGE, long, "towards"),
        _most(
            "claims at the margin's edge without a warning, all windows",
            _FALSE_AT_EDGE,
            [
                {**row, "unwarned": max(row["unwarned"], 0.0), "unwarned_se": row["towards_se"]}
                for row in short
            ],
            "unwarned",
        ),
        _most(
            "wrong representative at the edge or beyond",
            _FALSE,
            false_passes(own, by),
            "false_passes",
        ),
    ]


def real_targets(rows: Rows, method: str) -> Rows:
    """Hold the share of neighbouring windows of real probes that we flag against what is promised."""
    own = [row for row in rows if row["method"] == method]
    return [_most("flagged neighbouring windows of real probes", _REAL, own, "flagged_share")]


def _most(what: str, limit: float, table: Rows, column: str) -> dict[str, Any]:
    worst = max(table, key=lambda row: row[column])
    error = worst.get(f"{column}_se") or 0.0
    return _target(what, limit, worst, column, met=worst[column] - 2 * error <= limit)


def _frame(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)
