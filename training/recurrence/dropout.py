"""Dropout whose mask is computed where it is needed, in the backward pass once more."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.recurrence.kernels.arithmetic import f32, put, u32, view, wide
from training.recurrence.kernels.compiling import Array, compiled, inlined
from training.recurrence.threads import share


def dropout(
    x: Tensor,
    probability: float,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return x, each number of it 0 at the probability, the others scaled to the same mean.

    Torch draws its mask number by number from one generator, which is a quarter of an update's
    time; here a number's fate is a function of its place and of two seeds that torch draws
    (counter-based: Salmon et al. 2011).

    Args:
        x: float32 or bfloat16, on the CPU, of fewer than 2**32 numbers.
        probability: in [0, 1).
        dtype: of the result, float32 or bfloat16; x's by default.
        generator: draws the seeds; torch's default one by default.
    """
    dtype = dtype or x.dtype
    if not probability:
        return x.to(dtype)
    arguments = (x, probability, torch.randint(2**32, (2,), generator=generator), dtype)
    dropped: Tensor = _Dropout.apply(*arguments)  # type: ignore[no-untyped-call]
    return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, probability: float, seeds: Tensor, dtype: torch.dtype
    ) -> Tensor:
        ctx.probability, ctx.seeds, ctx.dtype = probability, seeds, x.dtype
        return _masked(x, probability, seeds, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _masked(gradient, ctx.probability, ctx.seeds, ctx.dtype), None, None, None


def _masked(x: Tensor, probability: float, seeds: Tensor, dtype: torch.dtype) -> Tensor:
    x, out = x.contiguous(), torch.empty(x.shape, dtype=dtype)
    rows, kept = (view(each.view(-1, each.shape[-1])) for each in (x, out))
    seed, other = (np.uint32(each) for each in seeds.tolist())
    of_2_32 = round(probability * 2**32)

    def work(first: int, last: int) -> None:
        drop(first, last, rows, kept, of_2_32, seed, other)

    share(len(rows), work)
    return out


@compiled
def drop(first: int, last: int, x: Array, out: Array, dropped: Any, seed: Any, other: Any) -> None:
    """Write x with each number 0 at a probability, and the rest scaled to the same mean.

    Args:
        first: of the rows to do.
        last: the row before which to end.
        x: operands, (rows, X).
        out: is written to, operands, of x's shape.
        dropped: the probability in units of 2**-32.
        seed: decides what is dropped, uint32,
        other: decides it, too, with the place in x.
    """
    X = x.shape[1]
    scale = f32(1.0 / (1.0 - dropped / 2.0**32))
    limit = u32(dropped)
    for row in range(first, last):
        own, kept, start = x[row], out[row], u32(row * X)
        for j in range(X):
            factor = scale if scrambled(start + u32(j), seed, other) >= limit else f32(0)
            put(kept, j, wide(own[j]) * factor)


@inlined
def scrambled(j: Any, seed: Any, other: Any) -> Any:
    """Return 32 bits for each j < 2**32, as good as random ones: lowbias32 (Wellons 2018)."""
    x = u32(u32(j) * u32(0x9E3779B9) + seed)
    x = u32((x ^ (x >> u32(16))) * u32(0x7FEB352D) + other)
    x = u32((x ^ (x >> u32(15))) * u32(0x846CA68B))
    return x ^ (x >> u32(16))
