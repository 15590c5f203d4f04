"""Imports what a test tool wrote of a run: requests go to the zone's store and its rollup, the run gets a row.

The file is read twice: once to check and count all of it, once to insert it. An import that was cut off is
completed by repeating it: its batches carry tokens made from the content's digest, and the run's own row
comes last.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, Source, open_sources
from mobius_pipeline.imports.formats.locust_csv import (
    CsvKind,
    ReportedRun,
    complete_set,
    read_set,
)
from mobius_pipeline.imports.formats.model import Facts, Format, Request
from mobius_pipeline.imports.formats.recognise import LOCUST_CSV, recognise
from mobius_pipeline.imports.routes import Match, RouteMatcher, Rule, clean_name, load_rules
from mobius_pipeline.imports.synthetic_result import EndpointResult, SyntheticImport, Unmatched
from mobius_pipeline.imports.synthetic_store import (
    Run,
    begun_matches,
    imported_run,
    insert_requests,
    insert_run,
    likely_same_run,
    templates,
)
from mobius_pipeline.imports.tally import Latencies, Name, Tally
from mobius_pipeline.imports.zone_store import open_store
from mobius_pipeline.options import progress

__all__ = ["SyntheticImport", "import_synthetic"]

_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_SHARES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class _Read:
    """A run as its file or files say it, before any of it is stored."""

    format: str
    tool: str
    digest: str
    facts: Facts
    tally: Tally
    reader: tuple[Format, Source] | None
    reported: ReportedRun | None


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
) -> SyntheticImport:
    """Import one run of a test tool into ``zone``.

    1. Read the whole of it; nothing is stored when anything is wrong.
    2. Match names to production's endpoints.
    3. Insert requests, then the run.

    Parameters
    ----------
    paths
        The result file; or several, or any one, of Locust's CSV set. ``-`` is standard input.
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
    wanted = _Wanted(region, test, service, release, environment, run, load_rules(rules))
    for option in ("test", "service", "release", "environment", "run"):
        value = getattr(wanted, option)
        if value is not None and not _TEXT.fullmatch(value):
            raise UsageError("must be 1 to 200 printable characters", field=f"--{option}")
    with open_sources(paths) as sources, ExitStack() as stack:
        read = _read(sources, format)  # 1
        client = stack.enter_context(open_store(zone))
        known = imported_run(client, read.digest)
        result, matches = _resolve(client, zone, read, wanted, known)  # 2
        if twin := likely_same_run(client, result):
            text = f"run {twin} has the same counts at the same time: if it is this run in another format, both count"
            result = replace(result, warnings=(*result.warnings, text))
        if known is None:  # 3
            _store(client, read, result, matches, generated=generated or read.facts.generated)
    return result


# ---------------------------------------------------------------------------- 1. read


def _read(sources: Sequence[Source], wanted: str | None) -> _Read:
    first: Format | CsvKind | None = None
    csv_files: dict[CsvKind, Source] = {}
    for source in sources:
        with Content.open(source) as content:
            found = recognise(content, wanted)
        if isinstance(found, str):
            if found in csv_files:
                raise UsageError(
                    f"is a second *_{found}.csv; import one run at a time", file=source.name
                )
            csv_files[found] = source
        first = first or found
    if csv_files and len(csv_files) == len(sources):
        return _read_csv_set(complete_set(csv_files))
    if len(sources) > 1 or not isinstance(first, Format):
        raise UsageError(
            "give one result file, or the files of one Locust CSV set: a run is imported at a time",
            file=sources[1].name,
        )
    return _read_requests(first, sources[0])


def _read_requests(format_: Format, source: Source) -> _Read:
    facts, tally = Facts(), Tally()
    with (
        progress("checking", source.bytes_on_disk) as advance,
        Content.open(source, advance) as content,
    ):
        for request in format_.read(content, facts):
            tally.add(request)
        if not tally.lines:
            raise content.wrong(f"is {format_.name} and holds no requests")
        digest = content.digest()
    return _Read(format_.name, format_.tool, digest, facts, tally, (format_, source), None)


def _read_csv_set(files: Mapping[CsvKind, Source]) -> _Read:
    with ExitStack() as stack:
        contents = {kind: stack.enter_context(Content.open(files[kind])) for kind in sorted(files)}
        for kind, content in contents.items():
            if kind != recognise(content):
                raise content.wrong(f"is no *_{kind}.csv of Locust", line=1)
        reported = read_set(contents)
        digests = "".join(f"{kind} {content.digest()}\n" for kind, content in contents.items())
    facts = Facts(percentiles="as_reported", warnings=list(reported.warnings))
    tally = Tally(start_us=reported.start_us, end_us=reported.end_us)
    digest = hashlib.sha256(digests.encode()).hexdigest()
    return _Read(LOCUST_CSV, "locust", digest, facts, tally, None, reported)


# ---------------------------------------------------------------------------- 2. match


