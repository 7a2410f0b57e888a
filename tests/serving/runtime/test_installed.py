"""A start says what is wrong with the ONNX Runtime that is installed, and what to type."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from serving.runtime.installed import check_runtime
from unroll.errors import MissingExtraError

ROOT = Path(__file__).parents[3]
WITHOUT = "import sys; sys.modules['onnxruntime'] = None\n"


def distribution(site: Path, name: str) -> None:
    """Lay down what an installed distribution is known by."""
    info = site / f"{name.replace('-', '_')}-1.31.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n", encoding="utf-8"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        "from unroll.__main__ import main; main(['serve', '--model', 'nowhere'])",
        "from unroll.__main__ import main; main(['export', '--help'])",
    ],
)
def test_command_without_a_runtime_says_what_to_type(start: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + start],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "unroll: a model needs ONNX Runtime, which is not installed; `pip install -c "
        "constraints.txt '.[cpu]'`"
    )
    assert len(done.stderr.splitlines()) == 1


def test_client_and_its_commands_need_no_runtime() -> None:
    start = (
        "import unroll; unroll.Client; from unroll.__main__ import main; main(['generate', '-h'])"
    )
    subprocess.run([sys.executable, "-c", WITHOUT + start], cwd=ROOT, check=True)


def test_loading_without_a_runtime_is_the_same_error() -> None:
    start = (
        "import unroll\ntry: unroll.load\nexcept unroll.UnrollError as e: print(type(e).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + start],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "MissingExtraError\n"


def test_two_runtimes_in_one_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        distribution(tmp_path, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="pip uninstall --yes onnxruntime onnxruntime-gpu"):
        check_runtime()


def test_two_runtimes_in_two_folders_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        distribution(tmp_path / name, name)
        monkeypatch.syspath_prepend(tmp_path / name)
        assert version(name) == "1.31.1", "it is not seen, so this tests nothing"
    check_runtime()
