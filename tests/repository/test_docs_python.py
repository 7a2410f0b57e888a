"""The Python of README and the guide runs as it stands there."""

import re
from pathlib import Path

import pytest

from tests.serving.running import serve

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests/compatibility/before/gru"  # with a vocabulary that has the pages' prompts


def programs(page: Path) -> list[str]:
    """List the page's indented blocks that begin by importing unroll."""
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", page.read_text("utf-8"), re.MULTILINE)
    plain = [re.sub("^    ", "", block.strip("\n"), flags=re.MULTILINE) for block in blocks]
    return [block for block in plain if block.startswith("import unroll")]


@pytest.mark.parametrize("name", ["client.md", "sessions.md"])
def test_python_that_asks_a_server_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = programs(ROOT / "docs" / "guide" / name)
    with serve(str(BUNDLE)) as server:
        assert "127.0.0.1:50051" in program
        exec(program.replace("127.0.0.1:50051", server.address), {})
    assert len(capsys.readouterr().out) > 40


@pytest.mark.parametrize("name", ["README.md", "docs/guide/local.md"])
def test_python_that_needs_no_server_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = programs(ROOT / name)
    assert "bundles/fog" in program
    exec(program.replace("bundles/fog", str(BUNDLE)), {})
    assert len(capsys.readouterr().out) > 40
