"""What a viewer sees by the policy, and the rule it follows from."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from mobius_pipeline.residency.commands import register
from mobius_pipeline.residency.policy import Policy
from mobius_pipeline.residency.sight import PlaceSight, see
from mobius_pipeline.residency.tables import INTERNAL_TABLES, ROW_TABLES

ZONES = {
    name: {"regions": [f"{name}-1"], "kafka": ["h:1"], "clickhouse": "http://h", **more}
    for name, more in (("eu", {"reason_for_rows": True}), ("us", {}), ("in", {}))
}


def policy(**more: object) -> Policy:
    return Policy.model_validate({"zones": ZONES, "hub": {"clickhouse": "http://h"}, **more})


GROUPS = {
    "sre": {"spans": ["eu"], "aggregates": ["us"]},
    "board": {"aggregates": ["eu", "hub"]},
}


def levels(places: tuple[PlaceSight, ...]) -> dict[str, str | None]:
    return {each.place: each.level for each in places}


def test_the_highest_level_of_all_groups_counts() -> None:
    found = see(policy(groups=GROUPS, viewers={"ana": ["board"]}), "ana", ["sre", "x"])
    assert levels(found.places) == {
        "eu": "spans",
        "us": "aggregates",
        "in": None,
        "hub": "aggregates",
    }
    assert (found.groups, found.unknown_groups) == (("board", "sre"), ("x",))
    eu, us, india, hub = found.places
    assert eu.because == ("group 'sre' has spans of it", "group 'board' has aggregates of it")
    assert (eu.reason_for_rows, us.reason_for_rows) == (True, False)
    assert (eu.least_subjects, us.least_subjects, hub.least_subjects) == (None, 11, 50)
    assert india.tables == ()
    assert "none of the viewer's groups (board, sre) names it" in india.because


def test_aggregates_show_no_table_of_rows_and_nobody_sees_the_books() -> None:
    found = see(policy(groups=GROUPS), "bo", ["sre", "board"])
    for place in found.places:
        assert not set(place.tables) & set(INTERNAL_TABLES)
        assert not set(place.tables) & set(place.hidden)
        if place.level != "spans":
            assert not set(place.tables) & set(ROW_TABLES)
    assert set(ROW_TABLES) <= set(found.places[0].tables)
    assert set(ROW_TABLES) == set(found.places[1].hidden)


def test_without_a_group_nothing_is_seen_unless_the_file_has_none() -> None:
    stranger = see(policy(groups=GROUPS, viewers={"ana": ["sre"]}), "bo")
    assert set(levels(stranger.places).values()) == {None}
    assert stranger.places[0].because == ("the viewer is in no group of the file",)
    alone = see(policy(), "local")
    assert levels(alone.places) == {
        "eu": "spans",
        "us": "spans",
        "in": "spans",
        "hub": "aggregates",
    }
    assert "declares no [groups]" in alone.places[0].because[0]


def test_explain_says_it_in_words_and_in_json(tmp_path: Path) -> None:
    file = tmp_path / "zones.toml"
    file.write_text(
        '[zones.eu]\nregions = ["r"]\nkafka = ["h:1"]\nclickhouse = "http://h"\n'
        '[groups.sre]\naggregates = ["eu"]\n'
    )
    app = typer.Typer()
    register(app)
    command = [
        "explain",
        "--viewer",
        "ana",
        "--group",
        "sre",
        "--group",
        "x",
        "--config",
        str(file),
    ]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    assert "eu: aggregates\n  because group 'sre' has aggregates of it\n" in shown.stdout
    assert "hidden spans, synthetic_results, joined_spans" in shown.stdout
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert document["unknown_groups"] == ["x"]
    assert document["places"][0]["level"] == "aggregates"
