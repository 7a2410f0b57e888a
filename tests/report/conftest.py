"""A whole small report, and a browser to look at it."""

import io
import subprocess
import time
import tomllib
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from report.__main__ import make_report
from report.settings import ReportSettings
from tests.shared import SharedFolders
from training.__main__ import train
from training.presets import preset_files, preset_settings
from training.run.trainer import Trainer
from training.settings import Cell, TrainingSettings
from unroll.cli import run

SECONDS = 1.5  # of a processor, for each training
COMPILED: set[str] = set()  # cells whose steps this process has compiled or found compiled


@dataclass(frozen=True, kw_only=True)
class Made:
    """A report as its command left it."""

    folder: Path
    printed: str


@pytest.fixture(scope="session")
def made(shared: SharedFolders) -> Made:
    """The report on the bundled corpus, with no other texts at hand."""
    out = shared.folder("reports", _make_report)
    return Made(folder=out / "casebook", printed=(out / "printed.txt").read_text("utf-8"))


def _make_report(out: Path) -> None:
    printed = io.StringIO()
    settings = ReportSettings(corpus="casebook", minutes=SECONDS / 60, out=out)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.delenv("CORPUS_DIR", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(out / "cache"))
        patch.setattr(subprocess, "run", train_in_process)
        patch.setattr("report.settings.preset_settings", small_preset)
        make_report(settings)
    (out / "printed.txt").write_text(printed.getvalue(), "utf-8")


def small_preset(name: str, cell: Cell) -> TrainingSettings:
    """Return a preset's settings, small and brief: the page is the same, and sooner there."""
    return replace(preset_settings(name, cell), hidden_size=48, sample_symbols=20)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings run in this process, and be small: to start another one takes seconds."""
    monkeypatch.setattr(subprocess, "run", train_in_process)
    monkeypatch.setattr("report.settings.preset_settings", small_preset)


def train_in_process(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
    """Do in this process what the command of a training does in one of its own.

    Its clock shows processor time, of which other work on the machine takes nothing away.
    """
    tokens = command[command.index("--config") :]
    cell = tomllib.loads(Path(tokens[1]).read_text("utf-8"))["cell"]
    if cell not in COMPILED:
        _compile(tokens)
        COMPILED.add(cell)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.__main__.time", SimpleNamespace(monotonic=time.process_time))
        patch.setattr("training.__main__.Trainer", partial(Trainer, clock=time.process_time))
        with pytest.raises(SystemExit) as ended:
            run(TrainingSettings, train, name="training", tokens=tokens, preset=preset_files)
    return subprocess.CompletedProcess(command, int(ended.value.code or 0))


def _compile(tokens: list[str]) -> None:
    """Let the steps of a training's cell be compiled, which may take longer than the training.

    Args:
        tokens: of its command; its time and its folder are replaced.
    """
    with TemporaryDirectory() as runs:
        brief = [*tokens, "--minutes", "0.001", "--runs-dir", runs]
        with pytest.raises(SystemExit):
            run(TrainingSettings, train, name="training", tokens=brief, preset=preset_files)
