"""OTLP's trace messages with attributes left as encoded bytes, and only what may hold people's data described.

The wire does not tell a message from bytes, so the same message parses by either description. Attributes repeat: encoded,
one look-up in a dictionary judges a whole one, where the generated classes make four objects of it. Fields that are not
described here are kept as they are.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["RawRequest"]

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE: Final = "mobius.raw"
# Message: (field, number, type). A type that begins with a capital is one of these messages; "*" is repeated.
_MESSAGES: Final = {
    "Request": (("resource_spans", 1, "*ResourceSpans"),),
    "ResourceSpans": (("resource", 1, "Resource"), ("scope_spans", 2, "*ScopeSpans")),
    "Resource": (("attributes", 1, "*bytes"),),
    "ScopeSpans": (("scope", 1, "Scope"), ("spans", 2, "*Span")),
    "Scope": (("name", 1, "string"),),
    "Span": (
        ("trace_state", 3, "string"),
        ("name", 5, "string"),
        ("attributes", 9, "*bytes"),
        ("events", 11, "*Event"),
        ("links", 13, "*Link"),
        ("status", 15, "Status"),
    ),
    "Event": (("name", 2, "string"), ("attributes", 3, "*bytes")),
    "Link": (("trace_state", 3, "string"), ("attributes", 4, "*bytes")),
    "Status": (("message", 2, "string"),),
}
_SCALARS: Final = {"bytes": _Field.TYPE_BYTES, "string": _Field.TYPE_STRING}


def _class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="mobius_raw.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            bare = kind.lstrip("*")
            described.field.add(
                name=name,
                number=number,
                label=_Field.LABEL_REPEATED if kind != bare else _Field.LABEL_OPTIONAL,
                type=_SCALARS.get(bare, _Field.TYPE_MESSAGE),
                type_name=None if bare in _SCALARS else f".{_PACKAGE}.{bare}",
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Request"))


RawRequest: Final[Any] = _class()
