"""Imports what a test tool wrote of a run: requests go to the zone's store and its rollup, the run gets a row.

The file is read twice: once to check and count all of it, once to insert it. An import that was cut off is
completed by repeating it: its batches carry tokens made from the content's digest, and the run's own row
comes last.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from clickhouse_connect.driver.client import Client

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import open_sources
from mobius_pipeline.imports.formats.given import METHODS, Given
from mobius_pipeline.imports.formats.model import Facts, LoadModel
from mobius_pipeline.imports.routes import Match, RouteMatcher, Rule, load_rules
from mobius_pipeline.imports.synthetic_claim import Settings, claim
from mobius_pipeline.imports.synthetic_endpoints import endpoints_of, unmatched_of
from mobius_pipeline.imports.synthetic_read import Read, read_again, read_run
from mobius_pipeline.imports.synthetic_result import Load, SyntheticImport
from mobius_pipeline.imports.synthetic_store import (
    Run,
    imported_run,
    insert_requests,
    insert_run,
    likely_same_run,
    templates,
)
from mobius_pipeline.imports.tally import Name
from mobius_pipeline.imports.zone_store import open_store

__all__ = ["SyntheticImport", "import_synthetic"]

_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_LONGEST_URL: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the caller says of the run."""

    region: str
    test: str | None
    service: str | None
    release: str | None
    environment: str | None
    run: str | None
    rules: tuple[Rule, ...]
    rules_file: str | None


def import_synthetic(
    zone: Zone,
    paths: Sequence[str | Path],
    *,
    region: str,
    test: str | None = None,
    service: str | None = None,
    release: str | None = None,
    environment: str | None = None,
    format: str | None = None,  # noqa: A002 -- the name of the option
    run: str | None = None,
    rules: Path | None = None,
    generated: bool = False,
    given: Given | None = None,
    load: str | None = None,
) -> SyntheticImport:
    """Import one run of a test tool into ``zone``.

    1. Read the whole of it; nothing is stored when anything is wrong.
    2. Match names to production's endpoints.
    3. Settle as what it is imported; another import of the same content may have done so.
    4. Insert requests, then the run.

    Parameters
    ----------
    paths
        The result file; or several, or any one, of Locust's CSV set; or ab's ``-g`` or ``-e`` file and its text.
        ``-`` is standard input.
    test, run
        Name of the test, and of this run of it; those that the file gives when left out. A run that is
        named nowhere is called after its content.
    service, release, environment
        What was tested: the matched endpoint's service, and the k6 tag ``release``, when left out.
    format
        One of :data:`~mobius_pipeline.imports.formats.recognise.FORMATS`; recognised when left out.
    rules
        TOML file that says which route a name means, see :func:`~mobius_pipeline.imports.routes.load_rules`.
    generated
        The results are made up (a demo's history), which the run's row says.
    given
        What the file does not say: when the run began, what it asked for.
    load
        How requests were sent, ``open`` or ``closed``, where the file does not tell.

    Raises
    ------
    UsageError
        The input is wrong; nothing was stored.
    DependencyError
        The store is away.
    """
    if region not in zone.regions:
        raise UsageError(
            f"zone {zone.name} has no region {region!r}; known: {', '.join(zone.regions)}",
            field="--region",
        )
    wanted = _Wanted(
        region,
        test,
        service,
        release,
        environment,
        run,
        load_rules(rules),
        None if rules is None else str(rules),
    )
    given = given or Given()
    _check_texts(wanted, given, load)
    with open_sources(paths) as sources, ExitStack() as stack:
        read = read_run(sources, format, given)  # 1
        _settle_load(read.facts, load)
        client = stack.enter_context(open_store(zone))
        known = imported_run(client, read.digest)
        result, matches = _resolve(client, zone, read, wanted, known=known)  # 2
        if known is None:
            result, matches = _claim(client, zone, read, wanted, (result, matches))  # 3
            _store(client, read, result, matches, generated=generated or read.facts.generated)  # 4
    return result


def _check_texts(wanted: _Wanted, given: Given, load: str | None) -> None:
    for option in ("test", "service", "release", "environment", "run"):
        value = getattr(wanted, option)
        if value is not None and not _TEXT.fullmatch(value):
            raise UsageError("must be 1 to 200 printable characters", field=f"--{option}")
    for option in ("url", "name", "target", "generator"):
        value = getattr(given, option)
        if value is not None and not (value.isprintable() and 0 < len(value) <= _LONGEST_URL):
            problem = f"must be 1 to {_LONGEST_URL:,} printable characters"
            raise UsageError(problem, field=f"--{option}")
    if given.method is not None and given.method.upper() not in METHODS.split("|"):
        raise UsageError(f"must be one of {METHODS.replace('|', ', ')}", field="--method")
    if load not in (None, "open", "closed"):
        raise UsageError("must be open or closed", field="--load")


