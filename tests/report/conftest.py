"""A whole small report, and a browser to look at it."""

import io
import subprocess
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
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

SECONDS = 1.5  # for each training, of a clock that the trainings move on
TICK = SECONDS / 150  # from one look at it to the next


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

    Its clock moves on by each look at it: as many updates on every machine, however busy.
    """
    tokens = command[command.index("--config") :]
    looks = count()

    def clock() -> float:
        return TICK * next(looks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.__main__.time", SimpleNamespace(monotonic=clock))
        patch.setattr("training.__main__.Trainer", partial(Trainer, clock=clock))
        with pytest.raises(SystemExit) as ended:
            run(TrainingSettings, train, name="training", tokens=tokens, preset=preset_files)
    return subprocess.CompletedProcess(command, int(ended.value.code or 0))
