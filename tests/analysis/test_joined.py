"""Where the time of joined requests goes: intervals that cover, and the command on real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import ArrayLike

from mobius_analysis.intervals import Bounds
from mobius_analysis.joined import JOINED_SCHEMA, network_note, split, split_document
from mobius_infra.cli import main
from tests.pipeline.spans_of_runs import DATA, requests_by_source, store_file, store_zone


def frame(
    minutes: ArrayLike, network: ArrayLike, inside: ArrayLike, **columns: Any
) -> pl.DataFrame:
    """Requests of one endpoint: the client's time is ``network`` and ``inside``, half of which is downstream."""
    rows = {
        "minute": minutes, "region": "eu-west-1", "service": "shop", "method": "GET", "route": "/a", "status": 200,
        "entries": 1, "weight": 1.0, "client_ms": np.add(network, inside), "network_ms": network, "queue_ms": None,
        "self_ms": np.divide(inside, 2), "downstream_ms": np.divide(inside, 2),
    }  # fmt: skip
    return pl.DataFrame(rows | columns, schema=JOINED_SCHEMA)


def test_nothing_joined_gives_nothing() -> None:
    assert split(pl.DataFrame(schema=JOINED_SCHEMA)) == ()
    assert split_document(()) == {"overall": None, "endpoints": []}


def test_one_request_has_values_and_no_interval() -> None:
    document = split_document(split(frame([1], [2.0], [8.0])))["endpoints"][0]
    assert document["network"] == {
        "mean_ms": {"value": 2.0, "low": None, "high": None},
        "p50_ms": {"value": 2.0, "low": None, "high": None},
        "p95_ms": {"value": 2.0, "low": None, "high": None},
        "share": {"value": 0.2, "low": None, "high": None},
    }
    assert document["queue"] is None
    assert (document["joined"], document["answered"], document["minutes"]) == (1, 1, 1)


def test_what_got_no_answer_is_joined_and_not_split() -> None:
    rows = pl.concat(
        [frame([1], [2.0], [8.0]), frame([1], [0.0], [9.0], client_ms=None, network_ms=None)]
    )
    (_, one) = split(rows)
    assert (one.joined, one.answered) == (2, 1)
    assert one.client is not None
    assert one.client.mean.value == 10


def test_shares_add_up_and_endpoints_stay_apart() -> None:
    rows = pl.concat(
        [
            frame([1, 2], [2.0, 4.0], [8.0, 6.0], queue_ms=[1.0, 1.0], network_ms=[1.0, 3.0]),
            frame([1], [5.0], [5.0], route="/b"),
        ]
    )
    overall, a, b = split(rows)
    assert overall.subject is None
    assert overall.joined == 3
    assert [one.subject and one.subject[3] for one in (a, b)] == ["/a", "/b"]
    shares = {name: part.share.value for name, part in a.parts.items() if part.share is not None}
    assert shares == pytest.approx({"network": 0.2, "queue": 0.1, "self": 0.35, "downstream": 0.35})
    assert "queue" not in b.parts


def test_a_sampled_request_counts_for_those_it_stands_for() -> None:
    rows = frame([1, 1], [0.0, 10.0], [10.0, 0.0], weight=[3.0, 1.0])
    network = split(rows)[0].parts["network"]
    assert network.mean.value == 2.5
    assert network.quantiles[0.5].value == 0


@pytest.mark.parametrize(("minutes", "shift"), [(1, 0.0), (60, 0.0), (60, 0.25)])
def test_intervals_cover_the_truth(minutes: int, shift: float) -> None:
    """Network time is lognormal with median 2 ms; with ``shift`` whole minutes are slower or faster together."""
    rng = np.random.default_rng(5)
    trials, hits, shares = 100, 0, 0
    per_minute = 120 if minutes == 1 else 5
    n = minutes * per_minute
    # Of the mixture over minutes, whose median stays 2 and whose mean grows.
    mean = 2.0 * np.exp((0.5**2 + shift**2) / 2)
    truth = mean / (mean + 8.0)
    at = np.repeat(np.arange(minutes), per_minute)
    for _ in range(trials):
        level = np.repeat(rng.normal(0, shift, minutes), per_minute) if shift else 0.0
        network = 2.0 * np.exp(rng.normal(0, 0.5, n) + level)
        part = split(frame(at, network, np.full(n, 8.0)))[0].parts["network"]
        median = part.quantiles[0.5]
        assert median.low is not None
        assert median.high is not None
        assert part.share is not None
        assert part.share.low is not None
        assert part.share.high is not None
        hits += median.low <= 2.0 <= median.high
        shares += part.share.low <= truth <= part.share.high
    # 95 % less three standard deviations of the count.
    assert hits >= 88
    assert shares >= 88


def test_network_note_says_what_is_known() -> None:
    assert network_note(None) == ""
    assert network_note(Bounds(0.123)) == " (12% of it by requests joined by trace)"
    assert network_note(Bounds(0.12, 0.1, 0.14)).endswith("joined by trace, 10% to 14%)")


@pytest.mark.store
def test_the_commands_join_a_run_refuse_it_and_allow_it_again(
    store_server: str,
    zones_file_factory: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with store_zone(store_server) as (zone, client):
        config = ["--config", str(zones_file_factory(zone)), "--json"]

        def run(*arguments: str) -> dict[str, Any]:
            monkeypatch.setattr("sys.argv", ["mobius-rum", *arguments, *config])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code in (0, None), capsys.readouterr().err
            document: dict[str, Any] = json.loads(capsys.readouterr().out)
            return document

        file = str(DATA / "jmeter/traced/results.xml.gz")
        store_file(client, "jmeter/traced")
        imported = run("import", "synthetic", file, "--region", "eu-west-1", "--test", "shop", "--run", "one")  # fmt: skip
        assert imported["join"]["joined"] == imported["join"]["moved_spans"] == 952
        assert requests_by_source(client) == {("synthetic", "one"): 952}

        document = run("join", "--run", "one")
        (found,) = document["runs"]
        assert (found["joined"], found["moved_now"], found["join_rate"]) == (952, 0, 0.9886)
        overall = document["overall"]["network"]
        # Of the 925 answered; expected.json counts the 27 time-outs, too.
        assert overall["p50_ms"]["value"] == pytest.approx(2.214916, rel=1e-3)
        assert overall["p95_ms"]["value"] == pytest.approx(7.450287, rel=1e-3)
        assert sum(one["joined"] for one in document["endpoints"]) == 952

        refused = run("join", "--run", "one", "--refuse")["runs"][0]
        assert (refused["refused"], refused["moved_spans"]) == (True, 0)
        assert requests_by_source(client) == {("real", ""): 952}
        day = ("--since", "2026-11-23T00:00:00Z", "--until", "2026-11-24T00:00:00Z")  # the file's
        assert run("join", *day)["runs"][0]["moved_spans"] == 0
        assert run("join", "--run", "one", "--allow")["runs"][0]["moved_now"] == 952
        assert requests_by_source(client) == {("synthetic", "one"): 952}


def test_usage_errors_name_the_option(
    zones_file_factory: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arguments, said in (
        (["--refuse"], "--refuse or --allow"),
        (["--slack", "2d", "--run", "x"], "--slack"),
        (["--slack", "soon", "--run", "x"], "--slack"),
    ):
        monkeypatch.setattr("sys.argv", ["mobius-rum", "join", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
