"""The training benchmark times nothing that computes something else, and says what it found."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.harness.record import read
from benchmarks.training.__main__ import report
from benchmarks.training.point import measure
from benchmarks.training.products import (
    Product,
    operations_of,
    products_alone,
    products_of,
)
from benchmarks.training.record import (
    LAB,
    MM,
    OURS,
    PRODUCTS,
    TORCH,
    TrainingPoint,
    TrainingRecord,
    targets,
    training_rows,
)
from benchmarks.training.settings import TrainingBenchSettings
from training.model.model import CELLS, CharRNN, ModelSettings
from training.recurrence import steps
from training.recurrence.weight import Weight
from training.settings import Cell
from unroll.errors import UnrollError

pytestmark = pytest.mark.slow

PLAN = TrainingBenchSettings(vocabulary=11, streams=3, window=5, repeats=2)
GATES: dict[Cell, int] = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}

KINDS: dict[Cell, type[steps.Steps]] = {
    "rnn_tanh": steps.Steps,
    "rnn_relu": steps.Steps,
    "gru": steps.GRUSteps,
    "lstm": steps.LSTMSteps,
}


@pytest.fixture(autouse=True)
def _threads_as_before() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def a_point(**changes: Any) -> TrainingPoint:
    times = {LAB: [80.0, 90.0], TORCH: [20.0, 20.0], OURS: [10.0, 5.0]}
    times |= {MM: [9.0, 4.0], PRODUCTS: [9.0, 3.0]}
    point = TrainingPoint(
        model="gru-7x1",
        precision="fp32",
        threads=1,
        characters=15,
        operations=300_000,
        microseconds=times,
        differences={LAB: 1e-7, TORCH: 1e-7},
    )
    return replace(point, **changes)


@pytest.mark.parametrize("model", ["gru-7x1", "lstm-7x2", "rnn_relu-7x3", "rnn_tanh-7x1"])
def test_every_way_learns_what_torch_learns_and_is_timed(model: str) -> None:
    point = measure(model, "fp32", 1, PLAN)
    assert {way: len(samples) for way, samples in point.microseconds.items()} == dict.fromkeys(
        (LAB, TORCH, OURS, MM, PRODUCTS), 2
    )
    assert all(time > 0 for samples in point.microseconds.values() for time in samples)
    # Sums of a few float32 in another order, through 5 or 50 steps.
    assert max(point.differences.values()) < 1e-5, point.differences
    assert point.characters == 15


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_that_computes_something_else_is_not_timed(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[cell]
    sound = kind.backward

    def damaged(self: Any, *arguments: Any, **named: Any) -> Tensor:
        result = sound(self, *arguments, **named)
        self.delta[2, 0, 1] += 0.01
        return result

    monkeypatch.setattr(kind, "backward", damaged)
    with pytest.raises(UnrollError, match=r"gradient of .* from torch's.*nothing was timed"):
        measure(f"{cell}-7x1", "fp32", 1, PLAN)


@pytest.mark.parametrize("cell", CELLS)
def test_the_products_are_counted_as_by_hand(cell: Cell) -> None:
    V, E, H, L, N, T = 11, 3, 7, 2, 5, 13
    model = ModelSettings(cell=cell, vocabulary_size=V, embedding_size=E, hidden_size=H, layers=L)
    gates = GATES[cell] * H
    table, upper, decoder = 3 * V * E * gates, 3 * T * N * H * gates, 3 * T * N * H * V
    recurrent = (3 * T - 1) * N * H * gates  # the state before the window needs no gradient
    expected = 2 * (table + upper + decoder + L * recurrent)
    products = products_of(model, N, T)
    assert operations_of(products) == expected
    with torch.profiler.profile(with_flops=True) as profile:
        products_alone(products, torch.float32, tuned=False)()
    assert sum(event.flops for event in profile.key_averages()) == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_the_tuned_products_are_as_many(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(threads)
    rows: list[int] = []

    class Counted(Weight):
        def __call__(self, x: Tensor) -> Tensor:
            rows.append(len(x))
            return super().__call__(x)

    monkeypatch.setattr("benchmarks.training.products.Weight", Counted)
    recurrent = Product(rows=64, depth=3, columns=5, times=7, turned="b", ours=True)
    products_alone([recurrent], torch.float32, tuned=True)()
    assert rows == [64 // threads] * 7 * threads


def test_torch_makes_the_products_that_are_counted() -> None:
    """Count the products of torch's own pass: they differ by the input's table alone."""
    V, H, N, T = 11, 7, 5, 13
    settings = ModelSettings(
        cell="gru", vocabulary_size=V, embedding_size=3, hidden_size=H, layers=2
    )
    model = CharRNN(settings)
    with torch.profiler.profile(with_flops=True) as profile:
        outputs, _ = model.recurrent(model.embedding(torch.randint(V, (T, N))))
        model.decoder(outputs).sum().backward()
    made = sum(event.flops for event in profile.key_averages())
    symbols_instead_of_rows = 2 * 3 * (T * N - V) * 3 * 3 * H
    before_the_window = 2 * 2 * N * H * 3 * H
    counted = operations_of(products_of(settings, N, T))
    assert counted <= made <= 1.05 * (counted + symbols_instead_of_rows + before_the_window)


def test_a_run_prints_its_figures_and_its_record_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(
        TrainingBenchSettings(
            model=("gru-7x1",),
            precision=("fp32",),
            threads=(1,),
            vocabulary=11,
            streams=3,
            window=5,
            repeats=2,
            json=tmp_path,
        )
    )
    record = read(TrainingRecord, tmp_path / "training-cpu-gru-7x1.json")
    assert record.settings["streams"] == 3
    (point,) = record.points
    shown = capsys.readouterr().out
    for figure in (f"{point.characters_per_second(OURS):,.0f}", f"{point.ratio(PRODUCTS):.3f}"):
        assert figure in shown


def test_a_table_shows_rates_and_ratios_of_rounds() -> None:
    header, row = training_rows([a_point()])
    shown = dict(zip(header, row, strict=True))
    assert shown[OURS] == f"{1e6 / 7.5:,.0f}"
    assert shown["ours / lab's loop"] == "13.0"  # of 8 and 18
    assert shown["ours / torch"] == "3.00"  # of 2 and 4
    assert shown["torch.mm / ours"] == "0.850"  # of 0.9 and 0.8
    assert shown["products / ours"] == "0.750"  # of 0.9 and 0.6
    assert shown["GFLOP/s of products"] == "3"  # 300,000 in 15 times 6 microseconds


def test_targets_name_the_worst_point() -> None:
    slow = a_point(threads=2, microseconds=a_point().microseconds | {LAB: [60.0, 30.0]})
    lab, products = targets([a_point(), slow])
    assert (lab.found, lab.is_met) == ("6.00 at worst (gru-7x1, fp32, threads 2)", False)
    assert (products.found, products.is_met) == ("0.85 at worst (gru-7x1, fp32, threads 1)", False)
    best = a_point(microseconds=a_point().microseconds | {MM: [9.5, 4.75]})
    assert [target.is_met for target in targets([best])] == [True, True]
