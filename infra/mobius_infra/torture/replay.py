"""Stores the whole topic again, undisturbed and in other batches, and compares checksums over every column."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from mobius_infra.stack.process import Warden
from mobius_infra.torture.campaign import write_zones
from mobius_infra.torture.crew import Crew
from mobius_infra.torture.ledger_view import LedgerView, open_store
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.kafka_client import end_offsets
from mobius_pipeline.migrate import migrate

if TYPE_CHECKING:
    from mobius_infra.torture.campaign import Campaign
    from mobius_instrumentation.zones import Zone

__all__ = ["checksums", "replay"]

# What a join corrected is not of the topic, so it is left out (docs/trace-join.md).
# A sum of hashes does not depend on the rows' order; equal rows count as often as they are there.
_SPANS: Final = "SELECT count(), sum(cityHash64(*)) FROM spans"
_LATENCY: Final = (
    "SELECT count(), sum(cityHash64(*)) FROM (SELECT minute, region, service, version, environment, method, route, "
    "status_class, source, vantage, test_run, sum(requests), sum(errors), sum(weight), sum(weight_squared), "
    "sum(error_weight), sumMap(buckets), sumMap(buckets_squared) FROM latency_minute WHERE correction = 0 GROUP BY ALL)"
)
_SECONDS: Final = 3600.0


def checksums(zone: Zone) -> dict[str, str]:
    """Rows and checksum of each table, ``rows/hash``."""
    with open_store(zone) as client:
        found = {}
        for table, query in (("spans", _SPANS), ("latency_minute", _LATENCY)):
            ((rows, total),) = client.query(query).result_rows
            found[table] = f"{rows}/{int(total):016x}"
        return found


def replay(campaign: Campaign, warden: Warden) -> dict[str, Any]:
    """Store the campaign's topic from offset 0 into an empty database, by one worker; compare.

    Raises
    ------
    TerminalError
        It does not come to the topic's end.
    """
    begun = time.monotonic()
    zone = campaign.make_zone("rum_replay")
    migrate(zone)
    config = campaign.folder / "replay.toml"
    write_zones(zone, config)
    crew = Crew(
        [sys.executable, "-m", "mobius_infra.cli", "ingest", "--config", str(config)],
        campaign.folder / "replay",
        warden,
    )
    ends = end_offsets(zone, zone.spans_topic, range(campaign.options.partitions))
    ledger = LedgerView(zone)
    worker = crew.add()
    try:
        while any((ledger.ends() or {}).get(part, 0) < end for part, end in ends.items() if end):
            if not worker.running() or time.monotonic() - begun > _SECONDS:
                raise TerminalError(f"the replay does not end; the worker's log is {worker.log}")
            time.sleep(0.1)
    finally:
        crew.close()
        ledger.close()
    first, second = checksums(campaign.zone), checksums(zone)
    return {
        "equal": first == second,
        "spans": {"campaign": first["spans"], "replay": second["spans"]},
        "latency_minute": {
            "campaign": first["latency_minute"],
            "replay": second["latency_minute"],
        },
        "seconds": round(time.monotonic() - begun, 1),
    }
