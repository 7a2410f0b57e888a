"""A whole small report, and a browser to look at it."""

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from report.__main__ import make_report
from report.settings import ReportSettings
from tests.shared import SharedFolders
from training.__main__ import train
from training.presets import preset_files
from training.settings import TrainingSettings
from unroll.cli import run

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 1.5  # of each training


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
        make_report(settings)
    (out / "printed.txt").write_text(printed.getvalue(), "utf-8")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings run in this process: to start another one takes seconds."""
    monkeypatch.setattr(subprocess, "run", train_in_process)


def train_in_process(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
    """Do in this process what the command of a training does in one of its own."""
    tokens = command[command.index("--config") :]
    with pytest.raises(SystemExit) as ended:
        run(TrainingSettings, train, name="training", tokens=tokens, preset=preset_files)
    return subprocess.CompletedProcess(command, int(ended.value.code or 0))


@pytest.fixture(scope="module")  # its event loop would be in the way of other tests'
def browser() -> Iterator[Browser]:
    """A headless Chromium that is installed on this machine."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        message = "no Chromium is installed: apt-get install chromium"
        if os.environ.get("REQUIRE_CHROMIUM") == "1":
            pytest.fail(message)
        pytest.skip(message + "; REQUIRE_CHROMIUM=1 makes this a failure")
    with sync_playwright() as playwright:
        # Its sandbox cannot be had as root or in most containers; the page is our own.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        yield browser
        browser.close()
