"""The benchmark of filters times each of them, and its table and targets say what it found."""

from pathlib import Path

import pytest

from benchmarks.filters import (
    BESIDE,
    FILE,
    FILTERS,
    PLAIN,
    PRODUCTS,
    FilterPoint,
    FiltersRecord,
    FiltersSettings,
    filter_rows,
    measure,
    targets,
)
from benchmarks.harness.record import read


def a_point(vocabulary: int, **microseconds: float) -> FilterPoint:
    times = {"top_k = 40": 110.0, "min_p = 0.05": 105.0, BESIDE: 120.0, PRODUCTS: 80.0}
    times |= {PLAIN: 100.0, "top_p = 0.9": microseconds.get("top_p", 130.0)}
    return FilterPoint(
        model="gru-7x1",
        vocabulary=vocabulary,
        precision="fp32",
        kernels="onnx",
        microseconds={name: [time, 2 * time, time] for name, time in times.items()},
    )


def test_targets_name_the_worst_filter_of_each_size() -> None:
    points = [a_point(76), a_point(5000, top_p=140.0)]
    record = FiltersRecord(machine={}, settings={}, points=points)
    found = {target.name: target for target in targets(record)}
    large, small = (f"onnx: filter / plain, {size} 1,000 symbols" for size in ("from", "below"))
    assert found[large].found == "1.40 at worst (top_p = 0.9, V = 5,000, fp32)"
    assert found[large].is_met
    assert found[small].found == "1.30 at worst (top_p = 0.9, V = 76, fp32)"
    assert not found[small].is_met
    assert found["onnx: plain / products, from 1,000 symbols"].found == "1.25 at worst"
    assert found["onnx: rate of plain rows beside one with top_p"].found == "0.83 at worst"


@pytest.mark.slow
def test_every_filter_is_timed_and_written_down(tmp_path: Path) -> None:
    settings = FiltersSettings(
        model=("gru-7x1",), vocabulary=(64,), batch=3, steps=2, repeats=2, json=tmp_path
    )
    measure(settings)
    record = read(FiltersRecord, tmp_path / FILE)
    assert [point.precision for point in record.points] == ["fp32", "int8"]
    for point in record.points:
        assert set(point.microseconds) == {PRODUCTS, PLAIN, BESIDE, *FILTERS}
        assert all(len(samples) == 2 for samples in point.microseconds.values())
    header, *rows = filter_rows(record)
    assert [len(row) for row in rows] == [len(header)] * 2
