"""Tables of the docs that are made from the code."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

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


def fields_table(options: type[Any], like: type[Any]) -> str:
    """One row a field of a dataclass whose docstring has a section of attributes.

    Args:
        options: the dataclass.
        like: another, whose attributes say what those of the first do not.
    """
    told = _attributes(like) | _attributes(options)
    kinds = get_type_hints(options)
    rows = [
        f"| `{each.name}` | {_kind(kinds[each.name])} | {_default(each.default, str)} "
        f"| {told[each.name]} |"
        for each in fields(options)
    ]
    return "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows])


def members_table(terms: type[Enum]) -> str:
    """One row a member of an enumeration whose docstring has a section of attributes."""
    told = _attributes(terms)
    rows = [f"| `{each}` | {told[each.name]} |" for each in terms]
    return "\n".join(["| value | meaning |", "|---|---|", *rows])


def _attributes(options: type[Any]) -> dict[str, str]:
    _, _, section = inspect.getdoc(options).partition("Attributes:\n")  # type: ignore[union-attr]
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: _sentence(" ".join(text.split())) for name, text in found}


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _kind(hint: Any) -> str:
    """Write a type; of an enumeration all its members, of what may be None the rest."""
    some = [each for each in get_args(hint) or (hint,) if each is not NoneType]
    if get_origin(hint) is not UnionType or len(some) != 1:
        some = [hint]
    (kind,) = some
    if isinstance(kind, type) and issubclass(kind, Enum):
        members = ", ".join(f"`{each.name}`" for each in kind)
        return f"`{kind.__name__}`: {members}"
    name = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    return f"`{re.sub(r'[a-z_]+[.](?=[A-Za-z])', '', name)}`"


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


def _word(value: object) -> object:
    """Return what a command line has for a default."""
    return value.value if isinstance(value, Enum) else value


def _default(value: object, written: Callable[[object], object] = _word) -> str:
    if value is MISSING or value is None or value in {(), ""}:
        return ""
    return f"`{written(value)}`"
