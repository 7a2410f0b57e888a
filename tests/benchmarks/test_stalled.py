"""The benchmark of a stalled reader runs and counts."""

from pathlib import Path

import pytest

from benchmarks.stalled import StalledSettings, measure
from training.settings import Cell

pytestmark = pytest.mark.slow


def test_others_are_counted_with_and_without_a_stalled_reader(
    tiny_bundles: dict[Cell, Path],
) -> None:
    reading, stalled = measure(
        StalledSettings(bundle=tiny_bundles["gru"], streams=3, seconds=0.2, turns=1)
    )
    assert reading > 0
    assert stalled > 0
