"""Which attributes of other sources a zone stores, for its worker, which starts often and needs nothing else of the policy."""

from __future__ import annotations

import tomllib
from os import PathLike
from pathlib import Path

from mobius_instrumentation.allowlist import AttributePolicy

__all__ = ["load_attributes"]


def load_attributes(file: str | PathLike[str], zone: str) -> AttributePolicy:
    """Return the package's own list and ``zones.<zone>.attributes`` of a file that holds the zone.

    Raises
    ------
    PolicyError
        The zone names attributes, and something in the file is wrong.
    """
    document = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    if "attributes" not in document["zones"][zone]:
        return AttributePolicy()
    # Checking the whole policy takes half of a worker's start.
    from mobius_pipeline.residency.policy import read_policy

    return AttributePolicy.with_extra(read_policy(file).zones[zone].attributes)
