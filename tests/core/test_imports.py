"""Imports point one way: tests, benchmarks, report -> export -> training -> serving -> protos."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "protos": {"protos"},
    "serving": {"serving", "protos"},
    "training": {"training", "serving", "protos"},
    "export": {"export", "training", "serving", "protos"},
    "benchmarks": {"benchmarks", "export", "training", "serving", "protos"},
    "report": {"report", "export", "training", "serving", "protos"},
    "tests": {"tests", "report", "benchmarks", "export", "training", "serving", "protos"},
}
HEAVY = {"torch", "onnx", "safetensors", "matplotlib", "jinja2", "training", "export", "report"}
HEAVY |= {"tests", "benchmarks"}
IMPORT_ALL_OF_SERVING = f"""
import importlib, pkgutil, sys
import serving
names = [m.name for m in pkgutil.walk_packages(serving.__path__, "serving.")]
for name in names:
    importlib.import_module(name)
print(len(names), *sorted({HEAVY!r} & set(sys.modules)))
"""


def imported(source: str) -> Iterator[tuple[int, str]]:
    """List the top-level packages that a module imports anywhere in it, with the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." if node.level else (node.module or "").split(".")[0]


def offences(package: str, source: str) -> list[tuple[int, str]]:
    """List the imports that a module of the package may not make; relative ones among them."""
    forbidden = {".", *MAY_IMPORT} - MAY_IMPORT[package]
    if package in {"serving", "protos"}:
        forbidden |= HEAVY
    return [(line, name) for line, name in imported(source) if name in forbidden]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_toward_the_lean_runtime(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    found = {
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules
        for line, name in offences(package, path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("serving", "import torch"),
        ("serving", "def f():\n    import torch.nn as nn"),
        ("serving", "from onnx import helper"),
        ("serving", "if True:\n    from training.model import CharRNN"),
        ("training", "from export.compiler import export"),
        ("export", "from tests.conftest import tiny_checkpoint"),
        ("benchmarks", "import tests.core"),
        ("report", "from benchmarks.machine import processor"),
        ("export", "import report.page"),
        ("serving", "from . import bundle"),
    ],
)
def test_forbidden_import_is_seen_wherever_it_stands(package: str, source: str) -> None:
    assert len(offences(package, source)) == 1


def test_onnxruntime_and_own_modules_are_allowed_in_serving() -> None:
    source = "import onnxruntime as ort\nfrom serving.bundle import Bundle\nimport numpy"
    assert offences("serving", source) == []


def test_all_of_serving_loads_neither_torch_nor_onnx() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL_OF_SERVING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, *heavy = done.stdout.split()
    assert heavy == []
    assert int(count) >= len(list((ROOT / "serving").glob("[a-z]*.py")))
