"""Tells by its first bytes what kind of result file a file is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.ab import (
    AB_GNUPLOT,
    AB_PERCENTILES,
    AB_TEXT,
    is_ab_gnuplot,
    is_ab_percentiles,
    is_ab_text,
)
from mobius_pipeline.imports.formats.artillery import ARTILLERY, is_artillery
from mobius_pipeline.imports.formats.autocannon import AUTOCANNON, is_autocannon
from mobius_pipeline.imports.formats.blackbox import (
    BLACKBOX_FEDERATE,
    BLACKBOX_SAMPLES,
    BLACKBOX_TEXT,
    is_blackbox_federate,
    is_blackbox_samples,
    is_blackbox_text,
)
from mobius_pipeline.imports.formats.gatling_binary import GATLING_BINARY, is_gatling_binary
from mobius_pipeline.imports.formats.gatling_stats import GATLING_STATS, is_gatling_stats
from mobius_pipeline.imports.formats.gatling_text import GATLING_TEXT, is_gatling_text
from mobius_pipeline.imports.formats.h2load import H2LOAD_LOG, is_h2load_log
from mobius_pipeline.imports.formats.hey import HEY_CSV, HEY_TEXT, is_hey_csv, is_hey_text
from mobius_pipeline.imports.formats.jmeter_csv import JMETER_CSV, is_jmeter_csv
from mobius_pipeline.imports.formats.jmeter_xml import JMETER_XML, is_jmeter_xml
from mobius_pipeline.imports.formats.k6 import K6_CSV, K6_JSON
from mobius_pipeline.imports.formats.k6_summary import K6_SUMMARY, is_k6_summary
from mobius_pipeline.imports.formats.listener import LISTENER
from mobius_pipeline.imports.formats.locust_csv import CsvKind, kind_of
from mobius_pipeline.imports.formats.locust_json import LOCUST_JSON
from mobius_pipeline.imports.formats.model import Format
from mobius_pipeline.imports.formats.oha import OHA_CSV, OHA_JSON, is_oha_csv, is_oha_json
from mobius_pipeline.imports.formats.otlp_spans import OTLP_SPANS, is_otlp_spans
from mobius_pipeline.imports.formats.plain import (
    PLAIN_CSV,
    PLAIN_JSON,
    is_plain_csv,
    is_plain_json,
)
from mobius_pipeline.imports.formats.reported import ReportFormat
from mobius_pipeline.imports.formats.vegeta import (
    VEGETA_CSV,
    VEGETA_JSON,
    is_vegeta_csv,
    is_vegeta_json,
)
from mobius_pipeline.imports.formats.vegeta_gob import VEGETA_GOB, is_vegeta_gob
from mobius_pipeline.imports.formats.vegeta_report import VEGETA_REPORT, is_vegeta_report
from mobius_pipeline.imports.formats.wrk import WRK_TEXT, is_wrk_text

__all__ = ["FORMATS", "LOCUST_CSV", "recognise"]

_K6_SAMPLE: Final = re.compile(rb'\s*\{[^\n]*"type"\s*:\s*"(Metric|Point)"')
_LOCUST_LIST: Final = re.compile(rb'\s*\[\s*(\{[^{}]*"num_requests"|\]\s*$)')


def _is_k6_json(head: bytes) -> bool:
    return _K6_SAMPLE.match(head) is not None and not _is_listener(head)


def _is_k6_csv(head: bytes) -> bool:
    return head.startswith(b"metric_name,timestamp,metric_value")


def _is_locust_json(head: bytes) -> bool:
    return _LOCUST_LIST.match(head) is not None


def _is_listener(head: bytes) -> bool:
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and b'"mobius_synthetic"' in first


_SIGNS: Final[tuple[tuple[Format | ReportFormat, Callable[[bytes], bool]], ...]] = (
    (K6_JSON, _is_k6_json),
    (K6_CSV, _is_k6_csv),
    (LOCUST_JSON, _is_locust_json),
    (LISTENER, _is_listener),
    (JMETER_CSV, is_jmeter_csv),
    (JMETER_XML, is_jmeter_xml),
    (VEGETA_JSON, is_vegeta_json),
    (VEGETA_CSV, is_vegeta_csv),
    (VEGETA_GOB, is_vegeta_gob),
    (GATLING_TEXT, is_gatling_text),
    (GATLING_BINARY, is_gatling_binary),
    (GATLING_STATS, is_gatling_stats),
    (H2LOAD_LOG, is_h2load_log),
    (HEY_CSV, is_hey_csv),
    (HEY_TEXT, is_hey_text),
    (AB_GNUPLOT, is_ab_gnuplot),
    (AB_PERCENTILES, is_ab_percentiles),
    (AB_TEXT, is_ab_text),
    (BLACKBOX_TEXT, is_blackbox_text),
    (BLACKBOX_SAMPLES, is_blackbox_samples),
    (BLACKBOX_FEDERATE, is_blackbox_federate),
    (ARTILLERY, is_artillery),
    (AUTOCANNON, is_autocannon),
    (WRK_TEXT, is_wrk_text),
    (OHA_JSON, is_oha_json),
    (OHA_CSV, is_oha_csv),
    (K6_SUMMARY, is_k6_summary),
    (VEGETA_REPORT, is_vegeta_report),
    (PLAIN_CSV, is_plain_csv),
    (PLAIN_JSON, is_plain_json),
    (OTLP_SPANS, is_otlp_spans),
)
LOCUST_CSV: Final = "locust-csv"
FORMATS: Final = (*(known.name for known, _ in _SIGNS), LOCUST_CSV)

# What is no result of requests, and what to take in its place.
_OTHERS: Final = (
    (
        re.compile(rb"starting benchmark\.\.\."),
        "is what h2load prints, which has no percentiles: run h2load with --log-file",
    ),
    (
        re.compile(rb'\s*\{\s*"name"\s*:\s*"All Requests"|\s*(var |<!DOCTYPE html)'),
        "holds totals of a run, not of its requests: of Gatling, give simulation.log or stats.json",
    ),
    (
        re.compile(rb"\s*(Requests\s+\[total, rate|Bucket\s+#|Value\(ms\)\s+Percentile)"),
        "is a report of vegeta for people: give its results (vegeta encode), or `vegeta report -type=json`",
    ),
)
_KNOWN: Final = (
    f"known formats: {', '.join(FORMATS)}. From any other tool, write one request a line as CSV with a header or as "
    "JSON, with start, duration_ms, method, name and status (plain-csv, plain-json): see docs/importing.md"
)


def recognise(content: Content, wanted: str | None = None) -> Format | ReportFormat | CsvKind:
    """Return the format of ``content``, or which file of Locust's CSV set it is.

    Raises
    ------
    UsageError
        It is none that can be read, not the ``wanted`` one, or could be several.
    """
    if wanted is not None and wanted not in FORMATS:
        raise UsageError(f"no format {wanted!r}; known: {', '.join(FORMATS)}", field="--format")
    file = content.source.name
    try:
        head = content.peek()
    except UsageError as error:
        if error.problem != "is empty":
            raise
        raise UsageError(
            "is empty: nothing was written (h2load's log is when it could make no connection), so there is no run",
            file=file,
        ) from error
    fitting: dict[str, Format | ReportFormat | CsvKind] = {
        known.name: known for known, sign in _SIGNS if sign(head)
    }
    if kind := kind_of(head):
        fitting[LOCUST_CSV] = kind
    if not fitting:
        problem = next((text for sign, text in _OTHERS if sign.match(head)), None)
        raise UsageError(
            problem or f"is no result file that can be read; {_KNOWN}", file=file, line=1
        )
    if wanted is not None:
        if wanted not in fitting:
            raise UsageError(
                f"is {' or '.join(fitting)}, not {wanted}", file=file, field="--format"
            )
        return fitting[wanted]
    if len(fitting) > 1:
        raise UsageError(
            f"could be {' or '.join(fitting)}: say which it is", file=file, field="--format"
        )
    return next(iter(fitting.values()))
