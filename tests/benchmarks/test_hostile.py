"""The benchmark of hostile patterns runs and counts."""

from pathlib import Path

import pytest

from benchmarks.served.hostile import HostileSettings, hostile, measure
from training.settings import Cell

pytestmark = pytest.mark.slow


def test_streams_are_counted_beside_hostile_patterns(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.served.hostile.SENDERS", 3)
    found = measure(HostileSettings(bundle=tiny_bundles["gru"], streams=3, patterns=3, turns=1))
    assert 1 <= len(found.waits) <= 3  # some are compiled in so small a vocabulary
    assert found.kept > 0
    assert len({hostile(number) for number in range(200)}) == 200
