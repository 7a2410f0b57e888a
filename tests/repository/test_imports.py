"""Imports point one way, from room to room, and in no circle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "unroll": {"unroll"},
    "serving": {"serving", "unroll"},
    "training": {"training", "unroll"},
    "export": {"export", "training", "serving", "unroll"},
    "benchmarks": {"benchmarks", "export", "training", "serving", "unroll"},
    "report": {"report", "export", "training", "serving", "unroll"},
    "examples": {"examples", "unroll"},
    "tests": {"tests", "report", "benchmarks", "export", "training", "serving", "unroll"},
}
# What the public face, which loads lazily, reaches beside its own package.
FACE, REACHED = "unroll", {"serving.local.model", "export.adopt"}
REPORT_MAY = {
    "unroll",
    "serving.runtime",
    "training",
    "report.settings",
    "report.material",
    "report.subject",
    "report.curves",
}
# Packages whose rooms may import of each other what stands here.
ROOMED = {"serving", "training", "export", "report", "unroll.client"}
ROOMS: dict[str, set[str]] = {
    "unroll.bundle": set(),
    "unroll.client.remote": set(),
    "unroll.client.faces": set(),
    "unroll.client.commands": {
        "unroll.client.client",
        "unroll.client.faces",
        "unroll.client.remote",
    },
    "unroll.client.load": {
        "unroll.client.client",
        "unroll.client.commands.server_settings",
        "unroll.client.remote",
    },
    "serving.runtime.cuda": {"unroll"},
    "serving.runtime.device": {
        "unroll",
        "serving.runtime.cuda",
        "serving.runtime.decoder",
        "serving.runtime.host",
        "serving.runtime.initializers",
        "serving.runtime.onnx",
    },
    "serving.runtime": {"unroll"},
    "serving.access": {"unroll"},
    "serving.constraints": {"unroll"},
    "serving.engine.sequences": {
        "unroll",
        "serving.runtime",
        "serving.constraints",
        "serving.engine.counts",
    },
    "serving.engine.rows": {
        "unroll",
        "serving.runtime",
        "serving.constraints",
        "serving.engine.sequences",
    },
    "serving.engine.workers": {
        "unroll",
        "serving.runtime",
        "serving.engine.counts",
        "serving.engine.sequences",
        "serving.engine.rows",
    },
    "serving.engine": {"unroll", "serving.runtime", "serving.constraints"},
    "serving.sessions.disk": {
        "unroll",
        "serving.sessions.clock",
        "serving.sessions.store",
    },
    "serving.sessions.redis": {"unroll", "serving.sessions.store"},
    "serving.sessions": {"unroll", "serving.runtime", "serving.engine"},
    "serving.texts": {
        "unroll",
        "serving.runtime",
        "serving.constraints",
        "serving.engine",
        "serving.sessions",
    },
    "serving.rpc": {
        "unroll",
        "serving.runtime",
        "serving.access",
        "serving.engine",
        "serving.sessions",
        "serving.texts",
    },
    "serving.triton": {
        "unroll",
        "serving.runtime",
        "serving.access",
        "serving.engine",
        "serving.sessions",
        "serving.texts",
        "serving.rpc",
    },
    "serving.http": {
        "unroll",
        "serving.runtime",
        "serving.access",
        "serving.engine",
        "serving.sessions",
        "serving.texts",
        "serving.rpc",
        "serving.triton",
    },
    "serving.local": {
        "unroll",
        "serving.runtime",
        "serving.engine",
        "serving.sessions",
        "serving.texts",
    },
    "training.recurrence.kernels": set(),
    "training.recurrence": {"unroll", "training.settings"},
    "training.log": {"unroll"},
    "training.data.decoding": {"unroll", "training.settings"},
    "training.data.corpus": {"unroll", "training.settings", "training.data.decoding"},
    "training.data": {"unroll", "training.settings"},
    "training.model": {"unroll", "training.settings", "training.recurrence"},
    "training.run": {
        "unroll",
        "training.settings",
        "training.data",
        "training.model",
        "training.log",
    },
    "training.evaluate": {
        "unroll",
        "training.settings",
        "training.data",
        "training.model",
        "training.log",
        "training.run",
    },
    "export.graph": {"training.model"},
    "export.drawing": {"export.graph"},
    "export.loop": {"export.graph", "export.drawing"},
    "export.proof": {
        "export.graph",
        "training.data",
        "training.model",
        "training.run.checkpoint",
        "serving.runtime",
    },
    "report.measures": REPORT_MAY,
    "report.authors": REPORT_MAY | {"report.measures", "report.trainings"},
    "report.page": REPORT_MAY | {"report.measures", "report.authors"},
}
# What a room has for others; all else of it is its own.
OFFERED = {
    "training.recurrence": {
        "training.recurrence.stack.run_stack",
        "training.recurrence.dropout.dropout",
        "training.recurrence.threads_apart.run_apart",
        "training.recurrence.compiling_time.seconds_compiling",
    }
}
HEAVY = {"torch", "onnx", "safetensors", "matplotlib", "jinja2"}
LEAN = ("unroll", "serving")
# Who may see gRPC and protobuf messages, beside the generated stubs themselves.
WIRED = (
    "unroll.wire",
    "unroll.wire_terms",
    "unroll.client.aio",
    "unroll.client.client",
    "unroll.client.remote",
    "unroll.client.load",
    "unroll.v1",
    "serving.rpc",
    "serving.triton",
    "serving.http",
    "serving.doors",
)
GRPC_ONLY = ("serving.access", "serving.telemetry")  # credentials, spans and statuses
WIRE = {"grpc", "google", "grpc_health", "grpc_reflection", "grpc_status", "unroll.v1"}
IMPORT_ALL = f"""
import importlib, pkgutil, sys
import serving, unroll
names = [m.name for package in (serving, unroll)
         for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(len(names), *sorted({HEAVY | {"training", "export", "report"}!r} & set(sys.modules)))
"""


def module_of(path: Path) -> str:
    """Return the dotted name of a file of the repository."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(source: str) -> Iterator[tuple[int, str]]:
    """List what a module imports anywhere in it, as dotted names with the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_in(name: str, packages: set[str] | tuple[str, ...]) -> bool:
    """Tell whether a dotted name is one of some packages or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def offences(module: str, source: str) -> list[tuple[int, str]]:
    """List the imports that a module may not make; relative ones among them."""
    package = module.split(".", maxsplit=1)[0]
    room = room_of(module)
    return [
        (line, name)
        for line, name in imported(source)
        if name.startswith(".")
        or (
            is_in(name, set(MAY_IMPORT))
            and not is_in(name, MAY_IMPORT[package] | (REACHED if module == FACE else set()))
        )
        or (package in LEAN and is_in(name, HEAVY))
        or (room in ROOMS and is_in(name, ROOMED) and not is_in(name, ROOMS[room] | {room}))
        or (package not in {"tests", "benchmarks"} and is_another_rooms(name, room))
        or (
            package in LEAN
            and not is_in(module, WIRED)
            and is_in(name, WIRE - ({"grpc"} if is_in(module, GRPC_ONLY) else set()))
        )
        or (package not in {"tests", "examples"} and is_public_face(name))
    ]


def room_of(module: str) -> str:
    """Return the innermost room that a module lies in; else the first two parts of its name."""
    rooms = [room for room in ROOMS if is_in(module, {room})]
    return max(rooms, key=len) if rooms else ".".join(module.split(".")[:2])


def is_another_rooms(name: str, room: str) -> bool:
    """Tell whether a name is what another room keeps to itself."""
    return any(
        is_in(name, {other}) and not is_in(room, {other}) and name not in offered
        for other, offered in OFFERED.items()
    )


def is_public_face(name: str) -> bool:
    """Tell whether a name is taken from the package `unroll` itself, as only users do."""
    parts = name.split(".")
    if parts[0] != "unroll" or len(parts) < 2:
        return False
    return (
        not (ROOT / "unroll" / f"{parts[1]}.py").exists()
        and not (ROOT / "unroll" / parts[1]).is_dir()
    )


def modules(package: str) -> list[Path]:
    return [p for p in sorted((ROOT / package).rglob("*.py")) if "_pb2" not in p.name]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    assert modules(package)
    found = {
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for line, name in offences(module_of(path), path.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_no_module_imports_itself_through_others() -> None:
    known = {
        module_of(path): path
        for package in MAY_IMPORT
        if package not in {"tests", "examples"}
        for path in modules(package)
    }
    arrows = {
        module: {
            target
            for _, name in imported(path.read_text(encoding="utf-8"))
            for target in (name, name.rpartition(".")[0])
            if target in known and target != module and "." in target
        }
        for module, path in known.items()
    }
    circles = {module for module in arrows if module in _reached(arrows, module)}
    assert circles == set()


def _reached(arrows: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    left = [start]
    while left:
        for target in arrows[left.pop()] - found:
            found.add(target)
            left.append(target)
    return found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("serving.engine.workers.worker", "import torch"),
        ("serving.server", "def f():\n    import torch.nn as nn"),
        ("unroll.bundle.folder", "from onnx import helper"),
        ("serving.settings", "if True:\n    from training.model.model import CharRNN"),
        ("training.run.trainer", "from export.compiler import export"),
        ("training.run.trainer", "from serving.server import Server"),
        ("export.compiler", "from tests.conftest import tiny_checkpoint"),
        ("benchmarks.harness.machine", "import tests.core"),
        ("report.page.page", "from benchmarks.harness.machine import pin"),
        ("unroll.errors", "from serving.server import Server"),
        ("unroll.errors", "from serving.local.model import load"),
        ("unroll", "from serving.engine.engine import Engine"),
        ("unroll", "from export.compiler import export"),
        ("serving.local.aio", "from serving.rpc.servicer import TextGenerationServicer"),
        ("serving.local.aio", "import grpc"),
        ("serving.server", "from . import settings"),
        ("serving.engine.engine", "from serving.texts.text import Reply"),
        ("serving.rpc.servicer", "from serving.http.door import HttpDoor"),
        ("serving.triton.servicer", "from serving.http.door import HttpDoor"),
        ("serving.rpc.gate", "from serving.triton.handlers import PATHS"),
        ("serving.texts.parse.generate", "from serving.rpc.translation import read_generate"),
        ("serving.texts.text", "from serving.access.call import Call"),
        ("serving.texts.text", "from unroll.v1 import text_generation_pb2 as pb"),
        ("serving.engine.engine", "import grpc"),
        ("serving.engine.sequences.sequence", "from serving.engine.rows.row import prepare"),
        ("serving.engine.sequences.prefixes", "from serving.engine.options import EngineOptions"),
        ("serving.engine.rows.rows", "from serving.engine.workers.slots import Slots"),
        ("serving.engine.workers.worker", "from serving.engine.engine import Engine"),
        ("serving.engine.engine", "from unroll.v1 import text_generation_pb2 as pb"),
        ("serving.runtime.host", "from serving.engine.sequences.sequence import Sequence"),
        ("serving.runtime.cuda.captures", "from serving.runtime.onnx import Device"),
        ("serving.runtime.device.batch", "from serving.runtime.kernels import open_decoder"),
        ("serving.sessions.disk.store", "from serving.sessions.redis.store import RedisStore"),
        ("serving.sessions.redis.store", "from serving.sessions.registry import Sessions"),
        ("serving.access.tokens", "from serving.rpc.gate import RpcGate"),
        ("serving.sessions.registry", "from google.protobuf.message import Message"),
        ("unroll.bundle.manifest", "import grpc"),
        ("unroll.client.client", "from serving.engine.engine import Engine"),
        ("unroll.bundle.folder", "from unroll.client.client import Client"),
        ("unroll.client.remote.calls", "from unroll.client.faces.face import Face"),
        ("unroll.client.remote.retry", "from unroll.client.commands.settings import Transport"),
        ("unroll.client.remote.bulk", "from unroll.client.client import Client"),
        ("unroll.client.faces.face", "from unroll.client.remote.calls import Calls"),
        ("unroll.client.faces.session", "from unroll.client.client import Client"),
        ("unroll.client.commands.batch", "from unroll.client.load.tally import Tally"),
        ("unroll.client.load.clients", "from unroll.client.commands.ask import ask"),
        ("serving.server", "from unroll import Client"),
        ("training.data.corpus.corpus", "from training.model.model import CharRNN"),
        ("training.data.decoding.decode", "from training.data.corpus.files import find_files"),
        ("training.recurrence.kernels.cells", "from training.recurrence.weight import packed"),
        ("training.model.model", "from training.recurrence.kernels.products import multiply"),
        ("export.graph.weights", "from training.recurrence import stack"),
        ("training.run.trainer", "from training.evaluate.reading import encode"),
        ("training.evaluate.report", "from training.presets import preset_settings"),
        ("export.graph.cells", "from export.loop.decode import compile_decode"),
        ("export.drawing.sampler", "from export.loop.step import compile_step"),
        ("export.loop.decode", "from export.proof.parity import prove"),
        ("export.proof.parity", "from export.loop.decode import compile_decode"),
        ("export.proof.quality", "from export.compiler import export"),
        ("report.measures.problems", "from report.authors.authors import judge"),
        ("report.authors.authors", "from report.page.chart import Chart"),
        ("report.measures.units", "from export.graph.weights import ModelWeights"),
    ],
)
def test_forbidden_import_is_seen_wherever_it_stands(module: str, source: str) -> None:
    assert len(offences(module, source)) == 1


def test_onnxruntime_and_own_modules_are_allowed_in_serving() -> None:
    source = "import onnxruntime as ort\nfrom unroll.bundle.folder import Bundle\nimport numpy"
    assert offences("serving.runtime.onnx", source) == []


def test_all_of_serving_loads_neither_torch_nor_onnx() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    count, *heavy = done.stdout.split()
    assert heavy == []
    assert int(count) >= len(modules("serving"))
