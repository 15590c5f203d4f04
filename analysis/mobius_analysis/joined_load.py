"""Loads joined requests as a frame: the thin shell under :mod:`mobius_analysis.joined`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from mobius_analysis.intervals import Bounds
from mobius_analysis.joined import JOINED_SCHEMA, Split, split
from mobius_analysis.rollup import Window
from mobius_pipeline.imports.zone_store import open_store
from mobius_pipeline.joining.join import SLACK, RunJoin, join_run
from mobius_pipeline.joining.load import count_named, load_slice, slices_of
from mobius_pipeline.joining.pairing import pair_trace
from mobius_pipeline.joining.parts import JoinedRequest, joined_request
from mobius_pipeline.joining.runs import TestRun, pending_runs, runs_between
from mobius_pipeline.store import store_errors

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mobius_analysis.correlate import Cell
    from mobius_instrumentation.zones import Zone

__all__ = ["join_zone", "load_joined", "load_network_shares", "load_splits", "with_network"]

_CHUNK: Final = 50_000
# Enough to tell a share, and bounded however many runs a window holds and however long they are.
_SAMPLED_RUNS: Final = 10
_SAMPLED_IDS: Final = 2_000


class _Frame:
    """Gathers joined requests in columns, so that a long run does not stay in memory as objects."""

    def __init__(self) -> None:
        self._rows: list[JoinedRequest] = []
        self._chunks: list[pl.DataFrame] = []

    def add(self, request: JoinedRequest) -> None:
        self._rows.append(request)
        if len(self._rows) >= _CHUNK:
            self._fold()

    def _fold(self) -> None:
        self._chunks.append(pl.DataFrame(self._rows, schema=JOINED_SCHEMA, orient="row"))
        self._rows = []

    def frame(self) -> pl.DataFrame:
        self._fold()
        return pl.concat(self._chunks)


def load_joined(
    client: Client, runs: list[TestRun], *, slack: timedelta = SLACK, move: bool = True
) -> tuple[list[RunJoin], pl.DataFrame]:
    """Join runs, correct the rollup where ``move``, and return their counts and their requests.

    ``client`` must be one for inserts. The frame has the columns of ``JOINED_SCHEMA``.

    Raises
    ------
    DatabaseError
        The store is away, or refuses.
    """
    rows = _Frame()
    found = []
    for run in runs:
        one = join_run(client, run.run, slack=slack, move=move and not run.refused, sink=rows.add)
        one.refused = run.refused
        found.append(one)
    return found, rows.frame()


def join_zone(zone: Zone) -> int:
    """Join every run of a zone whose spans may still arrive; return how many spans left production by it.

    Raises
    ------
    DependencyError
        The zone's store does not answer.
    TerminalError
        The store refused a statement.
    """
    with open_store(zone) as client:
        return sum(join_run(client, run.run).moved_now for run in pending_runs(client))


def load_splits(client: Client, window: Window) -> tuple[Split, ...]:
    """Split the time of joined requests of the window's runs, all together and by endpoint.

    A sample: of the ten latest runs of the window some 2,000 trace ids each, chosen by their hash.
    """
    rows = _Frame()
    slack_ns = SLACK // timedelta(microseconds=1) * 1000
    for run in runs_between(client, window.start, window.end)[-_SAMPLED_RUNS:]:
        named = count_named(client, run.run)
        for slice_ in slices_of(run.run, named, SLACK, _SAMPLED_IDS)[:1] if named else ():
            for _, records, spans in load_slice(client, slice_):
                for pair in pair_trace(records, spans, slack_ns).pairs:
                    rows.add(joined_request(pair, spans))
    return split(rows.frame())


def load_network_shares(client: Client, window: Window) -> dict[tuple[str, str, str, str], Bounds]:
    """Return the network's share of the client's time by region, service, method and route, where joined requests tell it."""
    shares = {}
    for one in load_splits(client, window):
        network = one.parts.get("network")
        if one.subject is not None and network is not None and network.share is not None:
            shares[one.subject] = network.share
    return shares


def with_network(
    client: Client, zone: Zone, window: Window, cells: tuple[Cell, ...]
) -> tuple[Cell, ...]:
    """Return the cells, with the network's share of the test's time where that was measured at the client.

    Raises
    ------
    DependencyError
        The zone's store does not answer.
    TerminalError
        The store refused a query.
    """
    if not any(cell.vantage == "client" and cell.synthetic.requests for cell in cells):
        return cells
    with store_errors(zone):
        shares = load_network_shares(client, window)
    return tuple(
        replace(cell, network_share=shares.get(cell.subject) if cell.vantage == "client" else None)
        for cell in cells
    )
