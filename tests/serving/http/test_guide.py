"""Every command of the guide's page about HTTP works as it stands there."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.http.buf import BUF
from tests.serving.running import PATIENCE, RunningServer, serve

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "guide" / "http.md").read_text("utf-8")
COMMANDS = re.findall(r"^    ((?:buf )?curl (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
BUNDLE = ROOT / "tests/compatibility/before/gru"  # with a vocabulary that has the page's prompts


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(f"fog={BUNDLE}", http_port=0) as running:
        yield running


def here(text: str, running: RunningServer) -> str:
    """Put this server's address into an example."""
    return text.replace("http://127.0.0.1:8080", running.server.http_address)


def test_page_has_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_guide_works(server: RunningServer, command: str) -> None:
    failing = here(command, server).replace("curl http", "curl --fail-with-body http")
    failing = failing.replace("curl --no-buffer", "curl --fail-with-body --no-buffer")
    done = subprocess.run(
        ["sh", "-c", failing],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{BUF.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout


def test_python_of_the_guide_works(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(here(code, server), {})
    assert len(capsys.readouterr().out) == 200
