"""JSON Schemas of what travels over HTTP, made from the types and messages that the code uses."""

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from serving.texts.given.fields import Fields, Schema

_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
# Numbers of 64 bits are answered as strings, and may be sent as numbers.
_WHOLE: Schema = {"type": ["integer", "string"], "format": "int64", "pattern": "^-?[0-9]+$"}
_REAL: Schema = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_DOUBLE: _REAL,
    FieldDescriptor.TYPE_FLOAT: _REAL,
    FieldDescriptor.TYPE_INT64: _WHOLE,
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_TIME: Schema = {"type": "string", "format": "date-time"}


class Schemas:
    """Schemas by name, to which others refer.

    Attributes:
        named: those made so far.
    """

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return the schema of a type, or of a message of the proto.

        Types are those of JSON, lists, dicts by name, unions and TypedDicts.
        """
        if isinstance(kind, Descriptor):
            return self._of_message(kind)
        if kind is Any:
            return {}
        if kind in _NAMES:
            return {"type": _NAMES[kind]}
        if is_typeddict(kind):
            return self._refer(kind.__name__, lambda: self._of_typed_dict(kind))
        kinds, arguments = get_origin(kind), get_args(kind)
        if kinds in {Union, UnionType}:
            return {"anyOf": [self.of(each) for each in arguments]}
        if kinds is NotRequired:
            return self.of(*arguments)
        if kinds is list:
            return {"type": "array", "items": self.of(*arguments)}
        assert kinds is dict, kind
        return {"type": "object", "additionalProperties": self.of(arguments[1])}

    def of_request(self, name: str, read: Callable[[Fields], object]) -> Schema:
        """Return the schema of what a function reads of a request's fields."""
        fields = Fields({})
        read(fields)
        return self._refer(name, lambda: _object(fields.known))

    def _of_typed_dict(self, kind: Any) -> Schema:
        hints = get_type_hints(kind, include_extras=True)
        made = _object({name: self.of(hint) for name, hint in hints.items()})
        return made | {"required": sorted(kind.__required_keys__)}

    def _of_message(self, message: Descriptor) -> Schema:
        if message.full_name == "google.protobuf.Timestamp":
            return _TIME
        return self._refer(
            message.full_name,
            lambda: _object({field.json_name: self._of_field(field) for field in message.fields}),
        )

    def _of_field(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            made = self._of_message(field.message_type)
        elif field.enum_type is not None:
            made = self._of_enum(field.enum_type)
        else:
            made = _SCALARS[field.type]
        return {"type": "array", "items": made} if field.is_repeated else made

    def _of_enum(self, enum: EnumDescriptor) -> Schema:
        return self._refer(
            enum.full_name,
            lambda: {"enum": [each.name for each in enum.values]},
        )

    def _refer(self, name: str, make: Callable[[], Schema]) -> Schema:
        if name not in self.named:
            self.named[name] = {}  # a message may hold others of its kind
            self.named[name] = make()
        return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}
