"""JSON schemas of protobuf messages, as `google.protobuf.json_format` reads them."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

# of both alphabets, with or without padding
_B64 = "[A-Za-z0-9+/_-]"
BASE64 = rf"^(?:{_B64}{{4}})*(?:{_B64}{{2}}(?:==)?|{_B64}{{3}}=?)?$"
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def message_schemas(message: Descriptor, prefix: str) -> dict[str, Any]:
    """The schemas of a message and of all in it, by name.

    Parameters
    ----------
    message : Descriptor
        Of the outer message.
    prefix : str
        Of references to other schemas, such as ``#/components/schemas/``.
    """
    schemas = dict[str, Any]()
    pending = [message]
    while pending:
        current = pending.pop()
        if current.name not in schemas:
            schemas[current.name] = _schema(current, prefix)
            pending += [field.message_type for field in current.fields if field.message_type]
    return schemas


def _schema(message: Descriptor, prefix: str) -> dict[str, Any]:
    fields = {field.json_name: _field(field, prefix) for field in message.fields}
    if not message.oneofs:
        return {"type": "object", "properties": fields}
    assert len(message.oneofs) == 1, "a message of this protocol has one set of alternatives at most"
    names = [field.json_name for field in message.oneofs[0].fields]
    rest = {name: schema for name, schema in fields.items() if name not in names}
    others_absent = {name: dict.fromkeys((each for each in names if each != name), False) for name in names}
    one_each = [{"type": "object", "properties": {**rest, name: fields[name], **others_absent[name]}} for name in names]
    return {"anyOf": one_each}


def _field(field: FieldDescriptor, prefix: str) -> dict[str, Any]:
    value = {"$ref": prefix + field.message_type.name} if field.message_type else _scalar(field)
    schema = {"type": "array", "items": value} if field.is_repeated else value
    return {"anyOf": [schema, {"type": "null"}]}


def _scalar(field: FieldDescriptor) -> dict[str, Any]:
    if field.cpp_type in _RANGES:
        least, most = _RANGES[field.cpp_type]
        digits = {"type": "string", "pattern": f"^{'-?' if least else ''}[0-9]{{1,{len(str(most)) - 1}}}$"}
        return {"anyOf": [{"type": "integer", "minimum": least, "maximum": most}, digits]}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "pattern": BASE64}
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        # names that are not known are passed over
        return {"anyOf": [{"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}, {"type": "string"}]}
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    return {"type": "boolean" if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else "string"}
