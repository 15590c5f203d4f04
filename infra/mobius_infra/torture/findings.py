"""What a person needs to find the cause of a difference: the records, and the ledger's rows around them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from mobius_infra.torture.compare import Verdict
from mobius_infra.torture.ledger_view import open_store
from mobius_infra.torture.truth import Place
from mobius_instrumentation.zones import Zone

__all__ = ["write_findings"]

_MOST_RECORDS: Final = 200
_MOST_LINES: Final = 500


def write_findings(path: Path, verdict: Verdict, zone: Zone) -> None:
    """Write ``path``: what is wrong, record by record, each with the ledger's rows of its partition around its offset."""
    lines: list[str] = []
    for title, spans in (("lost", verdict.lost), ("duplicated", verdict.duplicated)):
        records = Counter(place for place, _ in spans)
        lines.append(f"{title}: {len(spans)} spans of {len(records)} records")
        for place in sorted(records)[:_MOST_RECORDS]:
            numbers = [number for at, number in spans if at == place]
            lines.append(f"  partition {place[0]}, offset {place[1]}: spans {_shorten(numbers)}")
            lines += [f"    {row}" for row in _ledger(zone, place)]
    for title, differences in (
        ("rollup", verdict.rollup_lines),
        ("dead letters", verdict.dead_letters_wrong),
        ("quarantine", verdict.quarantine_wrong),
    ):
        lines.append(f"{title}: {len(differences)} differences")
        lines += [f"  {line}" for line in differences[:_MOST_LINES]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _shorten(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return shown + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")


def _ledger(zone: Zone, place: Place) -> list[str]:
    with open_store(zone) as client:
        rows = client.query(
            "SELECT at, state, first_offset, last_offset, spans, writer FROM ingest_ledger "
            "WHERE partition = {partition:UInt32} AND last_offset + 200 >= {offset:UInt64} "
            "AND first_offset <= {offset:UInt64} + 200 ORDER BY at, first_offset",
            parameters={"partition": place[0], "offset": place[1]},
        ).result_rows
    return [
        f"{at:%H:%M:%S.%f} {state:6} {first}-{last} ({spans} spans) by {writer}"
        for at, state, first, last, spans, writer in rows
    ]
