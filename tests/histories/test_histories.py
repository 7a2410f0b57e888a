"""Servers over one store keep to what they acknowledged; and the history would show it if not."""

from pathlib import Path

import pytest

from tests.histories.history import make_history
from tests.histories.planted import PLANTED
from training.settings import Cell

LOSING = ("replica promoted", "log cut")
FOUND_SECONDS = 600.0  # at most; it takes a few


@pytest.mark.slow
def test_short_history_is_true(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    history = make_history(tiny_bundles["lstm"], tmp_path, 5.0, seed=3)
    assert history.wrong == []
    assert history.counts()["faults"] > 0
    counts = history.counts()
    assert counts["  done"] >= counts["sessions"]


@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED)
def test_planted_fault_is_found(
    planted: str, tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    kinds = LOSING if planted == "counter" else ()
    history = make_history(
        tiny_bundles["gru"], tmp_path, FOUND_SECONDS, planted=planted, kinds=kinds
    )
    assert history.wrong
