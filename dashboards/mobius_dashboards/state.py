"""What a view shows, as one frozen value that is read from the URL and written to it.

The URL is the only home of the state: a link opened in a new tab, a reload and a colleague's browser show the
same view. Whatever else stands in a URL comes from strangers, so each value is checked here, and what is wrong
is named in a sentence and left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from mobius_analysis.matching import Match
from mobius_dashboards.const import MATCHES, MAX_WINDOW, PAGES
from mobius_dashboards.viewer import Viewer, require
from mobius_instrumentation.zones import Zone, Zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import format_time, parse_time

__all__ = ["State", "Window", "link", "parse", "scope", "to_params"]

_LONGEST: Final = 512
_TRACE: Final = re.compile(r"[0-9a-f]{32}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Window:
    """Time from ``since`` up to and without ``until``, both whole minutes in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class State:
    """One view. An empty text means: not chosen, show all."""

    page: str = "overview"
    zone: str = ""
    region: str = ""
    environment: str = ""
    service: str = ""
    since: str = "24h"
    until: str = ""
    method: str = ""
    route: str = ""
    trace: str = ""
    at: str = ""
    match: str = ""

    @property
    def matched_by(self) -> Match:
        """How production's minutes are matched to the test's."""
        return "hour" if self.match == "hour" else "load" if self.match == "load" else "none"

    def window(self, now: datetime) -> Window:
        """Return the window that ``since`` and ``until`` mean at ``now``.

        Raises
        ------
        UsageError
            One of them is no time, or they do not make a window.
        """
        until = _minute(parse_time(self.until, now, field="until") if self.until else now)
        since = _minute(parse_time(self.since, now, field="since"))
        if since >= until:
            raise UsageError(
                f"the window is empty: it begins {format_time(since)} and ends {format_time(until)}",
                field="since",
            )
        if until - since > MAX_WINDOW:
            raise UsageError(
                f"the window is {(until - since).days} days long; a page shows at most {MAX_WINDOW.days}",
                field="since",
            )
        return Window(since, until)


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


_DEFAULT: Final = State()
_NAMES: Final = tuple(field.name for field in fields(State))


def parse(params: Mapping[str, str], now: datetime) -> tuple[State, tuple[str, ...]]:
    """Read a state from a URL's parameters.

    Returns
    -------
    The state, and a sentence for each value that was wrong and therefore left out. Unknown parameters are
    ignored: other tools add theirs.
    """
    problems: list[str] = []
    values: dict[str, str] = {}
    for name in _NAMES:
        value = params.get(name, "").strip()
        if problem := _problem(name, value):
            problems.append(problem)
        elif value:
            values[name] = value
    state = State(**values)
    try:
        state.window(now)
    except (UsageError, OverflowError) as error:
        problems.append(f"The link's time window was left out: {error}.")
        state = replace(state, since=_DEFAULT.since, until=_DEFAULT.until)
    return state, tuple(problems)


def _problem(name: str, value: str) -> str:
    if len(value) > _LONGEST:
        return f"The link's {name} is longer than {_LONGEST} characters and was left out."
    if _CONTROL.search(value):
        return f"The link's {name} has control characters and was left out."
    if name == "page" and value and value not in PAGES:
        return f"There is no page {value!r}; this is the overview."
    if name == "match" and value and value not in MATCHES:
        return f"There is no way to match called {value!r}; all of production is compared."
    if name == "trace" and value and not _TRACE.fullmatch(value):
        return "The link's trace is no trace id: it needs 32 hexadecimal digits."
    return ""


def to_params(state: State) -> dict[str, str]:
    """Return a state's URL parameters, without those that hold the default."""
    return {
        name: value
        for name in _NAMES
        if (value := getattr(state, name)) and value != getattr(_DEFAULT, name)
    }


def link(state: State, **changes: str) -> str:
    """Return a relative address of ``state`` with ``changes`` applied, fit for an ``href`` once escaped."""
    params = to_params(replace(state, **changes))
    # Without a parameter an empty address would keep the present ones.
    return "?" + urlencode(params or {"page": _DEFAULT.page})


def scope(state: State, zones: Zones, viewer: Viewer) -> tuple[Zone, ...]:
    """Return the zones that a view reads: the chosen one, or all that the viewer sees and the region allows.

    Raises
    ------
    ForbiddenError
        The chosen zone, or the zone of the chosen region, is none of the viewer's.
    """
    if state.zone:
        require(viewer, state.zone)
        return (zones.zones[state.zone],)
    if state.region and (owner := zones.zone_of(state.region)) is not None:
        require(viewer, owner.name)
        return (owner,)
    return tuple(zone for zone in zones if viewer.sees(zone.name))
