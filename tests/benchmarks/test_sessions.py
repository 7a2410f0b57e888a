"""The benchmark of idle sessions runs and checks what it measures."""

import json
from pathlib import Path

import pytest

from benchmarks.sessions import SessionsSettings, measure

pytestmark = pytest.mark.slow


def test_figures_are_written(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    measure(SessionsSettings(sessions=300, disk_sessions=40, sample=20, json=file))
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["figures"]["state_bytes"] == 2048
    assert written["figures"]["disk_loads_a_second"] > 0
