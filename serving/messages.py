"""Protocol buffers declared in Python, for those that no package, or only a large one, has."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf import wrappers_pb2 as wrappers_pb2  # declares Int64Value and the like

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
    "double": _FIELD.TYPE_DOUBLE,
    "float": _FIELD.TYPE_FLOAT,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
}
WRAPPERS = ("BoolValue", "Int64Value", "StringValue")


def declare(
    package: str,
    messages: Mapping[str, Mapping[str, tuple[int, str]]],
    enums: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Any]:
    """Returns message classes by name, which live apart from any others of their names.

    Args:
        package: Of the messages; no part of what is sent.
        messages: By name the fields, of each the number and the kind: `int64` and the like, a
            wrapper such as `Int64Value`, the name of an enum or of another message, any of them
            after `repeated`, or after `map` for a map from strings.
        enums: By name the numbers of the values.
    """
    enums = enums or {}
    file = descriptor_pb2.FileDescriptorProto(
        name=f"hornbook/{package}.proto",
        package=package,
        dependency=["google/protobuf/wrappers.proto"],
        syntax="proto3",
    )
    for name, values in enums.items():
        # In its own message, because enums in one scope must not share names of values.
        enum = file.message_type.add(name=name).enum_type.add(name="Values")
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind, enums)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _add_field(message, name: str, number: int, kind: str, enums: Mapping[str, Any]) -> None:
    label, _, kind = kind.rpartition(" ")
    if label == "map":
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string", enums)
        _add_field(entry, "value", 2, kind, enums)
        kind = entry.name
    field = message.field.add(name=name, number=number)
    field.label = _FIELD.LABEL_REPEATED if label else _FIELD.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    elif kind in enums:
        field.type, field.type_name = _FIELD.TYPE_ENUM, f"{kind}.Values"
    else:
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".google.protobuf.{kind}" if kind in WRAPPERS else kind
