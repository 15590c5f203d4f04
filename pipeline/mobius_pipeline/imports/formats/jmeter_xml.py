"""JMeter's XML form of a JTL: samples nest as they happened.

Read as a stream of events: only the samples that are open at the moment are kept. The trace id of an exchange is that
of the traceparent in its request header; a variable's is dropped where several exchanges carry it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.jmeter import Sample, note_load, to_request
from mobius_pipeline.imports.formats.model import Facts, Format, Request
from mobius_pipeline.imports.formats.shared_ids import drop_shared_ids
from mobius_pipeline.imports.formats.texts import trace_id_of

__all__ = ["JMETER_XML", "is_jmeter_xml"]

_BEGIN: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(<\?xml[^>]*\?>\s*)?(<!--.*?-->\s*)*<testResults[\s>]", re.DOTALL
)
_STEP: Final = 1 << 16
_LONGEST_TEXT: Final = 1 << 16
_DEEPEST: Final = 100
_MOST_PARTS: Final = 10_000
_HEADER: Final = re.compile(r"^traceparent\s*:\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_TRACE_VARIABLES: Final = ("traceparent", "trace__id", "traceid", "trace_id")
_TEXTS: Final = frozenset({"requestHeader", "failureMessage", "method", "failure", "error"})


@dataclass(slots=True)
class _Frame:
    """A sample that is open: its attributes, what stands in it, and the requests inside it."""

    line: int
    attributes: dict[str, str]
    is_http: bool
    texts: dict[str, str] = field(default_factory=dict)
    inside: list[Request] = field(default_factory=list)


def is_jmeter_xml(head: bytes) -> bool:
    """Tell whether a file begins like JMeter's XML."""
    return _BEGIN.match(head) is not None


class _Events:
    """Takes the parser's events; ``ready`` fills with requests that are complete."""

    def __init__(self, content: Content, parser: expat.XMLParserType) -> None:
        self._content = content
        self._parser = parser
        self._open: list[_Frame] = []
        self._text: list[str] | None = None
        self._room = 0
        self.ready: list[Request] = []
        self.parents = self.others = self.threads = 0
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._entity

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in {"sample", "httpSample"}:
            if len(self._open) >= _DEEPEST:
                raise self._wrong(f"is a sample inside {_DEEPEST} others")
            line = self._parser.CurrentLineNumber
            self._open.append(_Frame(line, attributes, tag == "httpSample"))
        elif tag in _TEXTS and self._open:
            self._text, self._room = [], _LONGEST_TEXT

    def _characters(self, data: str) -> None:
        if self._text is not None and self._room > 0:
            self._text.append(data[: self._room])
            self._room -= len(data)

    def _end(self, tag: str) -> None:
        if self._text is not None and tag in _TEXTS:
            text, self._text = "".join(self._text), None
            texts = self._open[-1].texts
            # Of several assertions the first that failed says why.
            if tag != "failureMessage" or not texts.get(tag):
                texts[tag] = text
        elif tag in {"sample", "httpSample"}:
            self._close(self._open.pop())

    def _close(self, frame: _Frame) -> None:
        count = frame.attributes.get("na", "")
        if count.isdecimal() and len(count) < 8:
            self.threads = max(self.threads, int(count))
        above = self._open[-1] if self._open and self._open[-1].is_http else None
        target = self.ready if above is None else above.inside
        if not frame.is_http:
            self.others += 1
            target.extend(frame.inside)
        elif frame.inside:
            self.parents += 1
            target.extend(self._settled(frame))
        else:
            target.append(self._request(frame))
        if above is not None and len(above.inside) > _MOST_PARTS:
            raise self._wrong(f"is the end of a sample that holds over {_MOST_PARTS:,} requests")

    def _settled(self, frame: _Frame) -> list[Request]:
        """The last hop fails where the whole did and none of its hops."""
        if frame.attributes.get("s") == "true" or any(r.failed for r in frame.inside):
            return frame.inside
        last = frame.inside[-1]
        error = last.error or frame.texts.get("failureMessage", "")
        return [*frame.inside[:-1], last._replace(failed=True, error=error)]

    def _request(self, frame: _Frame) -> Request:
        found = _HEADER.search(frame.texts.get("requestHeader", ""))
        variable = next(
            (frame.attributes[name] for name in _TRACE_VARIABLES if name in frame.attributes), ""
        )
        trace_id = trace_id_of(found[1] if found else variable)
        sample = Sample(
            started=frame.attributes.get("ts", ""),
            elapsed=frame.attributes.get("t", ""),
            label=frame.attributes.get("lb", ""),
            code=frame.attributes.get("rc", ""),
            success=frame.attributes.get("s", ""),
            failure=frame.texts.get("failureMessage", ""),
            trace_id=trace_id,
            method=frame.texts.get("method", ""),
        )
        try:
            return to_request(sample)
        except ValueError as error:
            raise self._content.wrong(
                f"is no sample of JMeter's XML ({error})", line=frame.line
            ) from error

    def _entity(self, *_: object) -> None:
        raise self._wrong("declares an entity, which no result file of JMeter does")

    def _wrong(self, problem: str) -> Exception:
        return self._content.wrong(problem, line=self._parser.CurrentLineNumber)


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    yield from drop_shared_ids(_exchanges(content, facts), facts)


def _exchanges(content: Content, facts: Facts) -> Iterator[Request]:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    events = _Events(content, parser)
    while True:
        data = content.read(_STEP)
        try:
            parser.Parse(data, not data)
        except expat.ExpatError as error:
            problem = expat.ErrorString(error.code)
            hint = "; get the whole file" if not data else ""
            raise content.wrong(f"is not XML ({problem}{hint})", line=error.lineno) from error
        yield from events.ready
        events.ready.clear()
        if not data:
            break
    note_load(facts, events.threads)
    if events.parents or events.others:
        facts.warnings.append(
            f"{events.others:,} transactions or samples without HTTP and {events.parents:,} samples that hold others "
            "(redirects, embedded resources) are no requests and were left out; what they hold was taken"
        )


JMETER_XML: Final = Format("jmeter-xml", "jmeter", _read)
