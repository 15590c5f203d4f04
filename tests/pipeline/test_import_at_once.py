"""Two imports of one content at the same time, with other options: the store holds it once, as one of them."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports import synthetic, synthetic_store
from mobius_pipeline.imports.formats.given import Given
from mobius_pipeline.imports.routes import Match
from mobius_pipeline.imports.synthetic_claim import Settings, claim
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory

FILE = Path(__file__).parents[1] / "data/synthetic/k6/plain/results.json.gz"


def rows(zone: Zone, query: str) -> list[tuple[Any, ...]]:
    client = connect(zone, Purpose.INGEST)
    try:
        return [tuple(row) for row in client.query(query).result_rows]
    finally:
        client.close()


def import_together(barrier: Barrier, zone: Zone, run: str, release: str) -> None:
    """Import in small batches, with the look at what is there before both and the first insert after."""
    synthetic_store._BATCH = 40  # type: ignore[misc]  # many batches, which interleave
    names = vars(synthetic)
    look = names["imported_run"]

    def look_together(client: Client, digest: str) -> str | None:
        found: str | None = look(client, digest)
        barrier.wait(60)
        return found

    names["imported_run"] = look_together
    synthetic.import_synthetic(
        zone, [FILE], region="eu-west-1", test="shop", run=run, release=release
    )


@pytest.mark.store
def test_two_imports_at_once_count_once(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [
        context.Process(target=import_together, args=(barrier, zone, run, release))
        for run, release in (("one", "1.0"), ("two", "2.0"))
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    ((run, release, requests, failed),) = rows(
        zone, "SELECT run, release, requests, failed FROM synthetic_runs"
    )
    assert (run, release) in {("one", "1.0"), ("two", "2.0")}
    assert (requests, failed) == (994, 82)
    assert rows(
        zone,
        "SELECT run, release, sum(requests), sumIf(requests, failed) FROM synthetic_results GROUP BY ALL",
    ) == [(run, release, 994, 82)]
    assert rows(
        zone,
        "SELECT test_run, version, sum(requests), sum(errors) FROM latency_minute GROUP BY ALL",
    ) == [(run, release, 994, 82)]


def settings(**changes: Any) -> Settings:
    matches = {("GET", "/a/7"): Match("GET", "/a/{id}", "shop"), ("", "b"): Match("", "b")}
    fields: dict[str, Any] = {"run": "r", "test": "t", "region": "eu-west-1", "service": None, "release": "1",
                              "environment": None, "given": Given(started=5), "matches": matches}  # fmt: skip
    return Settings(**fields | changes)


@pytest.mark.store
def test_the_first_decides_and_reads_back_what_it_said(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = connect(zone, Purpose.INGEST)
    try:
        assert claim(client, "a" * 64, "writer-1", settings()) == settings()
        assert claim(client, "a" * 64, "writer-2", settings(run="other")) == settings()
        assert claim(client, "b" * 64, "writer-2", settings(run="other")).run == "other"
        # Forgotten tokens let the second row in: the earliest still counts.
        client.insert(
            "synthetic_imports",
            [["a" * 64, "writer-0", settings(run="late").text()]],
            ["digest", "writer", "settings"],
        )
        assert claim(client, "a" * 64, "writer-3", settings(run="other")) == settings()
    finally:
        client.close()


@pytest.mark.store
def test_an_import_begun_with_other_times_is_not_completed_with_these(
    zone_factory: ZoneFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = zone_factory(topics=False)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "insert_requests", cut_off)
        with pytest.raises(KeyboardInterrupt):
            synthetic.import_synthetic(
                zone, [FILE], region="eu-west-1", test="shop", given=Given(name="a")
            )
    with pytest.raises(UsageError, match=r"begun with other options .*--name a"):
        synthetic.import_synthetic(zone, [FILE], region="eu-west-1", test="shop")
    again = synthetic.import_synthetic(
        zone, [FILE], region="eu-central-1", test="other", run="mine", given=Given(name="a")
    )
    assert (again.test, again.region, again.requests) == ("shop", "eu-west-1", 994)
    assert "was begun before" in again.warnings[-1]
    assert "--name was not used: k6-json says that itself" in again.warnings
