"""The command ``suite``: how good the tests are, judged by what happened. Libraries load when it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from mobius_pipeline.config import load_config, pick_zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    parse_stretch,
    print_json,
    progress,
)

__all__ = ["suite"]

_SHORTEST = timedelta(hours=1)
_LONGEST = timedelta(days=92)


def suite(
    *,
    since: SinceOption = "7d",
    until: UntilOption = None,
    zone: ZoneOption = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", help="Only this deployment environment.", show_default=False),
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="Show this test only.", show_default=False)
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, max=1000, help="How many of what to test next.")
    ] = 10,
    fail_under: Annotated[
        float | None,
        typer.Option(
            "--fail-under",
            min=0.0,
            max=1.0,
            help="Exit with 1 where tests exercise less than this share of users' requests, or it is unknown.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Score the tests: what they exercise, what they saw, which alarms were false, what to test next."""
    from mobius_analysis.rollup import Window
    from mobius_analysis.suite_document import suite_document
    from mobius_analysis.suite_load import load_suite
    from mobius_analysis.suite_score import score
    from mobius_analysis.suite_tables import print_suite
    from mobius_pipeline.store import Purpose, connect

    now = datetime.now(UTC)
    begin, end = parse_stretch(since, until, now)
    _check(begin, end)
    zones = pick_zones(load_config(config), zone)
    loaded = []
    with progress("Scoring", len(zones)) as advance:
        for one in zones:
            client = connect(one, Purpose.ANALYSIS)
            try:
                window = Window.of(begin, end)
                loaded.append(load_suite(client, one, window, environment=environment))
            finally:
                client.close()
            advance(1)
    if json:
        print_json(suite_document(loaded, test=test, top=top))
    else:
        print_suite(loaded, test=test, top=top)
    share = score(loaded, test).coverage.requests
    if fail_under is not None and (share is None or share.value < fail_under):
        raise typer.Exit(1)


def _check(begin: datetime, end: datetime) -> None:
    if end - begin < _SHORTEST:
        raise UsageError(
            "the time from --since to --until is shorter than an hour", field="--since"
        )
    if end - begin > _LONGEST:
        raise UsageError("the time from --since to --until is longer than 92 days", field="--since")
