"""The policy as ClickHouse SQL: the engine parses each statement, and each level is granted what it may see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.residency.policy import Policy
from mobius_pipeline.residency.sql import policy_statements
from mobius_pipeline.residency.tables import AGGREGATE_TABLES, INTERNAL_TABLES, ROW_TABLES
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

POLICY = Policy.model_validate(
    {
        "zones": {
            "eu": {"regions": ["eu-1", "it's \\ odd"], "kafka": ["h:1"], "clickhouse": "http://h"},
            "us": {"regions": ["us-1"], "kafka": ["h:1"], "clickhouse": "http://h"},
        },
        "groups": {
            "/sre eu@example.org": {"spans": ["eu"]},
            "board": {"aggregates": ["eu", "us"]},
            "us-only": {"spans": ["us"]},
        },
    }
)


@pytest.fixture
def client(store_server: str) -> Client:
    zone = Zone("eu", ("eu-1",), ("h:1",), store_server, "default")
    return connect(zone, Purpose.VIEW, database="default")


@pytest.mark.store
def test_the_engine_parses_every_statement(client: Client) -> None:
    for zone in POLICY.zones:
        for statement in policy_statements(POLICY, zone):
            parsed = client.query("SELECT formatQuery({sql:String})", parameters={"sql": statement})
            assert parsed.result_rows[0][0].split()[0] == statement.split()[0]
    odd = next(each for each in policy_statements(POLICY, "eu") if "region IN" in each)
    shown = client.query("SELECT formatQuerySingleLine({sql:String})", parameters={"sql": odd})
    assert r"region IN ('eu-1', 'it\'s \\ odd')" in shown.result_rows[0][0]


def test_aggregates_are_granted_no_rows_and_nobody_the_books() -> None:
    granted: dict[str, set[str]] = {"aggregates": set(), "spans": set()}
    for statement in policy_statements(POLICY, "eu"):
        if found := re.fullmatch(r"GRANT SELECT ON `rum_eu`.`(\w+)` TO `rum_eu_(\w+)`", statement):
            granted[found[2]].add(found[1])
    assert granted["aggregates"] == set(AGGREGATE_TABLES)
    assert granted["spans"] == {*AGGREGATE_TABLES, *ROW_TABLES}
    assert not (granted["spans"] | granted["aggregates"]) & set(INTERNAL_TABLES)


def test_groups_get_their_level_of_this_zone_and_others_nothing() -> None:
    text = "\n".join(policy_statements(POLICY, "eu"))
    assert "GRANT `rum_eu_spans` TO `/sre eu@example.org`" in text
    assert "GRANT `rum_eu_aggregates` TO `board`" in text
    assert "us" not in re.findall(r"[\w-]+", text.replace("AS ", ""))
    assert "us-only" not in text