def _settle_load(facts: Facts, said: str | None) -> None:
    """Take what the caller says of the load where the file does not tell, or tells it by its tool's habit only."""
    if said is None or said == facts.load:
        return
    if facts.load != "unknown" and not facts.load_may_differ:
        problem = f"the file says otherwise: {facts.load} ({facts.load_evidence}); leave --load out"
        raise UsageError(problem, field="--load")
    (facts.load,) = (model for model in get_args(LoadModel) if model == said)
    facts.load_evidence = "said by whoever imported it"


# ---------------------------------------------------------------------------- 2. match


def _resolve(
    client: Client,
    zone: Zone,
    read: Read,
    wanted: _Wanted,
    *,
    known: str | None = None,
    begun: Mapping[Name, Match] | None = None,
) -> tuple[SyntheticImport, dict[Name, Match]]:
    facts, tally = read.facts, read.tally
    test = wanted.test or facts.test
    if test is None:
        raise UsageError("the file does not say which test it is of; name it", field="--test")
    matcher = RouteMatcher(templates(client, wanted.service), wanted.rules)
    lines = read.names()
    matches = {name: matcher.match(*name) for name in lines}
    if begun:
        matches = {name: _as_begun(match, begun.get(name)) for name, match in matches.items()}
    services = {wanted.service or match.service for match in matches.values()} - {None}
    release = wanted.release or (next(iter(facts.releases)) if len(facts.releases) == 1 else None)
    start_us = tally.start_us if facts.start_us is None else facts.start_us
    end_us = tally.end_us if facts.end_us is None else facts.end_us
    assert start_us is not None  # noqa: S101 -- a run without requests was refused above
    assert end_us is not None  # noqa: S101 -- as above
    requests, failed = read.totals()
    name = known or wanted.run or facts.run or f"{read.tool}-{read.digest[:12]}"
    result = SyntheticImport(
        run=name,
        test=test,
        tool=read.tool,
        format=read.format,
        zone=zone.name,
        region=wanted.region,
        service=services.pop() if len(services) == 1 else None,
        release=release,
        environment=wanted.environment,
        requests=requests,
        failed=failed,
        start_us=start_us,
        end_us=end_us,
        percentiles=facts.percentiles,
        endpoints=endpoints_of(read, matches, wanted.service),
        unmatched=unmatched_of(lines, matches, name, wanted.rules_file),
        already_imported=known is not None,
        digest=read.digest,
        warnings=tuple(facts.warnings),
        statuses=read.statuses(),
        errors=read.errors(),
        load=Load(facts.load, facts.load_evidence, read.omission()),
    )
    if twin := likely_same_run(client, result):
        text = f"run {twin} has the same counts at the same time: if it is this run in another format, both count"
        result = dataclasses.replace(result, warnings=(*result.warnings, text))
    return result, matches


def _as_begun(match: Match, before: Match | None) -> Match:
    if before is None:
        return match
    return Match(before.method, before.route, before.service, match.reason, match.closest)


# ---------------------------------------------------------------------------- 3. settle


def _claim(
    client: Client,
    zone: Zone,
    read: Read,
    wanted: _Wanted,
    resolved: tuple[SyntheticImport, dict[Name, Match]],
) -> tuple[SyntheticImport, dict[Name, Match]]:
    """Settle as what the content is imported; as an earlier import began it, where one did."""
    result, matches = resolved
    own = Settings(
        run=result.run,
        test=result.test,
        region=result.region,
        service=wanted.service,
        release=result.release,
        environment=result.environment,
        given=read.facts.given,
        matches=matches,
    )
    begun = claim(client, result.digest, secrets.token_hex(16), own)
    if begun.given != own.given:
        options = {f"--{o}": getattr(begun.given, o) for o in sorted(begun.given.options())}
        raise UsageError(
            "an import of this content was begun with other options and is not complete; repeat it with those: "
            + (", ".join(f"{option} {value}" for option, value in options.items()) or "none")
        )
    if begun.text() == own.text():
        return resolved
    again = dataclasses.replace(
        wanted,
        **{
            k: getattr(begun, k)
            for k in ("region", "test", "service", "release", "environment", "run")
        },
    )
    result, matches = _resolve(client, zone, read, again, begun=begun.matches)
    text = f"an import of this content was begun before, as run {result.run} of test {result.test}; it was completed as that"
    return dataclasses.replace(result, warnings=(*result.warnings, text)), matches


# ---------------------------------------------------------------------------- 4. store


def _store(
    client: Client,
    read: Read,
    result: SyntheticImport,
    matches: Mapping[Name, Match],
    *,
    generated: bool,
) -> None:
    run = Run(
        run=result.run,
        digest=result.digest,
        region=result.region,
        service=result.service or "",
        release=result.release or "",
        environment=result.environment or "",
        vantage=read.facts.vantage,
    )
    if read.reader is not None:
        insert_requests(client, run, read_again(read), matches)
    document = result.document()
    keys = ("percentiles", "endpoints", "unmatched", "warnings", "load", "statuses")
    summary: dict[str, Any] = {key: document[key] for key in keys}
    summary["tool_version"] = read.facts.tool_version
    if read.reported is not None:
        summary |= {"errors": read.reported.errors, "exceptions": read.reported.exceptions}
    insert_run(client, result, summary, generated=generated)
