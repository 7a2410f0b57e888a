"""Products of tiles, beside torch's in float64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.recurrence import weight
from training.recurrence.kernels import compiling, products
from training.recurrence.linear import linear
from training.recurrence.weight import Weight, has_tiles, packed, product_transposed, times_packed

DTYPES = [dtype for dtype, has in weight.TILES.items() if has]
ROUNDING = 2.0**-24  # of float32; each of a sum's additions rounds once, in any order

AVX2 = """
import llvmlite.binding as llvm
here = dict(llvm.get_host_cpu_features())
llvm.get_host_cpu_features = lambda: llvm.FeatureMap(
    {name: has and "avx512" not in name for name, has in here.items()})
import torch
from training.recurrence import weight
from training.recurrence.kernels import tile
assert (tile.LANES, tile.VECTORS) == (8, 2) and not tile.BFLOATS
torch.manual_seed(25)
for rows in range(1, 15):
    x, w, b = torch.randn(rows, 37), torch.randn(45, 37), torch.randn(45)
    found = weight.times_packed(x, weight.packed(w), b)
    torch.testing.assert_close(found, x @ w.t() + b, atol=2e-5, rtol=0)
    product = weight.product_transposed(x, found)
    torch.testing.assert_close(product, x.t() @ found, atol=1e-3, rtol=0)
print("avx2 is right")
"""


def check(found: Tensor, a: Tensor, b: Tensor, bias: Tensor | None = None) -> None:
    """Found is a times b in float32, however its sums were ordered, then rounded to its type."""
    a, b = a.double(), b.double()
    added = torch.zeros(b.shape[1]).double() if bias is None else bias.double()
    exact, terms = a @ b + added, a.abs() @ b.abs() + added.abs()
    allowed = (a.shape[1] + 1) * ROUNDING * terms
    if found.dtype == torch.bfloat16:
        allowed = allowed + 2.0**-8 * exact.abs()
    assert found.shape == exact.shape
    assert bool(((found.double() - exact).abs() <= allowed).all())


def normal(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [*range(1, 15), 64])
@pytest.mark.parametrize(("inputs", "outputs"), [(2, 2), (34, 66), (130, 128), (512, 10)])
def test_rows_times_a_weight(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> None:
    w = normal(outputs, inputs, dtype=dtype)
    assert has_tiles(w)
    x, y = normal(rows, inputs, dtype=dtype), normal(rows, outputs, dtype=dtype)
    check(Weight(w, rows)(x), x, w.t())
    check(Weight(w, rows, transposed=True)(y), y, w)
    bias = normal(outputs, dtype=torch.float32)
    check(times_packed(x, packed(w), bias), x, w.t(), bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 7, 2 * products.DEPTH, 4 * products.DEPTH + 3])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (5, 63), (products.STRIP + 7, 130)])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_gradient_of_a_weight(
    batch: int, outputs: int, inputs: int, dtype: torch.dtype, threads: int
) -> None:
    torch.set_num_threads(threads)
    a, b = normal(batch, outputs, dtype=dtype), normal(batch, inputs, dtype=dtype)
    check(product_transposed(a, b), a.t(), b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_sums_whoever_is_beside_it(dtype: torch.dtype) -> None:
    w, x = normal(70, 96, dtype=dtype), normal(13, 96, dtype=dtype)
    whole = Weight(w, 13)(x)
    for first in range(13):
        for last in range(first + 1, 14):
            assert torch.equal(Weight(w, 1)(x[first:last]), whole[first:last])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_row(bad: float, dtype: torch.dtype) -> None:
    w, x = normal(66, 32, dtype=dtype), normal(9, 32, dtype=dtype)
    x[4, 3] = bad
    found = Weight(w, 9)(x)
    assert not bool(found[4].isfinite().any())
    assert bool(found[torch.arange(9) != 4].isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_linear_layer_there_and_back(dtype: torch.dtype) -> None:
    x, w = normal(37, 34, dtype=dtype), normal(70, 34, dtype=dtype)
    bias, given = normal(70, dtype=torch.float32), normal(37, 70, dtype=dtype)
    leaves = [each.requires_grad_() for each in (x, w, bias)]
    out = linear(*leaves)
    dx, dw, db = torch.autograd.grad(out, leaves, given)
    x, w, bias = (each.detach() for each in leaves)
    check(out.detach(), x, w.t(), bias)
    check(dx, given, w)
    check(dw, given.t(), x)
    check(db[None], torch.ones(1, 37), given)


def test_an_odd_number_of_bfloat16_is_left_to_the_library() -> None:
    for shape in ((4, 5), (5, 4)):
        w, x = normal(*shape, dtype=torch.bfloat16), normal(3, shape[1], dtype=torch.bfloat16)
        assert not has_tiles(w)
        assert Weight(w, 3).panels is None
        check(Weight(w, 3)(x), x, w.t())
        check(linear(x, w, torch.zeros(shape[0])), x, w.t())


@pytest.mark.slow
@pytest.mark.skipif(not weight.TILES[torch.float32], reason="a processor without AVX2")
def test_vectors_of_256_bits(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", AVX2]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.stdout == "avx2 is right\n", found.stderr


def test_code_for_another_processor_has_no_tiles(tmp_path: Path) -> None:
    program = "from training.recurrence.kernels import tile; print(tile.FLOATS, tile.BFLOATS)"
    environment = os.environ | {"NUMBA_CPU_NAME": "generic"}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "False False\n"


def test_what_is_compiled_is_forgotten_when_any_source_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").write_text("a")
    (tmp_path / "two.py").write_text("b")
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "one.py"))
    before = compiling._stamp()
    assert compiling._stamp() == before
    (tmp_path / "two.py").write_text("c")
    monkeypatch.setattr(compiling, "STAMP", compiling._stamp())

    def nothing() -> None: ...

    compiling.compiled(nothing)
    assert nothing.__qualname__.endswith(compiling.STAMP)
    assert before != compiling.STAMP
