"""Tables of the docs that are made from the code."""

import ast
import inspect
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

from unroll.ranges import flag, ranges_of


def settings_table(settings: type[Any]) -> str:
    """One row a setting of a dataclass: its flag, its default, its range and its docstring."""
    classes = [each for each in reversed(settings.__mro__) if is_dataclass(each)]
    told = {
        field.target.id: " ".join(text.value.value.split())
        for each in classes
        for field, text in pairwise(_body(each))
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
    ranges = ranges_of(settings)
    rows = [
        f"| `{flag(field.name)}` | {_default(field.default)} | {ranges.get(field.name, '')} "
        f"| {told[field.name]} |"
        for field in fields(settings)
    ]
    return "\n".join(["| setting | default | range | meaning |", "|---|---|---|---|", *rows])


def _body(settings: type[Any]) -> list[ast.stmt]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(tree, ast.ClassDef)
    return tree.body


def between(name: str, text: str) -> str:
    """Return what stands between two marks."""
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]


def put(name: str, table: str, text: str) -> str:
    """Replace what stands between two marks."""
    before, rest = text.split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- /{name} -->")
    return f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->{after}"


def _default(value: object) -> str:
    if value is MISSING or value is None or value in {(), ""}:
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"
