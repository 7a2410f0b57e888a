"""A whole small report, and a browser to look at it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.shared import SharedFolders

NAMES = ("chromium", "chromium-browser", "google-chrome")
ROOT = Path(__file__).parents[2]
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
    environment = {name: v for name, v in os.environ.items() if name != "CORPUS_DIR"}
    command = [sys.executable, "-W", "error", "-m", "report", "--corpus", "casebook"]
    done = subprocess.run(
        [*command, "--minutes", str(SECONDS / 60), "--out", str(out)],
        cwd=ROOT,
        env=environment | {"XDG_CACHE_HOME": str(out / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (out / "printed.txt").write_text(done.stdout, "utf-8")


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
