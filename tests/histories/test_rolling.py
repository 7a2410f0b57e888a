"""Servers behind Envoy are ended one after the other, and no stream that is resumed fails."""

from pathlib import Path

import pytest

from tests.histories.rolling import roll
from training.settings import Cell


@pytest.mark.slow
def test_no_resumed_stream_fails_while_all_servers_are_ended_in_turn(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    rolled = roll(tiny_bundles["gru"], tmp_path, 0.0, streams=2, sessions=1)
    assert rolled.wrong == []
    assert rolled.counts["servers ended by SIGTERM"] == 3
    assert rolled.counts["streams"] >= 2
    assert rolled.counts["sessions"] >= 1
