"""A pattern or schema means the same in all the forms in which clients give it."""

import json
from typing import Any

import pytest

from serving.texts.given.fields import Fields
from serving.triton.constraint import read_constraint

SCHEMA = {"enum": ["é", 1]}
TEXT = json.dumps(SCHEMA)


@pytest.mark.parametrize(
    "values",
    [
        {"json_schema": SCHEMA},
        {"json_schema": TEXT},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": TEXT}},
        {"structured_outputs": json.dumps({"json": SCHEMA})},
        {"structured_outputs": json.dumps({"json": TEXT})},
    ],
)
def test_schema_is_an_object_or_json(values: dict[str, Any]) -> None:
    pattern, schema = read_constraint(Fields(values))
    assert pattern is None
    assert json.loads(schema) == SCHEMA


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        ({}, None),
        ({"pattern": ""}, ""),
        ({"pattern": "a+"}, "a+"),
        ({"structured_outputs": {"regex": "a+"}}, "a+"),
        ({"structured_outputs": '{"regex": "a+"}'}, "a+"),
    ],
)
def test_pattern_that_is_empty_is_not_absent(values: dict[str, Any], pattern: str | None) -> None:
    assert read_constraint(Fields(values)) == (pattern, "")
