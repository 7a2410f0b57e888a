"""What the wheel brings: the five packages, whole, and a command that runs from anywhere."""

import os
import shutil
import subprocess
import sys
import venv
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = {"unroll", "serving", "training", "export", "report"}
STRAY = (
    "reports/gru/module.py",
    "unroll_old/__init__.py",
    "serving2/__init__.py",
    "reporting/x.py",
)

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    files = run("git", "ls-files", "--cached", "-z", cwd=ROOT).split("\0")
    return {name for name in files if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def wheel(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the repository in which folders of other names lie about."""
    copy = tmp_path_factory.mktemp("copy")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    for name in STRAY:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("", encoding="utf-8")
    isolation = ["--no-build-isolation"] if find_spec("setuptools") else []
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    run(*pip, "--no-deps", *isolation, "--wheel-dir", "dist", ".", cwd=copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel where only its dependencies are; returns that environment's folder."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    spec = find_spec("grpc")
    assert spec is not None
    assert spec.origin is not None
    dependencies = Path(spec.origin).parents[
        1
    ]  # a .pth within it, as of the repository, is not read
    (site / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
    return folder


def test_wheel_holds_the_five_packages_and_all_their_files(wheel: Path, tracked: set[str]) -> None:
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in held} == PACKAGES
    assert held == {name for name in tracked if name.split("/")[0] in PACKAGES}


def test_every_package_of_the_wheel_is_typed(wheel: Path) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(ZipFile(wheel).namelist())


def test_wheel_requires_no_runtime_unless_an_extra_names_one(wheel: Path) -> None:
    held = ZipFile(wheel)
    (name,) = (name for name in held.namelist() if name.endswith(".dist-info/METADATA"))
    required = map(Requirement, message_from_bytes(held.read(name)).get_all("Requires-Dist", []))
    runtimes = {
        requirement.name: (str(requirement.marker), requirement.extras)
        for requirement in required
        if requirement.name.startswith("onnxruntime")
    }
    assert runtimes == {
        "onnxruntime": ('extra == "cpu"', set()),
        "onnxruntime-gpu": ('extra == "gpu"', {"cuda", "cudnn"}),
    }


def test_command_of_the_wheel_runs_in_another_folder(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "unroll"
    assert run(command, "--version", cwd=tmp_path).startswith("unroll ")
    assert "--max-message-bytes" in run(command, "serve", "--help", cwd=tmp_path)


def test_public_face_of_the_wheel_is_that_which_was_installed(
    installed: Path, tmp_path: Path
) -> None:
    code = "import unroll; print(unroll.Client.__name__, unroll.__file__)"
    name, _, place = run(installed / "bin" / "python", "-c", code, cwd=tmp_path).partition(" ")
    assert name == "Client"
    assert Path(place.strip()).is_relative_to(installed)
