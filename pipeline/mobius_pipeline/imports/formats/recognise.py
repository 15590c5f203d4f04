"""Tells by its first bytes what kind of result file a file is."""

from __future__ import annotations

import re
from typing import Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.k6 import K6_CSV, K6_JSON
from mobius_pipeline.imports.formats.listener import LISTENER
from mobius_pipeline.imports.formats.locust_csv import CsvKind, kind_of
from mobius_pipeline.imports.formats.locust_json import LOCUST_JSON
from mobius_pipeline.imports.formats.model import Format

__all__ = ["FORMATS", "LOCUST_CSV", "recognise"]

LOCUST_CSV: Final = "locust-csv"
_REQUEST_FORMATS: Final = {f.name: f for f in (K6_JSON, K6_CSV, LOCUST_JSON, LISTENER)}
FORMATS: Final = (*_REQUEST_FORMATS, LOCUST_CSV)

_K6_SAMPLE: Final = re.compile(rb'\s*\{[^\n]*"type"\s*:\s*"(Metric|Point)"')
_LOCUST_LIST: Final = re.compile(rb'\s*\[\s*(\{[^{}]*"num_requests"|\]\s*$)')
_OTHERS: Final = (
    (
        re.compile(rb'\s*\{\s*"(resourceSpans|resource_spans)"'),
        "holds spans: use `mobius-rum import spans`",
    ),
    (
        re.compile(rb'\s*\{[\s\S]*"(metrics|root_group|results)"\s*:'),
        "looks like a summary of k6, which holds no requests and no times: run k6 with --out json=FILE or --out csv=FILE",
    ),
)


def recognise(content: Content, wanted: str | None = None) -> Format | CsvKind:
    """Return the format of ``content``, or which file of Locust's CSV set it is.

    Raises
    ------
    UsageError
        It is none that can be read, or not the ``wanted`` one.
    """
    if wanted is not None and wanted not in FORMATS:
        raise UsageError(f"no format {wanted!r}; known: {', '.join(FORMATS)}", field="--format")
    head = content.peek()
    found = _recognise(head)
    name = LOCUST_CSV if isinstance(found, str) else found.name if found else None
    if found is None:
        problem = next((text for sign, text in _OTHERS if sign.match(head)), None)
        known = f"is no result file that can be read; known formats: {', '.join(FORMATS)}"
        raise UsageError(problem or known, file=content.source.name, line=1)
    if wanted is not None and name != wanted:
        raise UsageError(f"is {name}, not {wanted}", file=content.source.name, field="--format")
    return found


def _recognise(head: bytes) -> Format | CsvKind | None:
    if head.lstrip().startswith(b"{") and b'"mobius_synthetic"' in head.lstrip().split(b"\n", 1)[0]:
        return LISTENER
    if _K6_SAMPLE.match(head):
        return K6_JSON
    if _LOCUST_LIST.match(head):
        return LOCUST_JSON
    if head.startswith(b"metric_name,timestamp,metric_value"):
        return K6_CSV
    return kind_of(head)
