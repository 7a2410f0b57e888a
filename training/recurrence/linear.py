"""A linear layer whose products are those of tiles, forwards and backwards."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from training.recurrence.steps import Columns
from training.recurrence.sums import Sums
from training.recurrence.threads import share
from training.recurrence.weight import (
    has_tiles,
    packed,
    packed_transposed,
    product_transposed,
    times_packed,
)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x times the transposed weight, plus the bias.

    Args:
        x: float32 or bfloat16, shape (rows, inputs).
        weight: of the same type, shape (outputs, inputs).
        bias: float32, shape (outputs,).

    Returns:
        Of x's type, shape (rows, outputs).
    """
    if not has_tiles(weight):
        return F.linear(x, weight, bias.to(x.dtype))
    out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return times_packed(x, packed(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        dx = times_packed(gradient, packed_transposed(weight), torch.zeros(weight.shape[1]))
        dW = product_transposed(gradient, x).to(weight.dtype)
        return dx, dW, _total(gradient)


def _total(gradient: Tensor) -> Tensor:
    """Return the sum of all rows, float32."""
    rows, width = gradient.shape
    columns = Columns(gradient.view(1, rows, width), 0, width)
    sums = Sums(1, torch.zeros(1, rows, dtype=torch.int64), (columns,))
    share(rows, sums.add)
    return sums.total()[0]
