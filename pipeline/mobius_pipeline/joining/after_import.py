"""What an import of results does last: join the run with the spans that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobius_pipeline.imports.zone_store import open_store
from mobius_pipeline.joining.join import RunJoin, join_run, take_back
from mobius_pipeline.joining.runs import is_refused, refuse

if TYPE_CHECKING:
    from mobius_instrumentation.zones import Zone

__all__ = ["join_imported"]


def join_imported(zone: Zone, run: str, *, wanted: bool = True) -> RunJoin:
    """Join a run that was just imported, or imported before; spans that arrive later are joined by the jobs.

    Parameters
    ----------
    wanted
        False: the run's server spans stay where they are, now and later, and those that were moved go back.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused a statement.
    """
    with open_store(zone) as client:
        if not wanted:
            refuse(client, run)
            take_back(client, run)
        refused = is_refused(client, run)
        found = join_run(client, run, move=not refused)
        found.refused = refused
        return found