def _resolve(
    client: Client,
    zone: Zone,
    read: _Read,
    wanted: _Wanted,
    known: str | None,
) -> tuple[SyntheticImport, dict[Name, Match]]:
    facts, tally = read.facts, read.tally
    test = wanted.test or facts.test
    if test is None:
        raise UsageError("the file does not say which test it is of; name it", field="--test")
    run = known or wanted.run or facts.run or f"{read.tool}-{read.digest[:12]}"
    matcher = RouteMatcher(templates(client, wanted.service), wanted.rules)
    lines = _names(read)
    matches = {name: matcher.match(*name) for name in lines}
    if read.reader is not None:
        matches = _as_begun(matches, begun_matches(client, run))
    services = {wanted.service or match.service for match in matches.values()} - {None}
    release = wanted.release or (next(iter(facts.releases)) if len(facts.releases) == 1 else None)
    start_us = tally.start_us if facts.start_us is None else facts.start_us
    end_us = tally.end_us if facts.end_us is None else facts.end_us
    assert start_us is not None  # noqa: S101 -- a run without requests was refused above
    assert end_us is not None  # noqa: S101 -- as above
    result = SyntheticImport(
        run=run,
        test=test,
        tool=read.tool,
        format=read.format,
        zone=zone.name,
        region=wanted.region,
        service=services.pop() if len(services) == 1 else None,
        release=release,
        environment=wanted.environment,
        requests=sum(requests for requests, _ in lines.values()),
        failed=sum(failed for _, failed in lines.values()),
        start_us=start_us,
        end_us=end_us,
        percentiles=facts.percentiles,
        endpoints=_endpoints(read, matches, wanted.service),
        unmatched=_unmatched(lines, matches),
        already_imported=known is not None,
        digest=read.digest,
        warnings=tuple(facts.warnings),
    )
    return result, matches


def _names(read: _Read) -> dict[Name, tuple[int, int]]:
    """Return requests and failures by the tool's own method and name."""
    if read.reported is not None:
        return {(e.method, e.name): (e.requests, e.failed) for e in read.reported.endpoints}
    return {name: (line.requests, line.failed) for name, line in read.tally.lines.items()}


def _as_begun(matches: Mapping[Name, Match], begun: Mapping[Name, Match]) -> dict[Name, Match]:
    result = {}
    for name, match in matches.items():
        before = begun.get((match.method, clean_name(*name)[1]))
        result[name] = (
            match
            if before is None
            else Match(before.method, before.route, before.service, match.reason, match.closest)
        )
    return result


def _endpoints(
    read: _Read, matches: Mapping[Name, Match], service: str | None
) -> tuple[EndpointResult, ...]:
    if read.reported is not None:
        return tuple(
            EndpointResult(
                method=(match := matches[e.method, e.name]).method,
                route=match.route,
                name=e.name,
                service=service or match.service,
                requests=e.requests,
                failed=e.failed,
                p50_ms=e.p50_ms,
                p95_ms=e.p95_ms,
                p99_ms=e.p99_ms,
            )
            for e in read.reported.endpoints
        )
    groups: dict[tuple[str, str, str | None], list[Name]] = {}
    for name, match in matches.items():
        groups.setdefault((match.method, match.route, service or match.service), []).append(name)
    return tuple(
        _endpoint(read.tally, key, names) for key, names in sorted(groups.items(), key=repr)
    )


def _endpoint(
    tally: Tally, key: tuple[str, str, str | None], names: Sequence[Name]
) -> EndpointResult:
    lines = [tally.lines[name] for name in names]
    latencies = lines[0].latencies
    if len(lines) > 1:
        latencies = Latencies()
        for line in lines:
            latencies.update(line.latencies)
    p50, p95, p99 = (None if v is None else round(v, 4) for v in latencies.quantiles(_SHARES))
    return EndpointResult(
        method=key[0],
        route=key[1],
        name=names[0][1] if len(names) == 1 else None,
        service=key[2],
        requests=sum(line.requests for line in lines),
        failed=sum(line.failed for line in lines),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
    )


def _unmatched(
    lines: Mapping[Name, tuple[int, int]], matches: Mapping[Name, Match]
) -> tuple[Unmatched, ...]:
    counts: Counter[tuple[Any, ...]] = Counter()
    for name, match in matches.items():
        if match.reason is not None:
            text = clean_name(*name)[1]
            key = (match.method, text, match.route, match.reason, match.closest)
            counts[key] += lines[name][0]
    return tuple(
        Unmatched(method, name, route, requests, reason, closest)
        for (method, name, route, reason, closest), requests in counts.most_common()
    )


# ---------------------------------------------------------------------------- 3. store


def _store(
    client: Client,
    read: _Read,
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
    )
    if read.reader is not None:
        insert_requests(client, run, _again(*read.reader), matches)
    document = result.document()
    keys = ("percentiles", "endpoints", "unmatched", "warnings")
    summary: dict[str, Any] = {key: document[key] for key in keys}
    summary["tool_version"] = read.facts.tool_version
    if read.reported is not None:
        summary |= {"errors": read.reported.errors, "exceptions": read.reported.exceptions}
    insert_run(client, result, summary, generated=generated)


def _again(format_: Format, source: Source) -> Iterator[Request]:
    with (
        progress("importing", source.bytes_on_disk) as advance,
        Content.open(source, advance) as content,
    ):
        yield from format_.read(content, Facts())
