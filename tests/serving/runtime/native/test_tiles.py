"""Products in tiles, emulated where a processor has none, have the bits of vectors."""

import ctypes
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.runtime.decoder import Decoder, LoopResult
from serving.runtime.native import decoder as native
from serving.runtime.native import library
from serving.runtime.native.decoder import NativeDecoder
from serving.runtime.native.packing import BEHIND
from serving.runtime.onnx import Device
from tests.conftest import tiny_checkpoint
from tests.serving.runtime.native.bundles import compiled, needs_kernels
from tests.serving.runtime.runs import (
    PLAIN,
    assert_same_bits,
    random_run,
    result_rows,
    rows_of,
    state_rows,
)
from training.settings import Cell

EMULATED = ("-DEMULATED_TILES", "-DTILED_FROM=1", "-Og")  # which compiles in half the time
UNITS = 16  # of a block
SIZES = (*range(1, 19), 31, 32, 33, 47, 48, 49, 63, 64, 65, 97, 130)  # around whole tiles
ROWS = max(SIZES)
SYMBOLS = "\n" + "".join(map(chr, range(0x21, 0x21 + 75)))  # five blocks of units
SUMS = """
#include "amx.h"
extern "C" void sums(const uint8_t* rows, const char* panels, int32_t* sums, int depth,
                     int row_tiles, int gates, int panel_bytes, int columns) {
  const TileUse use(true);
  const Product product{rows, panels};
  sums_of(&product, 1, depth, row_tiles, {gates, size_t(panel_bytes)}, columns, sums);
}
"""

pytestmark = needs_kernels


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compile what multiplies two tiles of rows."""
    folder = tmp_path_factory.mktemp("sums")
    (folder / "sums.cpp").write_text(SUMS)
    subprocess.run(
        ["g++", *library.FLAGS, *EMULATED, "-shared", f"-I{library.FOLDER}", "sums.cpp", "-osums"],
        cwd=folder,
        check=True,
    )
    return ctypes.CDLL(str(folder / "sums"))


@pytest.mark.parametrize("row_tiles", [1, 2])
@pytest.mark.parametrize("gates", [1, 3, 4])
@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("inputs", [4, 64, 68, 192])
def test_sums_are_exact(
    sums: ctypes.CDLL, row_tiles: int, gates: int, blocks: int, inputs: int
) -> None:
    random = np.random.default_rng(inputs)
    N, depth = 16 * row_tiles, -(-inputs // 64)
    rows = np.zeros((N, depth * 64), np.uint8)
    rows[:, :inputs] = random.choice([0, 1, 254, 255], (N, inputs))
    weights = random.choice([-128, -127, 1, 127], (inputs, gates, blocks, UNITS)).astype(np.int8)
    panels = weights.reshape(-1, 4, gates, blocks, UNITS).transpose(3, 0, 2, 4, 1)
    behind = random.integers(-128, 128, BEHIND).astype(np.int8)
    memory = np.concatenate([panels.ravel(), behind])
    in_tiles = np.ascontiguousarray(rows.reshape(row_tiles, 16, depth, 64).swapaxes(1, 2))
    found = np.empty((N, blocks, gates, UNITS), np.int32)
    sums.sums(
        *(ctypes.c_void_p(array.ctypes.data) for array in (in_tiles, memory, found)),
        *(depth, row_tiles, gates, panels[0].size, blocks * gates),
    )
    wanted = np.einsum("ni,igbu->nbgu", rows[:, :inputs].astype(np.int32), weights.astype(np.int32))
    np.testing.assert_array_equal(found, wanted)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let decoders load the loop with emulated tiles."""
    if library.load()[1] == "avx2":
        pytest.skip("the rest of the loop needs AVX-512")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "LIBRARY", tmp_path_factory.mktemp("emulated") / "loop.lib")
        patch.setattr(library, "FLAGS", (*library.FLAGS, *EMULATED))
        patch.setattr(library, "FLAGS_OF", {"avx512vnni": library.FLAGS_OF["avx512vnni"]})
        library.build()
        loaded = library.load()[0]
        patch.setattr(native, "load", lambda: (loaded, "amx"))
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(
    ("cell", "hidden", "layers", "members"),
    [
        ("rnn_tanh", 37, 2, 1),
        ("rnn_relu", 68, 1, 1),
        ("gru", 37, 2, 1),
        ("gru", 16, 2, 3),
        ("gru", 100, 1, 1),
        ("lstm", 68, 2, 1),
        ("lstm", 7, 3, 2),
    ],
)
def test_every_batch_has_the_bits_of_the_graph(
    cell: Cell, hidden: int, layers: int, members: int, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(
        cell, hidden_size=hidden, layers=layers, members=members, symbols=SYMBOLS
    )
    bundle = compiled(checkpoint, "int8", tmp_path / "bundle")
    graph, ours = Decoder(bundle, Device.CPU), NativeDecoder(bundle)
    call, state = random_run(graph, len(SYMBOLS), 4, [PLAIN[row % 4] for row in range(ROWS)])
    ends: NDArray[np.int64] = np.arange(ROWS) % 4 + 1
    for steps in (call.steps, ends):  # the second leaves gaps among the rows
        call = replace(call, steps=steps)
        whole = graph.run(call, state)
        for size in SIZES:
            rows = np.roll(np.arange(ROWS), -size)[:size]
            result = ours.run(rows_of(call, rows), state_rows(state, rows))
            assert_same_bits(
                until_the_end(result, steps[rows]),
                until_the_end(result_rows(whole, rows), steps[rows]),
            )


def until_the_end(result: LoopResult, steps: NDArray[np.int64]) -> LoopResult:
    """Put zeros after each row's last step."""
    is_alive = np.arange(len(result.tokens))[:, None] < steps
    return replace(result, tokens=result.tokens * is_alive, log_probs=result.log_probs * is_alive)
