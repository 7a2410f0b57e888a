"""The limits are the products of the bundle's own decode graph, all of them and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.decode.captured_products import captured_products, wide_weights
from benchmarks.decode.limits import PRODUCTS, Reader, products_alone, products_of
from serving.runtime.onnx import Device
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import load_bundle

pytestmark = pytest.mark.slow

V, H, L = 11, 7, 3
GATES: dict[Cell, int] = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


@pytest.mark.parametrize("cell", CELLS)
def test_the_products_read_every_weight_of_a_step_once(
    tiny_bundles: dict[Cell, Path], cell: Cell
) -> None:
    products = products_of(load_bundle(tiny_bundles[cell]))
    matrices = [weight for weight in products.weights if len(weight.dims) == 2]
    recurrent_and_upper = GATES[cell] * H * H * (2 * L - 1)
    assert sum(int(np.prod(m.dims)) for m in matrices) == recurrent_and_upper + V * H
    assert products.weight_bytes >= 4 * (recurrent_and_upper + V * H)
    assert {node.op_type for node in products.nodes} <= set(PRODUCTS)


@pytest.mark.parametrize("cell", CELLS)
def test_the_products_alone_run_for_any_batch(tiny_bundles: dict[Cell, Path], cell: Cell) -> None:
    for batch in (1, 5):
        run = products_alone(load_bundle(tiny_bundles[cell]), batch, 4)
        assert run() == [True]


@pytest.mark.parametrize("cell", CELLS)
def test_the_products_of_a_captured_step_are_as_few_as_its_inputs(
    tiny_bundles: dict[Cell, Path], cell: Cell
) -> None:
    bundle = load_bundle(tiny_bundles[cell])
    shapes = [weights.shape for weights in wide_weights(bundle)]
    assert sorted(shapes) == sorted([(GATES[cell] * H, H)] * (2 * L - 1) + [(V, H)])
    captured_products(bundle, 5, 3, Device.CPU)()


def test_a_reader_reads_the_block_it_was_asked_for() -> None:
    assert Reader(4096).size == 4096
    assert Reader(4096).gigabytes_per_second() > 0
