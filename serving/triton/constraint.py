"""What a text must match, in our fields and in vLLM's."""

import json
from typing import Any

from serving.texts.given import constraint_fields
from serving.texts.given.fields import Fields, Schema, read_object
from unroll.errors import InputError, shown

_OBJECT_OR_TEXT: Schema = {"type": ["object", "string"]}


def read_constraint(fields: Fields) -> tuple[str | None, str]:
    """Read the pattern and the JSON schema of a request; None and empty where there is none.

    vLLM has both in `structured_outputs`, as `regex` and `json`. An object may be given as JSON.

    Raises:
        InputError: a field is of the wrong kind, or there are several.
    """
    pattern = constraint_fields.pattern(fields)
    schema = _object(fields, "json_schema")
    structured = _object(fields, "structured_outputs")
    if structured is None:
        return pattern, "" if schema is None else json.dumps(schema, ensure_ascii=False)
    if pattern is not None or schema is not None:
        raise InputError("structured_outputs", "is given beside pattern or json_schema; give one")
    match structured:
        case {"regex": str(regex), **rest} if not rest:
            return regex, ""
        case {"json": dict() | str() as described, **rest} if not rest:
            found = _read("structured_outputs", described)
            return None, json.dumps(found, ensure_ascii=False)
    raise InputError(
        "structured_outputs",
        f'must be {{"regex": a text}} or {{"json": a schema}}, got {shown(structured)}',
    )


def _object(fields: Fields, name: str) -> dict[str, Any] | None:
    value = fields.get(name, _OBJECT_OR_TEXT)
    return None if value is None else _read(name, value)


def _read(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, str):
        return read_object(name, value)
    if not isinstance(value, dict):
        raise InputError(name, f"must be a JSON object, got {shown(value)}")
    return value
