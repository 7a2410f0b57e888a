"""Weights are packed as the native loop reads them."""

from pathlib import Path

import pytest

from serving.runtime.initializers import read_initializers
from serving.runtime.native.packing import GATES, pack_layer
from tests.conftest import export_briefly, tiny_checkpoint
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.manifest import DECODE, WEIGHTS

LANES = 8
SUMS = {"gru": 4}  # z, r, n of h, n of x; others have one a gate


@pytest.mark.parametrize("cell", CELLS)
def test_each_sum_that_the_loop_reads_has_a_bias(cell: Cell, tmp_path: Path) -> None:
    bundle = export_briefly(tiny_checkpoint(cell), tmp_path / "bundle")
    tensors = read_initializers(bundle.read(DECODE), bundle.read(WEIGHTS))
    for index in range(bundle.manifest.model.layers):
        layer = pack_layer(tensors, cell, index, index == 0, LANES)
        assert layer.bias.shape == (SUMS.get(cell, len(GATES[cell])), LANES)
