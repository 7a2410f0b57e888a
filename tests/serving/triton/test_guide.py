"""Every command over HTTP of the guide's page about Triton works as it stands there."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.running import PATIENCE, RunningServer, serve

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "guide" / "triton.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (curl (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
BUNDLE = ROOT / "tests/compatibility/before/gru"  # with a vocabulary that has the page's prompts


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(f"fog={BUNDLE}", http_port=0) as running:
        yield running


def test_page_has_commands() -> None:
    assert len(COMMANDS) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_guide_works(server: RunningServer, command: str) -> None:
    here = command.replace("http://127.0.0.1:8080", server.server.http_address)
    done = subprocess.run(
        ["sh", "-c", here.replace("curl ", "curl --fail-with-body ", 1)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert '"fog"' in done.stdout
