"""The tables of docs/operations.md, made from the code: `python -m tests.serving.operations`."""

import ast
from dataclasses import MISSING, fields
from enum import Enum
from itertools import pairwise
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

import serving.settings
from serving.settings import ServerSettings

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
PROCESS = {each.name for each in ProcessCollector(registry=CollectorRegistry()).collect()}


def settings_table() -> str:
    """One row a setting: its flag, its default and its docstring."""
    source = Path(serving.settings.__file__).read_text(encoding="utf-8")
    (body,) = [n.body for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef)]
    told = {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
    rows = [
        f"| `--{field.name.replace('_', '-')}` | {_default(field.default)} | {told[field.name]} |"
        for field in fields(ServerSettings)
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def metrics_table(page: str) -> str:
    """One row a family of a metrics page, but for those about the process."""
    rows = []
    for family in text_string_to_metric_families(page):
        if family.name not in PROCESS:
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = sorted({key for sample in family.samples for key in sample.labels} - {"le"})
            names = ", ".join(labels)
            rows.append(f"| `{name}` | {family.type} | {names} | {family.documentation} |")
    rows.append("| `process_*` | | | Memory, processor time and open files of the process. |")
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


def between(name: str, text: str) -> str:
    """Return what stands between two marks."""
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]


def put(name: str, table: str, text: str) -> str:
    """Replace what stands between two marks."""
    before, rest = text.split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- /{name} -->")
    return f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->{after}"


def _default(value: object) -> str:
    if value is MISSING or value is None or value == ():
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


if __name__ == "__main__":
    PAGE.write_text(put("settings", settings_table(), PAGE.read_text("utf-8")), "utf-8")
