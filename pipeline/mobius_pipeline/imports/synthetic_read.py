"""Reads a run from its file or files, to the end, before any of it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content, Source
from mobius_pipeline.imports.formats.given import Given
from mobius_pipeline.imports.formats.locust_csv import CsvKind, complete_set, read_set
from mobius_pipeline.imports.formats.model import Facts, Format, Request
from mobius_pipeline.imports.formats.recognise import LOCUST_CSV, recognise
from mobius_pipeline.imports.formats.reported import ReportedRun, ReportFormat
from mobius_pipeline.imports.formats.texts import path_only
from mobius_pipeline.imports.omission import Omission, omission
from mobius_pipeline.imports.tally import Name, Tally
from mobius_pipeline.options import progress

__all__ = ["Read", "read_again", "read_run"]

_MOST_NAMES: Final = 100_000
_ONE_RUN: Final = (
    "give one result file, or the files of one run that belong together (Locust's CSV set, ab's -g or -e file "
    "and its printed text): a run is imported at a time"
)


@dataclass(frozen=True, slots=True)
class Read:
    """A run as its file or files say it.

    ``reader`` and ``beside`` are how to read its requests again; ``reported`` is set where it has none.
    """

    format: str
    tool: str
    digest: str
    facts: Facts
    tally: Tally
    reader: tuple[Format, Source] | None
    reported: ReportedRun | None

    def names(self) -> dict[Name, tuple[int, int]]:
        """Return requests and failures by the tool's own method and name."""
        if self.reported is not None:
            return {
                (e.method, e.name): (e.requests or 0, e.failed) for e in self.reported.endpoints
            }
        return {name: (line.requests, line.failed) for name, line in self.tally.lines.items()}

    def totals(self) -> tuple[int, int]:
        """Return requests and failures of the run."""
        counts = self.names().values()
        requests, failed = sum(n for n, _ in counts), sum(n for _, n in counts)
        if self.reported is None:
            return requests, failed
        own = self.reported.requests, self.reported.failed
        return requests if own[0] is None else own[0], failed if own[1] is None else own[1]

    def statuses(self) -> dict[str, int]:
        """Return requests by status, see :class:`~mobius_pipeline.imports.tally.Tally`."""
        counts = self.tally.statuses if self.reported is None else self.reported.statuses
        return dict(sorted(counts.items()))

    def errors(self) -> dict[str, int]:
        """Return requests by what the tool said of their failure, the most frequent first."""
        if self.reported is None:
            return dict(self.tally.errors.most_common())
        found: dict[str, int] = {}
        for error in self.reported.errors:
            text = str(error["error"])
            found[text] = found.get(text, 0) + int(error["requests"])
        return found

    def omission(self) -> Omission | None:
        """Estimate what a closed loop hid, where requests are known one by one."""
        tally, facts = self.tally, self.facts
        if self.reported is not None or facts.load != "closed" or facts.coarse_times:
            return None
        if tally.start_us is None:
            return None
        pairs = (pair for line in tally.lines.values() for pair in line.latencies.pairs())
        length = (tally.end_us or tally.start_us) - tally.start_us
        connections = facts.connections or tally.overlap.most(facts.tick_us)
        return omission(pairs, self.totals()[0], length, connections)


def read_run(sources: Sequence[Source], wanted: str | None, given: Given | None = None) -> Read:
    """Read the whole of a run.

    Raises
    ------
    UsageError
        A file is wrong, is none that can be read, or does not go with the others; or an option is missing.
    """
    given = given or Given()
    found: list[tuple[Format | ReportFormat | CsvKind, Source]] = []
    for source in sources:
        with Content.open(source) as content:
            found.append((recognise(content, wanted if len(sources) == 1 else None), source))
    kinds = [kind for kind, _ in found]
    if all(isinstance(kind, str) for kind in kinds):
        read = _read_csv_set(_csv_files(found), given)
    elif len(found) == 1:
        read = _read_one(found[0], None, given)
    else:
        read = _read_pair(found, given)
    unused = sorted(given.options() - _takes(kinds))
    if unused:
        options = ", ".join(f"--{option}" for option in unused)
        read.facts.warnings.append(f"{options} was not used: {read.format} says that itself")
    return read


def read_again(read: Read) -> Iterator[Request]:
    """Read the requests of a run once more, as they are to be stored.

    Raises
    ------
    UsageError
        The file is another one by now.
    """
    assert read.reader is not None  # noqa: S101 -- the caller asked whether there are requests
    format_, source = read.reader
    facts = Facts(given=read.facts.given, beside=read.facts.beside)
    with (
        progress("importing", source.bytes_on_disk) as advance,
        Content.open(source, advance) as content,
    ):
        yield from _named(format_.read(content, facts))


