"""Joins as processes: killed at each point, and two at once; each span is moved once all the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.imports.synthetic import import_synthetic
from mobius_pipeline.joining import corrections, join
from mobius_pipeline.store import Purpose, connect
from tests.pipeline.spans_of_runs import DATA, requests_by_source, store_file, store_zone

pytestmark = pytest.mark.store

SPANS = 852


@pytest.mark.timeout(600)
def test_killed_anywhere_and_repeated_it_moves_each_span_once(
    store_server: str, zones_file_factory: Callable[..., Path]
) -> None:
    with store_zone(store_server) as (zone, client):
        store_file(client, "k6/traced")
        import_synthetic(
            zone, [DATA / "k6/traced/results.csv.gz"], region="eu-west-1", test="shop", run="one"
        )
        command = [sys.executable, "-m", "mobius_infra.cli", "join", "--config", str(zones_file_factory(zone))]  # fmt: skip
        for point, moved in (
            ("before_join_claim", 0),
            ("after_join_claim", 0),
            ("before_correction", 0),
            ("after_correction", SPANS),
        ):
            ended = subprocess.run(
                command,
                env={**os.environ, "MOBIUS_FAILPOINT": f"{point}=kill"},
                capture_output=True,
                check=False,
            )
            assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
            assert requests_by_source(client).get(("synthetic", "one"), 0) == moved, point
        assert join.join_run(client, "one").moved_now == 0
        assert requests_by_source(client) == {("synthetic", "one"): SPANS}


def join_together(barrier: Barrier, zone: Zone) -> None:
    """Join in small batches, both beginning at the same moment."""
    for each in (corrections, join):
        vars(each)["BATCH_SPANS"] = 60  # many batches, which meet
    client = connect(zone, Purpose.INGEST)
    barrier.wait(60)
    join.join_run(client, "one")
    client.close()


@pytest.mark.timeout(600)
def test_two_joins_at_once_move_each_span_once(store_server: str) -> None:
    with store_zone(store_server) as (zone, client):
        store_file(client, "k6/traced")
        import_synthetic(
            zone, [DATA / "k6/traced/results.csv.gz"], region="eu-west-1", test="shop", run="one"
        )
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(2)
        both = [context.Process(target=join_together, args=(barrier, zone)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join(300)
        assert [process.exitcode for process in both] == [0, 0]
        assert requests_by_source(client) == {("synthetic", "one"): SPANS}
        ((writers, batches),) = client.query(
            "SELECT uniqExact(writer), max(batch) FROM joined_spans"
        ).result_rows
        assert writers == 2, "one was done before the other began"
        assert batches == -(-SPANS // 60)
