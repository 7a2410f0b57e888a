"""The benchmark of several server processes runs and tells of each load."""

from pathlib import Path

import pytest

from benchmarks.served.processes import LOADS, ProcessesSettings, measure
from training.settings import Cell

pytestmark = pytest.mark.slow


def test_each_load_is_told_with_one_process_with_two_and_with_two_servers(
    tiny_bundles: dict[Cell, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(LOADS, "long texts")  # asked for as short ones are
    measure(ProcessesSettings(bundle=tiny_bundles["gru"], clients=2, seconds=0.3, rounds=1))
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line in LOADS] == list(LOADS)
    for way in ("1 process", "2 processes", "2 servers"):
        assert printed.count(f"  {way}: ") == len(LOADS)
    assert printed.count(" of one on one core; by the servers' own time ") == 2 * len(LOADS)
