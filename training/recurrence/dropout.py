"""Dropout whose mask is computed where it is needed, on the way back once more."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.recurrence import kernels
from training.recurrence.arrays import view
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
        kernels.drop(first, last, rows, kept, of_2_32, seed, other)

    share(len(rows), work)
    return out
