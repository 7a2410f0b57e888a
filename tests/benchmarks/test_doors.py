"""The benchmark of the doors asks a real server at each of them."""

from pathlib import Path

import pytest

from benchmarks.doors import (
    FILE,
    GRPC,
    HTTP,
    DoorSample,
    DoorsRecord,
    DoorsSettings,
    door_rows,
    measure,
)
from benchmarks.harness.process import ServerProcess
from benchmarks.harness.record import read

pytestmark = pytest.mark.slow


def test_turns_too_short_for_the_clock_have_no_ratio() -> None:
    doors = {name: [DoorSample(messages=3, seconds=0.0)] for name in (GRPC, *HTTP)}
    settings = {"symbols": 5, "streams": 2}
    rows = door_rows(DoorsRecord(machine={}, settings=settings, doors=doors))
    assert [row[-2:] for row in rows[1:]] == [["0.0", "-"]] * len(doors)


def test_every_door_streams_and_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small model's engine is not clearly its busiest thread.
    monkeypatch.setattr(ServerProcess, "pin_engine", lambda *_: None)
    measure(DoorsSettings(model="gru-7x1", streams=2, symbols=60_000, turns=1, json=tmp_path))
    record = read(DoorsRecord, tmp_path / FILE)
    assert list(record.doors) == [GRPC, *HTTP]
    for (sample,) in record.doors.values():
        assert sample.messages > 2, "the texts came in pieces"
    assert [row[0] for row in door_rows(record)] == ["door", GRPC, *HTTP]
