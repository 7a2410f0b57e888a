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


@pytest.mark.parametrize("name", ["README.md", "docs/guide/client.md", "docs/guide/sessions.md"])
def test_python_of_a_page_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = programs(ROOT / name)
    with serve(str(BUNDLE)) as server:
        assert "127.0.0.1:50051" in program
        exec(program.replace("127.0.0.1:50051", server.address), {})
    assert len(capsys.readouterr().out) > 40
