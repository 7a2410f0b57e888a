"""Differentiable functions that share no tensor, each run and differentiated in its own thread."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.recurrence.threads import together

Function = Callable[[list[Tensor]], Tensor]


def run_apart(
    functions: Sequence[Function], tensors: Sequence[Sequence[Tensor]], threads: int
) -> list[Tensor]:
    """Call functions at the same time; in the backward pass they run in threads again.

    Torch back-propagates in one thread, so several threads must do their own backward pass: to
    torch all functions are one operation.

    Args:
        functions: each makes a tensor of its tensors, and of nothing else that has a gradient.
        tensors: of each function.
        threads: how many at a time.
    """
    counts = [len(own) for own in tensors]
    arguments = (functions, counts, threads, *chain.from_iterable(tensors))
    return list(_Apart.apply(*arguments))  # type: ignore[no-untyped-call]


class _Apart(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, functions: Sequence[Function], counts: list[int], threads: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        leaves = iter([tensor.detach().requires_grad_() for tensor in tensors])
        own = [[next(leaves) for _ in range(count)] for count in counts]
        made = together(
            [partial(_call, *each) for each in zip(functions, own, strict=True)], threads
        )
        ctx.own, ctx.made, ctx.threads = own, made, threads
        return tuple(each.detach() for each in made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ways = zip(ctx.made, ctx.own, gradients, strict=True)
        found = together([partial(torch.autograd.grad, *each) for each in ways], ctx.threads)
        return None, None, None, *chain.from_iterable(found)


def _call(function: Function, tensors: list[Tensor]) -> Tensor:
    with torch.enable_grad():  # a new thread's own
        return function(tensors)
