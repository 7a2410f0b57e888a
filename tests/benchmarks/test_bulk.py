"""The benchmark of many short texts measures a real server of a tiny model to the end."""

from pathlib import Path

import pytest

from benchmarks.bulk.__main__ import BulkSettings, measure
from benchmarks.bulk.record import ALONE, BulkRecord, file_name
from benchmarks.harness.record import read
from training.settings import Cell

pytestmark = pytest.mark.slow


def test_every_figure_is_written(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = BulkSettings(
        model="gru-7x2",
        bundle=tiny_bundles["gru"],
        text_symbols=9,
        seconds=0.5,
        warm_up=0.1,
        repeats=1,
        json=tmp_path,
    )
    measure(settings)
    record = read(BulkRecord, tmp_path / file_name("gru-7x2"))
    assert list(record.ways) == [
        ALONE,
        "here, generate",
        "here, score",
        "call, generate",
        "call, score",
    ]
    for name, (sample,) in record.ways.items():
        assert sample.symbols_per_second > 0
        assert sample.texts_per_second > 0
        assert sample.engine_microseconds > 0
        assert (sample.wasted is not None) == name.startswith("here")
    assert record.ratio(ALONE) == record.engine_ratio(ALONE) == 1
    assert 2 < record.mean_symbols < 40
    shown = capsys.readouterr().out
    assert "gru-7x2, int8, kernels onnx: short texts" in shown
    assert "call, score, the lower ratio" in shown
