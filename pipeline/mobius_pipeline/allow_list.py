"""Holds spans of other sources to the zone's allow-list, as our own package does before it sends anything.

Our package says in each resource that its service's list was applied, and its spans pass untouched. What else writes to
a zone's topic (another SDK, a Collector, an imported file) is cut down here, before anything is stored: attributes of
resources, spans, events and links by name, texts by what is inside.
"""

from __future__ import annotations

import re
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from mobius_instrumentation.allowlist import LIST_APPLIED, AttributePolicy
from mobius_instrumentation.redaction import clean_text
from mobius_instrumentation.subjects import SUBJECT
from mobius_instrumentation.wire import sampling_state

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

__all__ = ["AllowList", "is_ours"]

_REMEMBERED: Final = 16_384
_REMEMBERED_BYTES: Final = 256
_OWN_STATE: Final = re.compile(r"(?:^|,)\s*ot=([^,]*)")


def is_ours(resource: ResourceSpans) -> bool:
    """Whether the spans come from our own package, by their resource's word."""
    name, value = LIST_APPLIED
    return any(
        each.key == name and each.value.string_value == value
        for each in resource.resource.attributes
    )


class AllowList:
    """The allow-list of one zone. Not safe for several threads at once."""

    def __init__(self, policy: AttributePolicy) -> None:
        self._policy = policy
        self._pairs: dict[bytes, bytes] = {}
        self._names: dict[str, str] = {}

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
            self._rename(scope.scope)
            counts += map(self._span, scope.spans)
        lacking = len(counts) if shared else len(counts) - counts.count(0)
        return lacking, shared + sum(counts)

    def _span(self, span: Any) -> int:
        removed = self._attributes(span.attributes)
        self._rename(span)
        self._state(span)
        for event in span.events:
            removed += self._attributes(event.attributes)
            self._rename(event)
        for link in span.links:
            removed += self._attributes(link.attributes)
            self._state(link)
        return removed + self._status(span)

    def _attributes(self, attributes: MutableSequence[bytes]) -> int:
        """Remove what is not allowed, clean what is; return how many were removed."""
        known = self._pairs
        found = list(attributes)
        kept = [known[pair] if pair in known else self._pair(pair) for pair in found]
        if kept == found:
            return 0
        kept = [pair for pair in kept if pair]
        del attributes[:]
        attributes.extend(kept)
        return len(found) - len(kept)

    def _pair(self, encoded: bytes) -> bytes:
        """Give an encoded ``KeyValue`` as it may be stored, b"" for not at all."""
        pair = KeyValue.FromString(encoded)
        key, kind = pair.key, pair.value.WhichOneof("value")
        # What comes out is written anew: two readers might understand an unusual encoding in two ways.
        pair.DiscardUnknownFields()
        allowed = key in self._policy.allowed and self._value(key, pair.value)
        kept = pair.SerializeToString() if allowed else b""
        # Measures hardly ever repeat, and there are as many pseudonyms as users: they would push out all others.
        if kind != "double_value" and key != SUBJECT and len(encoded) <= _REMEMBERED_BYTES:
            if len(self._pairs) >= _REMEMBERED:
                self._pairs.clear()
            self._pairs[encoded] = kept
        return kept

    def _value(self, key: str, value: AnyValue) -> bool:
        """Clean a value; False for what nobody can look into."""
        kind = value.WhichOneof("value")
        if kind == "string_value":
            value.string_value = self._policy.clean(key, value.string_value)
        elif kind == "array_value":
            return all(self._value(key, each) for each in value.array_value.values)
        return kind not in {"bytes_value", "kvlist_value"}

    def _rename(self, named: Any) -> None:
        name = named.name
        known = self._names.get(name)
        if known is None:
            known = clean_text(name)
            if len(name) <= _REMEMBERED_BYTES:
                if len(self._names) >= _REMEMBERED:
                    self._names.clear()
                self._names[name] = known
        if known != name:
            named.name = known

    def _state(self, holder: Any) -> None:
        if state := holder.trace_state:
            own = _OWN_STATE.search(state)
            holder.trace_state = sampling_state(own[1]) if own else ""

    def _status(self, span: Any) -> int:
        """Clean the status' description, or remove it; return how many were removed."""
        if not span.HasField("status") or not (message := span.status.message):
            return 0
        span.status.message = clean_text(message) if self._policy.keeps_messages else ""
        return 0 if self._policy.keeps_messages else 1
