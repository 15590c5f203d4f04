"""Whatever dies, no span is lost and none is stored twice; and a campaign over a store that forgets sees that it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mobius_infra.kafka_broker import KafkaMissingError, require
from mobius_infra.stack.process import Warden
from mobius_infra.torture.campaign import Campaign
from mobius_infra.torture.compare import compare, read_store
from mobius_infra.torture.faults import NAMED, TortureOptions, read_faults
from mobius_infra.torture.findings import write_findings
from mobius_infra.torture.ledger_view import open_store
from mobius_infra.torture.truth import read_topic
from mobius_pipeline.store import Purpose

pytestmark = [pytest.mark.system, pytest.mark.store, pytest.mark.kafka, pytest.mark.timeout(900)]


def torture(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "mobius_infra.cli", "torture", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.stdout, done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout)
    document["exit_code"] = done.returncode
    document["said"] = done.stderr[-4000:]
    return document


@pytest.mark.parametrize("broker", ["tansu", "kafka"])
def test_nothing_is_lost_and_nothing_is_there_twice(broker: str) -> None:
    if broker == "kafka":
        try:
            require()
        except KafkaMissingError as error:
            pytest.skip(f"NOT TESTED ON APACHE KAFKA: {error}")
    result = torture("--kills", "20", "--spans", "50000", "--seed", "1", "--broker", broker)
    wrong = {
        "lost": 0,
        "duplicated": 0,
        "rollup_error": 0.0,
        "missing_from_broker": 0,
        "missed": [],
        "exit_code": 0,
    }
    assert {key: result[key] for key in wrong} == wrong, result
    assert result["produced"] == result["stored"] >= 50_000
    assert result["dead_letters"] == {"expected": 4, "wrong": 0}
    assert result["quarantine"] == {"expected": 8, "wrong": 0}
    assert result["kills"] >= 20
    assert all(result["by_fault"][fault] >= 1 for fault in NAMED)
    assert result["pauses"] == 3
    assert ("broker_kill" in result["by_fault"]) is (broker == "kafka")
    assert result["replay"]["equal"]


def test_a_campaign_sees_what_is_lost_and_what_is_there_twice(tmp_path: Path) -> None:
    options = TortureOptions(
        kills=0,
        spans=2000,
        broker="tansu",
        workers=1,
        seed=1,
        faults=read_faults("worker_kill"),
        partitions=2,
    )
    warden = Warden()
    campaign = Campaign(options, tmp_path, warden, lambda _text: None, lambda _spans: None)
    try:
        campaign.run()
        truth = read_topic(campaign.zone, range(2))
        with open_store(campaign.zone, Purpose.MIGRATE) as client:
            assert compare(truth, read_store(client)).clean
            client.command(
                "INSERT INTO spans SELECT * FROM spans WHERE kind = 'Server' ORDER BY span_id LIMIT 1"
            )
            client.command(
                "DELETE FROM spans WHERE span_id = (SELECT max(span_id) FROM spans WHERE kind = 'Server')"
            )
            client.command(
                "INSERT INTO latency_minute SELECT * FROM latency_minute ORDER BY ALL LIMIT 1"
            )
            verdict = compare(truth, read_store(client))
        findings = tmp_path / "findings.txt"
        write_findings(findings, verdict, campaign.zone)
    finally:
        campaign.close()
        warden.close()
    assert len(verdict.lost) == 1
    assert len(verdict.duplicated) == 1
    assert verdict.rollup_error > 0
    (partition, offset), number = verdict.lost[0]
    text = findings.read_text()
    assert f"partition {partition}, offset {offset}: spans {number}\n" in text
    assert " done " in text
