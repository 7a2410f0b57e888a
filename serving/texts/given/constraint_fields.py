"""Fields that tell what a text must match and which symbols it favours: OpenAI's and ours."""

import json
import math
from typing import Any

from serving.runtime.sampling import check_bias
from serving.texts.given.fields import Fields, Schema
from unroll.errors import InputError, shown

_BAN = "-Infinity"  # as a string, as strict JSON has no such number
_BIAS: Schema = {"anyOf": [{"type": "number"}, {"const": _BAN}]}
_BIASES: Schema = {"type": "object", "additionalProperties": _BIAS}
_FORMAT: Schema = {
    "type": "object",
    "properties": {
        "type": {"enum": ["text", "json_schema"]},
        "json_schema": {"type": "object", "properties": {"schema": {"type": "object"}}},
    },
    "required": ["type"],
}


def pattern(fields: Fields) -> str | None:
    """Read our field `pattern`; None if it is absent."""
    given = fields.text("pattern")
    return given if "pattern" in fields.values else None


def json_schema(fields: Fields) -> str:
    """Read a JSON schema out of `response_format`; empty if any text will do.

    Raises:
        InputError: it asks for something else.
    """
    wanted = fields.get("response_format", _FORMAT)
    if wanted is None or wanted == {"type": "text"}:
        return ""
    asked = wanted if isinstance(wanted, dict) else {}
    described = asked.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if asked.get("type") != "json_schema" or not isinstance(schema, dict):
        raise InputError(
            "response_format",
            f"must be of type text, or json_schema with an object json_schema.schema, got "
            f"{shown(json.dumps(wanted))}",
        )
    return json.dumps(schema, ensure_ascii=False)


def logit_bias(fields: Fields) -> dict[int, float] | None:
    """Read `logit_bias`, by token id; None if it is absent.

    Raises:
        InputError: a key is no token id, or a value no bias.
    """
    value: Any = fields.get("logit_bias", _BIASES)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InputError("logit_bias", f"must be an object, got {shown(value)}")
    return {_token(key): _bias(key, bias) for key, bias in value.items()}


def _token(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise InputError("logit_bias", f"must have token ids as keys, got {shown(key)}")
    return int(key)


def _bias(key: str, bias: Any) -> float:
    if bias == _BAN:
        return -math.inf
    if isinstance(bias, bool) or not isinstance(bias, (int, float)):
        told = f'must be a number for {key}, or "{_BAN}" to ban it, got {shown(bias)}'
        raise InputError("logit_bias", told)
    return check_bias(float(bias), f"token {key}")
