"""Every format that holds requests: two imports at once and the same file again count once, in the rollup too."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from mobius_instrumentation.zones import Zone
from mobius_pipeline.imports import synthetic, synthetic_store
from mobius_pipeline.imports.formats.given import Given
from mobius_pipeline.imports.synthetic import import_synthetic
from mobius_pipeline.imports.synthetic_result import SyntheticImport
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import make_resource, make_span
from tests.pipeline.test_import_exactness import BY_REQUEST, given_of, paths_of
from tests.pipeline.test_import_formats_otlp_spans import MARK, client, runner
from tests.pipeline.test_import_formats_otlp_spans import write as write_spans
from tests.pipeline.test_import_formats_plain import CSV, as_json

# One run of each format; other runs of it go the same way.
ONE_EACH = [
    "ab/./catalog.tsv", "blackbox/./federate.prom", "blackbox/./query-raw-samples.json", "gatling/3.15/simulation.log",
    "gatling/3.9/simulation.log", "h2load/./catalog.log", "hey/./catalog.csv", "jmeter/default/results.jtl",
    "jmeter/default/results.xml.gz", "k6/plain/results.json.gz", "k6/plain/results.csv.gz", "locust/./stats.json",
    "vegeta/./results.gob.gz", "vegeta/./results.json.gz", "vegeta/./results.csv.gz",
]  # fmt: skip


def of_our_own(folder: Path) -> dict[str, Path]:
    """Files of the formats of which no tool has written one here."""
    (folder / "plain.csv").write_text(CSV)
    (folder / "plain.jsonl").write_text(as_json(CSV))
    spans = write_spans(folder, runner(client(), client(404), **MARK))
    shutil.copy(spans, folder / "spans.otlp.jsonl")
    return {name: folder / name for name in ("plain.csv", "plain.jsonl", "spans.otlp.jsonl")}


def totals(zone: Zone, run: str) -> tuple[Any, ...]:
    client = connect(zone, Purpose.INGEST)
    try:
        rows = client.query(
            "SELECT sum(requests), sum(errors), (SELECT sum(requests) FROM synthetic_results WHERE run = {run:String}), "
            "(SELECT count() FROM synthetic_runs WHERE run = {run:String}) FROM latency_minute WHERE test_run = {run:String}",
            parameters={"run": run},
        ).result_rows
    finally:
        client.close()
    return tuple(rows[0])


@pytest.mark.store
def test_at_once_and_again_count_once(
    zone_factory: ZoneFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    zone = zone_factory(topics=False)
    monkeypatch.setattr(synthetic_store, "_BATCH", 150)  # several batches, which interleave
    barrier = threading.Barrier(2)
    look = synthetic_store.imported_run

    def look_together(client: Client, digest: str) -> str | None:
        found = look(client, digest)
        barrier.wait(60)
        return found

    cases: list[tuple[list[Path], dict[str, Any]]] = [(paths_of(c), given_of(c)) for c in ONE_EACH]
    cases += [([path], {}) for path in of_our_own(tmp_path).values()]
    formats: set[str] = set()
    for paths, given in cases:

        def run(name: str, paths: Any = paths, given: Any = given) -> SyntheticImport:
            return import_synthetic(
                zone, paths, region="eu-west-1", test="shop", run=name, given=Given(**given)
            )

        with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
            patch.setattr(synthetic, "imported_run", look_together)
            names = [f"{paths[0].name}-{n}-{len(formats)}" for n in range(2)]
            first, second = pool.map(run, names)
        assert first.run == second.run, paths
        wanted = (first.requests, first.failed, first.requests, 1)
        assert totals(zone, first.run) == wanted, paths
        again = run("another")
        assert (again.already_imported, again.run) == (True, first.run)
        assert totals(zone, first.run) == wanted, paths
        formats.add(first.format)
    assert len(formats) == len(cases)
    assert {case.split("/")[0] for case in BY_REQUEST} == {case.split("/")[0] for case in ONE_EACH}


@pytest.mark.store
def test_what_services_saw_of_a_test_is_its_server_vantage(
    zone_factory: ZoneFactory, tmp_path: Path
) -> None:
    zone = zone_factory(topics=False)
    spans = [make_span(start_ns=1_795_446_001_000_250_000, attributes=MARK) for _ in range(3)]
    path = write_spans(tmp_path, make_resource(spans))
    result = import_synthetic(zone, [path], region="eu-west-1", test="shop")
    client = connect(zone, Purpose.INGEST)
    try:
        rows = client.query(
            "SELECT source, vantage, version, sum(requests) FROM latency_minute GROUP BY ALL"
        ).result_rows
    finally:
        client.close()
    assert (result.release, rows) == ("1.4.0", [("synthetic", "server", "1.4.0", 3)])
