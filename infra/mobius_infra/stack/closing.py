"""The end of a run that was asked for a report: everything stored, counted, judged."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from mobius_infra.stack.accounts import (
    SpanAccount,
    count_runs,
    open_findings,
    produced_spans,
    span_account,
)
from mobius_infra.stack.probes import http_status
from mobius_infra.stack.supervisor import Interrupted
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.status import lag, span_identity, status_document

if TYPE_CHECKING:
    from mobius_infra.stack.session import Session

__all__ = ["close_accounts", "drained"]

# Workers read ten times faster than the demo produces; what takes longer than this is stuck.
_DRAIN_SECONDS: Final = 60.0
_CELL_KEYS: Final = ("zone", "region", "service", "method", "route", "verdict")


def drained(session: Session) -> bool:
    """Wait until the workers have stored what the broker holds; False when they do not get there."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < deadline:
        try:
            session.look_after()
            if not any(lag(zone) for zone in session.zones) and not _missing(session):
                return True
        except DependencyError:
            pass  # a store that died is being started again
        except Interrupted:
            return False
        time.sleep(0.2)
    return False


def close_accounts(session: Session, live_seconds: float) -> dict[str, Any]:
    """Count, correlate once more, and make the document of ``up --for SECONDS --json``.

    Raises
    ------
    TerminalError
        A command that it needs ended badly.
    """
    port = session.options.dashboard_port
    answered = http_status(port, "/", seconds=10) == 200
    status = status_document(session.zones)["zones"]
    correlation = session.ask("correlate", "--since", f"{_hours(session):g}h")
    cells = correlation["cells"]
    findings = [finding for zone in session.zones for finding in open_findings(zone)]
    return {
        "seconds": round(live_seconds, 1),
        "starting_seconds": round(session.starting_seconds, 1),
        "zones": {
            zone.name: {
                "spans": account.document(),
                "dead_letters": status[zone.name]["dead_letters"],
                "quarantined": status[zone.name]["quarantined"],
            }
            for zone, account in _accounts(session)
        },
        "synthetic_runs": sum(count_runs(zone) for zone in session.zones),
        "verdicts": _count(cell["verdict"] for cell in cells),
        "findings": len(findings),
        "dashboard": {"url": session.options.dashboard_url, "answered": answered},
        "cells": [{key: cell[key] for key in _CELL_KEYS} for cell in cells],
        "findings_by_kind": _count(finding["kind"] for finding in findings),
        "open_findings": findings,
        "restarts": session.supervisor.restarts,
    }


def _hours(session: Session) -> float:
    """Stretch to correlate: the history and what was lived since, in whole hours."""
    return max(24.0, math.ceil(session.options.history_hours))


def _accounts(session: Session) -> Iterator[tuple[Zone, SpanAccount]]:
    for zone in session.zones:
        produced = produced_spans(session.folder.stats / zone.name) + session.history_spans.get(
            zone.name, 0
        )
        yield zone, span_account(produced, session.baseline[zone.name], span_identity(zone))


def _missing(session: Session) -> bool:
    return any(account.lost > 0 for _, account in _accounts(session))


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