def _takes(kinds: Sequence[Format | ReportFormat | CsvKind]) -> frozenset[str]:
    return frozenset(o for kind in kinds if not isinstance(kind, str) for o in kind.takes)


def _named(requests: Iterator[Request]) -> Iterator[Request]:
    """Cut queries off names: they make each its own, and may hold what is nobody's business here."""
    for request in requests:
        name = path_only(request.name)
        yield request if name is request.name else request._replace(name=name)


# ---------------------------------------------------------------------------- one file, or two


def _read_one(
    one: tuple[Format | ReportFormat | CsvKind, Source], beside: object, given: Given
) -> Read:
    format_, source = one
    assert not isinstance(format_, str)  # noqa: S101 -- the files of Locust's set are read as a set
    facts, tally = Facts(given=given, beside=beside), Tally()
    reported: ReportedRun | None = None
    with (
        progress("checking", source.bytes_on_disk) as advance,
        Content.open(source, advance) as content,
    ):
        if isinstance(format_, ReportFormat):
            facts.percentiles = "as_reported"
            reported = format_.read(content, facts)
            facts.warnings.extend(reported.warnings)
            tally.start_us, tally.end_us = reported.start_us, reported.end_us
        else:
            _count(content, format_, facts, tally)
        digest = content.digest()
    reader = None if isinstance(format_, ReportFormat) else (format_, source)
    return Read(format_.name, format_.tool, digest, facts, tally, reader, reported)


def _count(content: Content, format_: Format, facts: Facts, tally: Tally) -> None:
    for request in _named(format_.read(content, facts)):
        tally.add(request)
        if len(tally.lines) > _MOST_NAMES:
            raise content.wrong(
                f"has over {_MOST_NAMES:,} different names: ids stand in them. Name the requests in the test "
                "(k6 tag name, JMeter label, vegeta targets by kind), or split the file"
            )
    if not tally.lines:
        raise content.wrong(f"is {format_.name} and holds no requests")


def _read_pair(
    found: Sequence[tuple[Format | ReportFormat | CsvKind, Source]], given: Given
) -> Read:
    """Read a file together with its companion, which says more of the same run."""
    refusal = UsageError(_ONE_RUN, file=found[1][1].name)
    if len(found) != 2:
        raise refusal
    for main, other in (found, found[::-1]):
        (format_, _), (kind, source) = main, other
        if isinstance(format_, str) or isinstance(kind, str) or format_.companion != kind.name:
            continue
        with Content.open(source) as content:
            companion = kind.read(content, Facts(given=given, beside=format_.name))
            if not isinstance(companion, ReportedRun):
                raise refusal
            digest = content.digest()
        read = _read_one(main, companion, given)
        both = hashlib.sha256(f"{read.digest} {digest}\n".encode()).hexdigest()
        return Read(
            read.format, read.tool, both, read.facts, read.tally, read.reader, read.reported
        )
    raise refusal


# ---------------------------------------------------------------------------- Locust's set


def _csv_files(
    found: Sequence[tuple[Format | ReportFormat | CsvKind, Source]],
) -> Mapping[CsvKind, Source]:
    files: dict[CsvKind, Source] = {}
    for kind, source in found:
        assert isinstance(kind, str)  # noqa: S101 -- the caller looked
        if kind in files:
            raise UsageError(
                f"is a second *_{kind}.csv; import one run at a time", file=source.name
            )
        files[kind] = source
    return complete_set(files)


def _read_csv_set(files: Mapping[CsvKind, Source], given: Given) -> Read:
    with ExitStack() as stack:
        contents = {kind: stack.enter_context(Content.open(files[kind])) for kind in sorted(files)}
        for kind, content in contents.items():
            if kind != recognise(content):
                raise content.wrong(f"is no *_{kind}.csv of Locust", line=1)
        reported = read_set(contents)
        digests = "".join(f"{kind} {content.digest()}\n" for kind, content in contents.items())
    facts = Facts(percentiles="as_reported", warnings=list(reported.warnings), given=given)
    facts.load, facts.load_evidence = "closed", "Locust's users wait for each answer"
    tally = Tally(start_us=reported.start_us, end_us=reported.end_us)
    digest = hashlib.sha256(digests.encode()).hexdigest()
    return Read(LOCUST_CSV, "locust", digest, facts, tally, None, reported)
