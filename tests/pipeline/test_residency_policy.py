"""The policy of zones.toml: what holds by default, what is refused and by which key."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mobius_pipeline.migration_files import Target, load_migrations
from mobius_pipeline.residency.commands import register
from mobius_pipeline.residency.contradictions import contradictions, load_policy, remarks
from mobius_pipeline.residency.policy import PolicyError, read_policy
from mobius_pipeline.residency.tables import (
    AGGREGATE_TABLES,
    CROSSING_COLUMNS,
    HUB_TABLES,
    INTERNAL_TABLES,
    REGION_TABLES,
    ROW_TABLES,
    TIME_COLUMNS,
    is_personal,
)

BARE = """
[zones.eu]
regions = ["eu-west-1"]
kafka = ["127.0.0.1:9092"]
clickhouse = "http://127.0.0.1:8131"
#eu
[zones.us]
regions = ["us-east-1"]
kafka = ["127.0.0.1:9093"]
clickhouse = "http://127.0.0.1:8132"
#us
"""
HUB = '[hub]\nclickhouse = "http://127.0.0.1:8130"\n'


def written(folder: Path, text: str = "", *, eu: str = "", us: str = "", hub: str = HUB) -> Path:
    file = folder / "zones.toml"
    file.write_text(hub + BARE.replace("#eu", eu).replace("#us", us) + text, encoding="utf-8")
    return file


def test_todays_file_is_valid_and_has_the_defaults(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path))
    eu = policy.zones["eu"]
    assert (eu.database, eu.least_subjects, eu.to_hub.least_subjects) == ("rum_eu", 11, 50)
    assert (eu.reason_for_rows, eu.backups, eu.attributes) == (False, (), ())
    assert set(eu.retention.days().values()) == {None}
    assert eu.to_hub.tables == ("latency_minute",)
    assert eu.to_hub.columns == CROSSING_COLUMNS
    assert policy.places == ("eu", "us", "hub")
    assert load_policy(written(tmp_path, "[instrumentation]\nsample = 1\n")) == policy


def test_a_whole_policy_is_read(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[groups."/sre eu@example.org"]\nspans = ["eu"]\naggregates = ["us", "hub"]\n'
        '[viewers]\n"ana@example.org" = ["/sre eu@example.org"]\n',
        eu='least_subjects = 20\nreason_for_rows = true\nbackups = ["s3://b/eu", "/backups/eu"]\n'
        'attributes = ["shop.tier"]\n'
        "[zones.eu.retention]\nspans = 30\nsynthetic_results = 30\njoined_spans = 30\nlatency_minute = 30\n"
        '[zones.eu.to_hub]\ntables = ["latency_minute", "findings"]\ncolumns = ["minute"]\nleast_subjects = 20\n',
    )
    policy = load_policy(file)
    assert policy.zones["eu"].retention.days()["spans"] == 30
    assert policy.zones["eu"].attributes == ("shop.tier",)
    assert policy.viewers["ana@example.org"] == ("/sre eu@example.org",)
    assert policy.groups["/sre eu@example.org"].aggregates == ("us", "hub")


RETENTION = "[zones.eu.retention]\n"
TO_HUB = "[zones.eu.to_hub]\n"


@pytest.mark.parametrize(
    ("eu", "text", "key", "says"),
    [
        ("retain = 3", "", "zones.eu.retain", "unknown key"),
        (RETENTION + "span = 3", "", "zones.eu.retention.span", "unknown key"),
        (RETENTION + "spans = true", "", "zones.eu.retention.spans", "whole number"),
        (RETENTION + 'spans = "30 days"', "", "zones.eu.retention.spans", "whole number"),
        (RETENTION + "spans = 0", "", "zones.eu.retention.spans", "greater than or equal to 1"),
        ("retention = 30", "", "zones.eu.retention", "must be a table"),
        ("least_subjects = 1", "", "zones.eu.least_subjects", "greater than or equal to 2"),
        ("least_subjects = 11.0", "", "zones.eu.least_subjects", "whole number"),
        ('reason_for_rows = "yes"', "", "zones.eu.reason_for_rows", "true or false"),
        ('attributes = "shop.tier"', "", "zones.eu.attributes", "must be a list"),
        ('attributes = [""]', "", "zones.eu.attributes.0", "letters, digits"),
        ("", "[group.sre]\nspans = ['eu']", "group", "unknown key"),
        ("", "[groups.sre]\nspan = ['eu']", "groups.sre.span", "unknown key"),
        ("", "[groups.sre]\nspans = 'eu'", "groups.sre.spans", "must be a list"),
        ("", '[groups."a`b"]\nspans = ["eu"]', 'groups."a`b"', "letters, digits"),
        ("", "[groups.sre]\nspans = ['asia']", "groups.sre.spans", "no zone 'asia'; known: eu, us"),
        ("", "[groups.sre]\nspans = []", "groups.sre", "has no zone"),
        ("", "[groups.sre]\nspans=['eu']\naggregates=[]", "groups.sre.aggregates", "without a zone"),
        ("", "[groups.sre]\nspans=['eu']\naggregates=['eu']", "groups.sre.aggregates", "name it once"),
        ("", "[groups.sre]\nspans = ['hub']", "groups.sre.spans", "the hub has no spans"),
        ("", "[groups.rum_eu_spans]\naggregates=['us']", "groups.rum_eu_spans", "name of a role"),
        ("", "[viewers]\nana = ['sre']", "viewers.ana", "no group 'sre'"),
        ("least_subjects = 60", "", "zones.eu.to_hub.least_subjects", "50 is less than the 60"),
        (TO_HUB + "least_subjects = 10", "", "zones.eu.to_hub.least_subjects", "10 is less"),
        (TO_HUB + 'tables = ["spans"]', "", "zones.eu.to_hub.tables", "never leaves its zone"),
        (TO_HUB + 'columns = ["trace_id"]', "", "zones.eu.to_hub.columns", "tell one person"),
        (TO_HUB + 'columns = ["enduser.id"]', "", "zones.eu.to_hub.columns", "tell one person"),
        (TO_HUB + 'columns = ["rout"]', "", "zones.eu.to_hub.columns", "no column 'rout'"),
        (RETENTION + "spans = 31\nsynthetic_results = 1\njoined_spans = 30\nlatency_minute = 30", "",
         "zones.eu.retention.spans", "may not outlive"),
        (RETENTION + "spans = 1\njoined_spans = 1\nlatency_minute = 30", "",
         "zones.eu.retention.synthetic_results", "kept for ever, the rollup 30 days"),
        (RETENTION + "spans = 30\njoined_spans = 29", "", "zones.eu.retention.joined_spans", "second time"),
        (RETENTION + "joined_spans = 29", "", "zones.eu.retention.joined_spans", "second time"),
        ('database = "rum_us"\nbackups = ["s3://u:p@h/x"]', "", "zones.eu.backups", "without credentials"),
        ('backups = ["/b", "/b/"]', "", "zones.eu.backups", "twice in it"),
    ],
)  # fmt: skip
def test_what_cannot_hold_is_refused_by_its_key(
    tmp_path: Path, eu: str, text: str, key: str, says: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(written(tmp_path, text, eu=eu))
    found = {each.key: each.problem for each in caught.value.problems}
    assert says in found[key]
    assert str(caught.value).startswith(f"{tmp_path}/zones.toml, field ")
    assert "u:p" not in str(caught.value)


def test_two_zones_may_not_share_a_store_or_a_backup(tmp_path: Path) -> None:
    one = 'database = "one"\nbackups = ["s3://b"]'
    file = written(tmp_path, eu=one, us='database = "one"\nbackups = ["s3://c"]')
    assert contradictions(read_policy(file)) == ()
    file = written(tmp_path, eu=one, us=one.replace("s3://b", "s3://b/"))
    file.write_text(file.read_text().replace(":8132", ":8131"))
    assert [(each.key, each.problem[:20]) for each in contradictions(read_policy(file))] == [
        ("zones.us.database", "same store and datab"),
        ("zones.us.backups", "'s3://b/' is also of"),
    ]
    # The same port, once left to the scheme and once written.
    text = file.read_text().replace("127.0.0.1:8131", "store", 1)
    file.write_text(text.replace("127.0.0.1:8131", "STORE:80", 1))
    assert "zones.us.database" in {each.key for each in contradictions(read_policy(file))}


def test_the_hub_is_not_taken_for_a_zone(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_text(file.read_text().replace("[zones.us]", "[zones.hub]"))
    keys = [each.key for each in contradictions(read_policy(file))]
    assert keys == ["zones.hub"]
    no_hub = written(tmp_path, eu='[zones.eu.to_hub]\ntables = ["latency_minute"]', hub="")
    assert [each.key for each in contradictions(read_policy(no_hub))] == ["zones.eu.to_hub"]


def test_shared_brokers_are_remarked_upon_and_allowed(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_text(file.read_text().replace("9093", "9092"))
    assert "zones.us.kafka" in {each.key for each in remarks(load_policy(file))}


def test_what_is_worth_a_look_is_remarked_upon(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        eu='attributes = ["shop.tier", "db.statement", "enduser.id", "enduser.pseudo.id"]\n'
        '[zones.eu.to_hub]\ntables = ["latency_minute", "findings"]\n',
    )
    found = [
        (each.key, each.problem.split(" holds")[0].split(":")[0])
        for each in remarks(load_policy(file))
    ]
    assert [each for each in found if each[0].startswith("zones.eu")] == [
        ("zones.eu.retention.spans", "spans are kept for ever"),
        ("zones.eu.to_hub.tables", "findings are not exported yet"),
        ("zones.eu.attributes", "db.statement"),
        ("zones.eu.attributes", "enduser.id"),
    ]


def test_check_prints_the_policy_or_every_problem(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    run = CliRunner()
    good = written(tmp_path, eu="least_subjects = 20")
    shown = run.invoke(app, ["check", "--config", str(good)], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    assert re.search(r"eu\s+least_subjects\s+20\s+file", shown.stdout)
    assert re.search(r"us\s+least_subjects\s+11\s+default", shown.stdout)
    document = json.loads(run.invoke(app, ["check", "--config", str(good), "--json"]).stdout)
    assert document["policy"]["zones"]["eu"]["least_subjects"] == 20
    assert document["policy"]["zones"]["eu"]["retention"]["spans"] is None

    bad = written(tmp_path, "[groups.a]\nspans = ['x']\n[viewers]\nb = ['c']")
    refused = run.invoke(app, ["check", "--config", str(bad), "--json"])
    assert refused.exit_code == 2
    keys = [each["key"] for each in json.loads(refused.stdout)["problems"]]
    assert keys == ["groups.a.spans", "viewers.b"]
    assert f"{bad}: groups.a.spans: no zone 'x'" in refused.stderr


def test_every_table_and_view_of_a_zone_is_classified() -> None:
    made = set()
    columns: dict[str, str] = {}
    for migration in load_migrations("zone"):
        for statement in migration.render(Target("z")):
            head = re.match(
                r"(?:\s*--[^\n]*\n)*\s*CREATE (OR REPLACE )?(TABLE|VIEW) (IF NOT EXISTS )?`z`\.(\w+)",
                statement,
            )
            if head:
                made.add(head[4])
                columns[head[4]] = columns.get(head[4], "") + statement
            made -= set(re.findall(r"DROP TABLE (?:IF EXISTS )?`z`\.(\w+)", statement))
    classified = (*ROW_TABLES, *AGGREGATE_TABLES, *INTERNAL_TABLES)
    assert len(classified) == len(set(classified))
    assert made | {"schema_migrations"} == set(classified)
    for table in REGION_TABLES:
        assert re.search(r"^\s+region ", columns[table], re.MULTILINE), table
    for table, column in TIME_COLUMNS.items():
        assert re.search(rf"^\s+{column} Date", columns[table], re.MULTILINE), (table, column)


def test_what_may_cross_has_a_place_in_the_hub_and_is_not_personal() -> None:
    text = "".join(each.text for each in load_migrations("hub"))
    made, dropped = (
        set(re.findall(rf"{verb} \$\{{database\}}\.(\w+)", text))
        for verb in ("CREATE TABLE IF NOT EXISTS", "DROP TABLE IF EXISTS")
    )
    assert made - dropped == set(HUB_TABLES)
    hours = text[text.index("latency_hour ") :]
    for column in CROSSING_COLUMNS:
        # The minutes of an hour are added up.
        name = "hour" if column == "minute" else column
        assert re.search(rf"^    {name} ", hours, re.MULTILINE)
        assert not is_personal(column)
