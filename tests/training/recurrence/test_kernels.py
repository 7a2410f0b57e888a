"""The arithmetic of the compiled steps."""

import numpy as np
import pytest
import torch

from training.recurrence.kernels import arithmetic
from training.recurrence.kernels.arithmetic import view
from training.recurrence.kernels.compiling import Array, compiled

f32 = np.float32


@compiled
def apply(which: int, x: Array, out: Array) -> None:
    for j in range(len(x)):
        if which == 0:
            out[j] = arithmetic.exp(x[j])
        elif which == 1:
            out[j] = arithmetic.sigmoid(x[j])
        else:
            out[j] = arithmetic.tanh(x[j])


@compiled
def round_all(x: Array, out: Array, back: Array) -> None:
    for j in range(len(x)):
        arithmetic.put(out, j, x[j])
        back[j] = arithmetic.wide(out[j])


def applied(which: int, x: Array) -> Array:
    out = np.empty_like(x)
    apply(which, x, out)
    return out


def test_exp_sigmoid_and_tanh_are_those_of_float64_within_a_few_roundings() -> None:
    x = np.linspace(-86, 86, 1_000_003, dtype=f32)
    exact = x.astype(np.float64)
    assert np.max(np.abs(applied(0, x) / np.exp(exact) - 1)) < 2e-7
    sigmoid = 1 / (1 + np.exp(-exact))
    assert np.max(np.abs(applied(1, x) / sigmoid - 1)) < 5e-7
    assert np.max(np.abs(applied(2, x) - np.tanh(exact))) < 2e-7


def test_the_ends_and_nan() -> None:
    x = np.array([-np.inf, -1e30, -200, 200, 1e30, np.inf, np.nan], f32)
    for which, low in ((1, 0.0), (2, -1.0)):
        y = applied(which, x)
        np.testing.assert_allclose(y[:3], low, atol=1e-37)
        np.testing.assert_array_equal(y[3:6], 1)
        assert np.isnan(y[6])
    assert np.isnan(applied(0, x)[6])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operands_are_rounded_as_torch_rounds(dtype: torch.dtype) -> None:
    generator = np.random.default_rng(25)
    bits = generator.integers(0, 2**32, 1_000_000, dtype=np.uint32)
    # Halfway between two of bfloat16, too, below and above an even one.
    bits[: 1 << 17] = (np.arange(1 << 17, dtype=np.uint32) << 15) & 0xFFFFFFFF
    x = bits.view(f32)
    x = x[np.isfinite(x)]
    expected = torch.from_numpy(x).to(dtype)
    out = torch.empty(len(x), dtype=dtype)
    back = np.empty_like(x)
    round_all(x, view(out), back)
    assert torch.equal(out, expected)
    np.testing.assert_array_equal(back, expected.float().numpy())
    special = np.array([np.inf, -np.inf, np.nan, -np.nan], f32)
    kept = torch.empty(4, dtype=dtype)
    round_all(special, view(kept), np.empty_like(special))
    assert kept[:2].tolist() == [np.inf, -np.inf]
    assert bool(kept[2:].isnan().all())
