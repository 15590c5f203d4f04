"""One campaign from its options to its result document."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mobius_infra.stack.process import Warden
from mobius_infra.torture.campaign import Campaign
from mobius_infra.torture.compare import Verdict, compare, read_store
from mobius_infra.torture.faults import TortureOptions
from mobius_infra.torture.findings import write_findings
from mobius_infra.torture.ledger_view import open_store
from mobius_infra.torture.replay import replay
from mobius_infra.torture.truth import Truth, read_topic
from mobius_pipeline.errors import UsageError

__all__ = ["run_torture"]


def run_torture(
    options: TortureOptions, say: Callable[[str], None], show: Callable[[int], None]
) -> dict[str, Any]:
    """Run a campaign; return its result. ``result["clean"]`` tells whether the promise held.

    Raises
    ------
    KafkaMissingError
        Apache Kafka is asked for and cannot be started here.
    TerminalError
        The campaign could not be brought to its end.
    """
    begun = time.monotonic()
    with _folder(options.keep, say) as (folder, keep), contextlib.ExitStack() as stack:
        warden = Warden()
        stack.callback(warden.close)
        campaign = Campaign(options, folder, warden, say, show)
        stack.callback(campaign.close)
        try:
            campaign.run()
        except BaseException:
            keep()
            raise
        ran = time.monotonic() - begun
        say("all is stored; reading the topic and the store")
        truth = read_topic(campaign.zone, range(options.partitions))
        with open_store(campaign.zone) as client:
            stored = read_store(client)
            engine = str(client.query("SELECT version()").result_rows[0][0])
        verdict = compare(truth, stored)
        document = _document(campaign, truth, verdict, stored.count)
        document |= {"seconds": round(ran, 1), "engine": f"ClickHouse {engine}"}
        if options.replay:
            say("storing the topic again, undisturbed")
            document["replay"] = replay(campaign, warden)
        missing = truth.missing(options.spans)
        document["missing_from_broker"] = missing
        document["clean"] = (
            verdict.clean
            and not missing
            and not campaign.tally.missed
            and (not options.replay or document["replay"]["equal"])
        )
        if not verdict.clean:
            path = folder / "findings.txt"
            write_findings(path, verdict, campaign.zone)
            say(f"what is wrong, record by record, is in {path}")
        if not document["clean"]:
            keep()
        return document


def _document(campaign: Campaign, truth: Truth, verdict: Verdict, stored: int) -> dict[str, Any]:
    options, tally = campaign.options, campaign.tally
    return {
        "seed": options.seed,
        "broker": options.broker,
        "workers": options.workers,
        "produced": truth.produced,
        "stored": stored,
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated),
        "rollup_error": verdict.rollup_error,
        "dead_letters": {"expected": len(truth.dead), "wrong": len(verdict.dead_letters_wrong)},
        "quarantine": {
            "expected": truth.quarantined.total(),
            "wrong": len(verdict.quarantine_wrong),
        },
        "records": truth.records,
        "produced_twice_by_broker": truth.twice(),
        "kills": tally.kills,
        "by_fault": dict(sorted(tally.by_fault.items())),
        "left_out": ["broker_kill"]
        if options.broker == "tansu" and "broker_kill" in options.faults
        else [],
        "missed": [event.fault for event in tally.missed],
        "pauses": tally.pauses,
        "joins": tally.joins,
        "leaves": tally.leaves,
        "other_exits": dict(campaign.crew.exits),
    }


@contextlib.contextmanager
def _folder(
    wanted: Path | None, say: Callable[[str], None]
) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Make the campaign's folder, and remove it at the end; not when it was asked for, or is to be kept."""
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise UsageError(f"{wanted} is not empty: name a new folder", field="--keep")
        yield wanted.absolute(), lambda: None
        return
    folder = Path(tempfile.mkdtemp(prefix="mobius-torture-"))
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True
        say(f"the campaign's folder is kept: {folder}")

    try:
        yield folder, keep
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
