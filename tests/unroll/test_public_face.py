"""`import unroll`: what users get by it, and what it costs them."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import unroll

ROOT = Path(__file__).parents[2]
FACE = ROOT / "unroll" / "__init__.py"
IN_THIS_PROCESS = {"AsyncLocalModel", "LocalModel", "load", "load_async"}
ADOPTION = {"Adoption", "adopt"}
WITH_EXTRAS = {*IN_THIS_PROCESS, *ADOPTION}
HEAVY = {"grpc", "google.protobuf", "numpy", "onnxruntime", "torch", "cyclopts", "asyncio"}


def told_by(code: str) -> str:
    """Run code in a new interpreter; returns what it printed."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def loaded_by(code: str) -> set[str]:
    """Run code in a new interpreter; returns the modules that it loaded."""
    return set(told_by(f"{code}\nprint(*sys.modules)").split())


def test_import_loads_nothing_heavy_and_nothing_of_ours() -> None:
    loaded = loaded_by("import unroll")
    assert HEAVY & loaded == set()
    assert {name for name in loaded if name.split(".")[0] in {"unroll", "serving"}} == {"unroll"}


def test_what_needs_no_connection_loads_no_grpc() -> None:
    names = "GenerateOptions, Piece, UnrollError, Capsules"
    assert HEAVY & loaded_by(f"from unroll import {names}") == set()
    assert {"grpc", "asyncio"} <= loaded_by("import unroll; unroll.AsyncClient")


def test_model_in_this_process_loads_no_grpc_and_a_client_no_engine() -> None:
    loaded = loaded_by("import unroll; unroll.load, unroll.load_async, unroll.LocalModel")
    assert {"grpc", "google.protobuf", "torch", "onnx", "cyclopts"} & loaded == set()
    assert {"onnxruntime", "serving.engine.engine"} <= loaded
    loaded = loaded_by("import unroll; unroll.Client")
    assert {"onnxruntime", "serving"} & loaded == set()


@pytest.mark.parametrize("name", [*unroll.__all__, *sorted(WITH_EXTRAS)])
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(unroll, name)
    assert found is getattr(unroll, name)
    assert name in dir(unroll)
    if name != "__version__":
        home = found.__module__.partition(".")[0]
        packages = dict.fromkeys(IN_THIS_PROCESS, "serving") | dict.fromkeys(ADOPTION, "export")
        assert (found.__name__, home) == (name, packages.get(name, "unroll"))
        assert found.__doc__


def test_type_checkers_are_told_of_each_name_where_it_is() -> None:
    told = {
        alias.name: node.module
        for node in ast.walk(ast.parse(FACE.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and str(node.module).partition(".")[0] in {"unroll", "serving", "export"}
        for alias in node.names
    }
    assert told == {
        name: getattr(unroll, name).__module__
        for name in {*unroll.__all__, *WITH_EXTRAS} - {"__version__"}
    }


def test_examples_need_no_other_names() -> None:
    imported = {
        node.module
        for path in (ROOT / "examples").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "unroll"
    }
    assert imported == {"unroll"}


def test_other_names_are_refused() -> None:
    for name in ("Engine", "_HOME", "Local"):
        with pytest.raises(AttributeError, match=f"'unroll' has no attribute '{name}'"):
            getattr(unroll, name)
    with pytest.raises(ImportError):
        exec("from unroll import Engine")


def test_star_imports_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from unroll import *", names)
    assert names.keys() - {"__builtins__"} == set(unroll.__all__)
    assert list(unroll.__all__) == sorted(unroll.__all__)


def test_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert unroll.__version__ == project["version"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "missing", "told"),
    [
        ("load", "onnxruntime", "a model needs ONNX Runtime, which is not installed; `pip install"),
        ("adopt", "torch", "unroll.adopt needs torch, which is not installed; `pip install"),
        ("adopt", "onnx", "unroll.adopt needs onnx, which is not installed; `pip install"),
    ],
)
def test_without_an_extra_a_name_tells_what_to_install(name: str, missing: str, told: str) -> None:
    code = f"""
sys.modules[{missing!r}] = None
from unroll import *
import unroll
try:
    unroll.{name}
except unroll.UnrollError as error:
    print(error)
"""
    assert told_by(code).startswith(told)
