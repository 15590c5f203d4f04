"""Probes of Prometheus' blackbox_exporter: a probe's own text, raw samples of Prometheus, and a federation.

A scrape is one request of one prober, at a fixed interval. ``probe_duration_seconds`` is the whole of it. A status of 0
is no answer, and a tcp probe has none; ``probe_success`` is the judge, so a body check can fail a 200. Only raw samples
(``/api/v1/query`` of a range vector) hold each scrape once: ``query_range`` repeats and skips them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.model import Facts, Format, Request, checked, possible_time
from mobius_pipeline.imports.formats.one_url import seconds_ms
from mobius_pipeline.imports.formats.texts import decoded, json_document, wrong_document

__all__ = [
    "BLACKBOX_FEDERATE",
    "BLACKBOX_SAMPLES",
    "BLACKBOX_TEXT",
    "is_blackbox_federate",
    "is_blackbox_samples",
    "is_blackbox_text",
]

EVIDENCE: Final = "a prober asks at its interval, whether answers come or not"
_SUCCESS: Final = "probe_success"
_DURATION: Final = "probe_duration_seconds"
_STATUS: Final = "probe_http_status_code"
_REGEX: Final = "probe_failed_due_to_regex"
_METRICS: Final = frozenset({_SUCCESS, _DURATION, _STATUS, _REGEX})
_ASK: Final = 'ask Prometheus for /api/v1/query with query={__name__=~"probe_.*"}[1h], and time= the end: that has every scrape once'
_SAMPLE: Final = re.compile(r"(probe_\w+)(?:\{(.*)\})?\s+(\S+)(?:\s+(-?\d+))?\s*", re.ASCII)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"\s*,?\s*', re.ASCII)
_TEXT: Final = re.compile(rb"\s*(# (HELP|TYPE) probe_|probe_\w+[ {])")
_INSTANCE: Final = re.compile(rb'^probe_\w+\{[^\n]*\binstance="', re.MULTILINE)
_MATRIX: Final = re.compile(
    rb'\s*\{\s*"status"\s*:\s*"success"\s*,\s*"data"\s*:\s*\{\s*"resultType"\s*:[\s\S]{0,400}"__name__"\s*:\s*"probe_'
)
# A scrape of a target: what names the target, and when, in ms.
_Key = tuple[str, str, int]


def is_blackbox_text(head: bytes) -> bool:
    """Tell whether a file begins like the text of one probe."""
    return _TEXT.match(head) is not None and not _INSTANCE.search(head)


def is_blackbox_federate(head: bytes) -> bool:
    """Tell whether a file begins like a federation of probes."""
    return _TEXT.match(head) is not None and _INSTANCE.search(head) is not None


def is_blackbox_samples(head: bytes) -> bool:
    """Tell whether a file begins like an answer of Prometheus about probes."""
    return _MATRIX.match(head) is not None


# ---------------------------------------------------------------------------- one probe


def _read_text(content: Content, facts: Facts) -> Iterator[Request]:
    given = facts.given
    start, target = given.start_and_target(content, "a probe's text")
    figures: dict[str, float] = {}
    for _, line in content.lines():
        name, _, value, _ = _sample(content, decoded(content, line))
        if name in _METRICS:
            figures[name] = value
    _note(facts)
    try:
        yield _request(figures, given.method or "", given.name or target, start)
    except (KeyError, ValueError) as error:
        raise wrong_document(content, "text of a probe", error) from error


# ---------------------------------------------------------------------------- federation


def _read_federate(content: Content, facts: Facts) -> Iterator[Request]:
    scrapes: dict[_Key, dict[str, float]] = {}
    for _, line in content.lines():
        name, labels, value, time = _sample(content, decoded(content, line))
        if name not in _METRICS:
            continue
        if time is None or "instance" not in labels:
            raise content.wrong("is a sample without instance or without time, which /federate has")
        scrapes.setdefault(_key(labels, time), {})[name] = value
    facts.warnings.append(
        f"/federate holds the latest scrape of each target only ({len(scrapes):,} here); {_ASK}"
    )
    yield from _requests(content, facts, scrapes)


def _sample(content: Content, line: str) -> tuple[str, Mapping[str, str], float, int | None]:
    """Read a line of the text form: name, labels, value, time in ms; an empty name for a comment."""
    if not line.strip() or line.startswith("#"):
        return "", {}, 0.0, None
    match = _SAMPLE.fullmatch(line)
    if match is None:
        if re.match(r"[a-zA-Z_:]", line):
            return "", {}, 0.0, None  # a metric that is none of a probe's
        raise content.wrong("is no sample of a probe")
    labels = {name: re.sub(r"\\(.)", r"\1", text) for name, text in _LABEL.findall(match[2] or "")}
    try:
        return match[1], labels, float(match[3]), None if match[4] is None else int(match[4])
    except ValueError as error:
        raise content.wrong(f"is no sample of a probe ({error})") from error


# ---------------------------------------------------------------------------- Prometheus' answer


def _read_samples(content: Content, facts: Facts) -> Iterator[Request]:
    document = json_document(content)
    scrapes: dict[_Key, dict[str, float]] = {}
    try:
        data = document["data"]
        kind = data["resultType"]
        series = [
            (one["metric"], one.get("values", []))
            for one in data["result"]
            if one["metric"]["__name__"] in _METRICS
        ]
        for metric, values in series:
            for time, value in values:
                key = _key(metric, round(float(time) * 1000))
                scrapes.setdefault(key, {})[metric["__name__"]] = float(value)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise wrong_document(content, "answer of Prometheus", error) from error
    if kind != "matrix":
        raise content.wrong(
            f"is an instant query ({kind}), whose time is that of asking: {_ASK}", line=1
        )
    if missing := {_SUCCESS, _DURATION} - {metric["__name__"] for metric, _ in series}:
        raise content.wrong(f"holds no {' and no '.join(sorted(missing))}: {_ASK}", line=1)
    if _resampled(scrapes):
        raise content.wrong(
            "is a query_range: its points lie on its step, where they repeat scrapes and skip others; "
            + _ASK,
            line=1,
        )
    yield from _requests(content, facts, scrapes)


def _resampled(scrapes: Iterable[_Key]) -> bool:
    """Tell whether all points lie on one grid: Prometheus scrapes each target at its own offset."""
    by_target: dict[tuple[str, str], list[int]] = {}
    for instance, job, time in scrapes:
        by_target.setdefault((instance, job), []).append(time)
    steps = {
        later - earlier
        for times in map(sorted, by_target.values())
        for earlier, later in itertools.pairwise(times)
    }
    if not steps:
        return False
    step = min(steps)
    phases = {time % step for _, _, time in scrapes}
    return len(phases) == 1 and (len(by_target) > 1 or phases == {0})


# ---------------------------------------------------------------------------- requests


def _key(labels: Mapping[str, Any], time: int) -> _Key:
    return str(labels.get("instance", "")), str(labels.get("job", "")), time


def _requests(
    content: Content, facts: Facts, scrapes: Mapping[_Key, Mapping[str, float]]
) -> Iterator[Request]:
    _note(facts)
    method = facts.given.method or ""
    for (instance, _, time), figures in sorted(scrapes.items(), key=lambda one: one[0][::-1]):
        try:
            yield _request(figures, method, instance, possible_time(time * 1000))
        except (KeyError, ValueError) as error:
            reason = f"without {error}" if isinstance(error, KeyError) else str(error)
            raise content.wrong(
                f"the scrape of {instance[:200]} at {time} ms is none ({reason})"
            ) from error


def _note(facts: Facts) -> None:
    facts.load, facts.load_evidence = "open", EVIDENCE


def _request(figures: Mapping[str, float], method: str, name: str, start_us: int) -> Request:
    duration = seconds_ms(figures[_DURATION], _DURATION)
    good = figures[_SUCCESS] == 1
    status = int(figures.get(_STATUS, 0))
    # A tcp probe has no status; one of HTTP without an answer has status 0, and no latency of an answer.
    answered = bool(status) if _STATUS in figures else good
    error = _REGEX if figures.get(_REGEX) == 1 else ""
    return checked(
        Request(
            start_us=start_us,
            end_us=start_us + round(duration * 1000),
            duration_ms=duration if answered else None,
            method=method,
            name=name,
            status=status,
            failed=not good,
            error="" if good else error,
        )
    )


BLACKBOX_TEXT: Final = Format(
    "blackbox-text", "blackbox", _read_text, frozenset({"started", "target", "method", "name"})
)
BLACKBOX_FEDERATE: Final = Format(
    "blackbox-federate", "blackbox", _read_federate, frozenset({"method"})
)
BLACKBOX_SAMPLES: Final = Format(
    "blackbox-samples", "blackbox", _read_samples, frozenset({"method"})
)
