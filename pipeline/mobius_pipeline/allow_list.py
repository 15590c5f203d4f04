"""Holds spans of other sources to the zone's allow-list, as our own package does before it sends anything.

Our package says in each resource that its service's list was applied, and its spans pass untouched. What else writes to
a zone's topic (another SDK, a Collector, an imported file) is cut down here, before anything is stored: attributes of
resources, spans, events and links by name, texts by what is inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableSequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from mobius_instrumentation.allowlist import LIST_APPLIED, AttributePolicy
from mobius_instrumentation.redaction import clean_text
from mobius_instrumentation.subjects import SUBJECT
from mobius_instrumentation.wire import field, sampling_state

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

__all__ = ["AllowList", "is_ours"]

_T = TypeVar("_T", bytes, str)

_REMEMBERED: Final = 16_384
_REMEMBERED_LENGTH: Final = 256
_OWN_STATE: Final = re.compile(r"(?:^|,)\s*ot=([^,]*)")


def is_ours(resource: ResourceSpans) -> bool:
    """Whether the spans come from our own package, by their resource's word."""
    name, value = LIST_APPLIED
    return any(
        each.key == name and each.value.string_value == value
        for each in resource.resource.attributes
    )


class _Memory(dict[_T, _T]):
    """Remembers what a function made of a value, unless it says not to; emptied when it is full."""

    def __init__(self, make: Callable[[_T], tuple[_T, bool]]) -> None:
        super().__init__()
        self._make: Callable[[_T], tuple[_T, bool]] = make

    def __missing__(self, key: _T) -> _T:
        made, lasting = self._make(key)
        if lasting and len(key) <= _REMEMBERED_LENGTH:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[key] = made
        return made


class AllowList:
    """The allow-list of one zone. Not safe for several threads at once."""

    def __init__(self, policy: AttributePolicy) -> None:
        self._policy = policy
        self._pairs: _Memory[bytes] = _Memory(self._pair)
        self._refused: set[bytes] = set()
        self._names: _Memory[str] = _Memory(lambda name: (clean_text(name), True))

    def hold(self, resource: Any) -> tuple[int, int]:
        """Cut one of the ``resource_spans`` of a ``RawRequest`` down, in place.

        Returns
        -------
        tuple
            How many spans lost attributes, and how many they lost. An attribute of the resource counts once, and the
            description of a status, which repeats an exception's message, as one.
        """
        shared = self._attributes(resource.resource.attributes)
        counts: list[int] = []
        for scope in resource.scope_spans:
            scope.scope.name = self._names[scope.scope.name]
            counts += map(self._span, scope.spans)
        lacking = len(counts) if shared else len(counts) - counts.count(0)
        return lacking, shared + sum(counts)

    def _span(self, span: Any) -> int:
        removed = self._attributes(span.attributes)
        name = span.name
        if (clean := self._names[name]) != name:
            span.name = clean
        if state := span.trace_state:
            span.trace_state = _sampling_of(state)
        for event in span.events:
            removed += self._attributes(event.attributes)
            event.name = self._names[event.name]
        for link in span.links:
            removed += self._attributes(link.attributes)
            link.trace_state = _sampling_of(link.trace_state)
        if span.HasField("status"):
            removed += self._message(span.status)
        return removed

    def _attributes(self, attributes: MutableSequence[bytes]) -> int:
        """Remove what is not allowed, clean what is; return how many were removed."""
        found = attributes[:]  # quicker than list()
        kept = list(map(self._pairs.__getitem__, found))
        if kept == found:
            return 0
        del attributes[:]
        attributes.extend(filter(None, kept))
        return kept.count(b"")

    def _pair(self, encoded: bytes) -> tuple[bytes, bool]:
        """Give an encoded ``KeyValue`` as it may be stored, b"" for not at all, and whether to remember that."""
        # Tag, length (under 128) and text of the name, where it comes first: names repeat where values do not.
        name = encoded[: 2 + encoded[1]] if len(encoded) > 1 else b""
        if name in self._refused:
            return b"", False
        pair = KeyValue.FromString(encoded)
        key, kind = pair.key, pair.value.WhichOneof("value")
        if key not in self._policy.allowed:
            if name == field(1, key.encode()) and len(self._refused) < _REMEMBERED:
                self._refused.add(name)
            return b"", False
        # What comes out is written anew: two readers might understand an unusual encoding in two ways.
        pair.DiscardUnknownFields()
        kept = pair.SerializeToString() if self._value(key, pair.value) else b""
        # Measures hardly ever repeat, and there are as many pseudonyms as users: they would push out all others.
        return kept, kind != "double_value" and key != SUBJECT

    def _value(self, key: str, value: AnyValue) -> bool:
        """Clean a value; False for what nobody can look into."""
        kind = value.WhichOneof("value")
        if kind == "string_value":
            value.string_value = self._policy.clean(key, value.string_value)
        elif kind == "array_value":
            return all(self._value(key, each) for each in value.array_value.values)
        return kind not in {"bytes_value", "kvlist_value"}

    def _message(self, status: Any) -> int:
        """Clean a status' description, or remove it; return how many were removed."""
        message = status.message
        if not message:
            return 0
        status.message = clean_text(message) if self._policy.keeps_messages else ""
        return 0 if self._policy.keeps_messages else 1


def _sampling_of(state: str) -> str:
    own = _OWN_STATE.search(state)
    return sampling_state(own[1]) if own else ""
