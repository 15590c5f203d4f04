"""OTLP traces in their JSON form, made into protobuf messages.

The form is that of the OpenTelemetry protocol specification, "JSON Protobuf Encoding": ids are
hexadecimal (protobuf's own JSON mapping would read them as base64), 64-bit numbers are strings or
numbers, enumerations are numbers (their names are accepted), unknown fields are ignored, names are
camelCase (snake_case is accepted).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

__all__ = ["FormError", "resource_spans_of", "to_resource_spans"]

_KINDS: Final = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    )
}
_CODES: Final = {
    f"STATUS_CODE_{name}": number for number, name in enumerate(("UNSET", "OK", "ERROR"))
}
_OTHER_SIGNALS: Final = {
    "resourceLogs": "logs",
    "resource_logs": "logs",
    "resourceMetrics": "metrics",
    "resource_metrics": "metrics",
    "resourceProfiles": "profiles",
    "resource_profiles": "profiles",
}
_DEEPEST_VALUE: Final = 32


class FormError(ValueError):
    """A document is JSON but not OTLP traces; the text says what is wrong with which field."""


def resource_spans_of(document: object) -> list[Any]:
    """Return the ``resourceSpans`` of one ``ExportTraceServiceRequest``; see :func:`to_resource_spans`.

    Raises
    ------
    FormError
        The document is something else; says what.
    """
    if not isinstance(document, dict):
        raise FormError(f"holds {_kind(document)} where an OTLP export request (an object) belongs")
    items = _get(document, "resourceSpans", "resource_spans")
    if items is not None:
        return _list(items, "resourceSpans")
    for key, signal in _OTHER_SIGNALS.items():
        if key in document:
            raise FormError(f"holds OTLP {signal}, not traces")
    if document:
        seen = ", ".join(list(document)[:5])
        raise FormError(f"has no resourceSpans, so it is no OTLP trace export (its fields: {seen})")
    return []


def to_resource_spans(item: object) -> ResourceSpans:
    """Convert one element of ``resourceSpans``.

    Raises
    ------
    FormError
        A field has a value of the wrong kind; names it.
    """
    source = _object(item, "resourceSpans")
    resource = _object(_get(source, "resource") or {}, "resource")
    return ResourceSpans(
        resource=Resource(
            attributes=_attributes(resource),
            dropped_attributes_count=_uint32(
                resource, "droppedAttributesCount", "dropped_attributes_count"
            ),
        ),
        scope_spans=[
            _scope_spans(scope)
            for scope in _list(_get(source, "scopeSpans", "scope_spans") or [], "scopeSpans")
        ],
        schema_url=_text(source, "schemaUrl", "schema_url"),
    )


def _scope_spans(item: object) -> ScopeSpans:
    source = _object(item, "scopeSpans")
    scope = _object(_get(source, "scope") or {}, "scope")
    return ScopeSpans(
        scope=InstrumentationScope(
            name=_text(scope, "name"),
            version=_text(scope, "version"),
            attributes=_attributes(scope),
            dropped_attributes_count=_uint32(
                scope, "droppedAttributesCount", "dropped_attributes_count"
            ),
        ),
        spans=[_span(span) for span in _list(source.get("spans") or [], "spans")],
        schema_url=_text(source, "schemaUrl", "schema_url"),
    )


def _span(item: object) -> Span:
    source = _object(item, "spans")
    status = source.get("status")
    return Span(
        trace_id=_hex(source, "traceId", "trace_id"),
        span_id=_hex(source, "spanId", "span_id"),
        trace_state=_text(source, "traceState", "trace_state"),
        parent_span_id=_hex(source, "parentSpanId", "parent_span_id"),
        flags=_uint32(source, "flags", "flags"),
        name=_text(source, "name"),
        kind=_enum(source, "kind", _KINDS),
        start_time_unix_nano=_time(source, "startTimeUnixNano", "start_time_unix_nano"),
        end_time_unix_nano=_time(source, "endTimeUnixNano", "end_time_unix_nano"),
        attributes=_attributes(source),
        dropped_attributes_count=_uint32(
            source, "droppedAttributesCount", "dropped_attributes_count"
        ),
        events=[_event(event) for event in _list(source.get("events") or [], "events")],
        dropped_events_count=_uint32(source, "droppedEventsCount", "dropped_events_count"),
        links=[_link(link) for link in _list(source.get("links") or [], "links")],
        dropped_links_count=_uint32(source, "droppedLinksCount", "dropped_links_count"),
        status=None if status is None else _status(status),
    )


def _event(item: object) -> Span.Event:
    source = _object(item, "events")
    return Span.Event(
        time_unix_nano=_time(source, "timeUnixNano", "time_unix_nano"),
        name=_text(source, "name"),
        attributes=_attributes(source),
        dropped_attributes_count=_uint32(
            source, "droppedAttributesCount", "dropped_attributes_count"
        ),
    )


def _link(item: object) -> Span.Link:
    source = _object(item, "links")
    return Span.Link(
        trace_id=_hex(source, "traceId", "trace_id"),
        span_id=_hex(source, "spanId", "span_id"),
        trace_state=_text(source, "traceState", "trace_state"),
        attributes=_attributes(source),
        dropped_attributes_count=_uint32(
            source, "droppedAttributesCount", "dropped_attributes_count"
        ),
        flags=_uint32(source, "flags", "flags"),
    )


def _status(item: object) -> Status:
    source = _object(item, "status")
    return Status(message=_text(source, "message"), code=_enum(source, "code", _CODES))


# ---------------------------------------------------------------------------- attributes


def _attributes(source: Mapping[str, Any]) -> list[KeyValue]:
    return _key_values(source.get("attributes") or [], "attributes")


def _key_values(items: object, field: str, depth: int = 0) -> list[KeyValue]:
    result = []
    for item in _list(items, field):
        pair = _object(item, field)
        key = pair.get("key", "")
        value = pair.get("value")
        if not isinstance(key, str):
            raise FormError(f"{field}: a key is {_kind(key)} where text belongs")
        if isinstance(value, dict) and len(value) == 1:
            ((kind, content),) = value.items()
            # Most attributes of a file repeat: the same key with the same text, so they are made once.
            if (
                kind in {"stringValue", "string_value"}
                and type(content) is str
                and len(content) < 200
            ):
                result.append(_text_attribute(key, content))
                continue
        result.append(KeyValue(key=_utf8(key, field), value=_any_value(value, key, depth)))
    return result


@lru_cache(maxsize=1 << 14)
def _text_attribute(key: str, text: str) -> KeyValue:
    return KeyValue(key=_utf8(key, "attributes"), value=AnyValue(string_value=_utf8(text, key)))


def _any_value(value: object, key: str, depth: int) -> AnyValue | None:
    if value is None:
        return None
    if depth > _DEEPEST_VALUE:
        raise FormError(f"attribute {key!r} is nested more than {_DEEPEST_VALUE} deep")
    for kind, content in _object(value, f"attribute {key!r}").items():
        if content is not None and (make := _VALUES.get(kind)) is not None:
            try:
                return make(content, key, depth)
            except FormError:
                raise
            except (TypeError, ValueError, OverflowError) as error:
                raise FormError(
                    f"attribute {key!r}: {kind} cannot hold {_short(content)}"
                ) from error
    return AnyValue()


def _bool(content: Any, key: str, _depth: int) -> AnyValue:
    if not isinstance(content, bool):
        raise FormError(f"attribute {key!r}: boolValue holds {_kind(content)}")
    return AnyValue(bool_value=content)


def _bytes(content: Any, key: str, _depth: int) -> AnyValue:
    try:
        padded = content.replace("-", "+").replace("_", "/").rstrip("=")
        return AnyValue(
            bytes_value=base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        )
    except (AttributeError, binascii.Error, ValueError) as error:
        raise FormError(f"attribute {key!r}: bytesValue is not base64") from error


def _array(content: Any, key: str, depth: int) -> AnyValue:
    items = _list(_object(content, key).get("values") or [], key)
    return AnyValue(
        array_value=ArrayValue(values=[_any_value(v, key, depth + 1) or AnyValue() for v in items])
    )


def _map(content: Any, key: str, depth: int) -> AnyValue:
    values = _object(content, key).get("values") or []
    return AnyValue(kvlist_value=KeyValueList(values=_key_values(values, key, depth + 1)))


_Maker = Callable[[Any, str, int], AnyValue]


def _string(content: Any, key: str, _depth: int) -> AnyValue:
    return AnyValue(string_value=_utf8(content, key))


def _int(content: Any, key: str, _depth: int) -> AnyValue:
    return AnyValue(int_value=_integer(content, key))


def _double(content: Any, _key: str, _depth: int) -> AnyValue:
    return AnyValue(double_value=float(content))


_VALUES: Final[dict[str, Callable[[Any, str, int], AnyValue]]] = {
    "stringValue": _string,
    "string_value": _string,
    "boolValue": _bool,
    "bool_value": _bool,
    "intValue": _int,
    "int_value": _int,
    "doubleValue": _double,
    "double_value": _double,
    "bytesValue": _bytes,
    "bytes_value": _bytes,
    "arrayValue": _array,
    "array_value": _array,
    "kvlistValue": _map,
    "kvlist_value": _map,
}


# ---------------------------------------------------------------------------- single fields


def _get(source: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if (value := source.get(name)) is not None:
            return value
    return None


def _text(source: Mapping[str, Any], *names: str) -> str:
    value = _get(source, *names)
    return "" if value is None else _utf8(value, names[0])


def _utf8(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise FormError(f"{field} holds {_kind(value)} where text belongs")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise FormError(f"{field} holds half of a surrogate pair, which is no text") from error
    return value


def _hex(source: Mapping[str, Any], *names: str) -> bytes:
    value = _get(source, *names)
    if value is None:
        return b""
    try:
        # fromhex skips blanks; an id with blanks in it is no id.
        if " " not in value:
            return bytes.fromhex(value)
    except (TypeError, ValueError):
        pass
    raise FormError(f"{names[0]} is not hexadecimal: {_short(value)}")


def _integer(value: object, field: str) -> int:
    if isinstance(value, str) and value.strip() == value and value.isascii():
        try:
            return int(value)
        except ValueError:
            pass
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    elif isinstance(value, float) and value.is_integer():
        return int(value)
    raise FormError(f"{field} is no whole number: {_short(value)}")


def _time(source: Mapping[str, Any], *names: str) -> int:
    value = _get(source, *names)
    number = 0 if value is None else _integer(value, names[0])
    if not 0 <= number < 1 << 64:
        raise FormError(f"{names[0]} is outside 64 bits: {number}")
    return number


def _uint32(source: Mapping[str, Any], *names: str) -> int:
    value = _get(source, *names)
    number = 0 if value is None else _integer(value, names[0])
    if not 0 <= number < 1 << 32:
        raise FormError(f"{names[0]} is outside 32 bits: {number}")
    return number


def _enum(source: Mapping[str, Any], name: str, names: Mapping[str, int]) -> Any:
    value = source.get(name)
    if value is None:
        return 0
    number = names.get(value) if isinstance(value, str) else value
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(names):
        return number
    raise FormError(f"{name} is none of {', '.join(names)}: {_short(value)}")


def _object(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormError(f"{field} holds {_kind(value)} where an object belongs")
    return value


def _list(value: object, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise FormError(f"{field} holds {_kind(value)} where a list belongs")
    return value


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
