"""Weights are packed as the native loop reads them."""

from pathlib import Path

import numpy as np
import pytest

from serving.runtime.initializers import read_initializers
from serving.runtime.native.packing import GATES, LINE, pack_layer
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


def test_a_table_holds_what_each_gate_looks_up_and_begins_on_a_line(tmp_path: Path) -> None:
    bundle = export_briefly(tiny_checkpoint("gru"), tmp_path / "bundle")
    tensors = read_initializers(bundle.read(DECODE), bundle.read(WEIGHTS))
    table = pack_layer(tensors, "gru", 0, True, LANES).table
    assert table is not None
    assert table.ctypes.data % LINE == 0
    looked_up, H = ("z.table", "r.table", "n.input"), bundle.manifest.model.hidden_size
    for gate, name in enumerate(looked_up):
        np.testing.assert_array_equal(table[:, gate, :H], tensors[f"layer0.{name}"])
    assert not table[:, :, H:].any()
