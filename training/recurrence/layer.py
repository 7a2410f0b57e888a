"""A recurrent layer over a window as one differentiable operation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.recurrence.steps import LSTMSteps, Steps, steps_of
from training.recurrence.sums import Sums
from training.recurrence.threads import share, share_of
from training.recurrence.weight import Weight, product_transposed
from training.settings import Cell


class Layer(torch.autograd.Function):
    """Run a layer over a window; back-propagation is truncated at its start.

    Products take operands in float32, or in bfloat16 with sums in float32; all else is float32.
    The weights' gradient is one product over all steps.
    """

    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        dtype: torch.dtype,
        rows: Tensor,
        tokens: Tensor | None,
        shape: tuple[int, int],
        weight: Tensor,
        bias: Tensor,
        h: Tensor,
        c: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the layer.

        Args:
            ctx: of torch's.
            cell: which.
            dtype: of the operands of products.
            rows: inputs times input weights, with the biases: one row a step, (T * N, G * H), or a
                table of V rows.
            tokens: which row of the table each step reads, (T, N); None where there is no table.
            shape: T and N.
            weight: recurrent, (G * H, H).
            bias: recurrent, of a GRU's n, (H,).
            h: state before the window, (N, H).
            c: an LSTM's cell state, too.

        Returns:
            The states after all steps as operands, (T, N, H); the last state and an LSTM's last
            cell state, float32, (N, H).
        """
        T, N = shape
        index = torch.arange(T * N).view(T, N) if tokens is None else tokens.contiguous()
        steps = steps_of(cell, rows.contiguous(), index, h, dtype, bias, c)
        W = weight.to(dtype)
        share(N, _Reading(steps, W))
        ctx.steps = steps
        ctx.table = (len(rows), index) if tokens is not None else None
        ctx.weight_dtype = weight.dtype
        ctx.save_for_backward(W)
        last_c = steps.cells[-1].clone() if isinstance(steps, LSTMSteps) else torch.empty(0)
        return steps.operands[1:], steps.states[-1].clone(), last_c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor, grad_h: Tensor, grad_c: Tensor) -> Any:
        """Return the gradients of rows, weight, bias, h and c."""
        steps: Steps = ctx.steps
        (W,) = ctx.saved_tensors
        steps.begin_backward(grad_states, grad_c)
        backward_pass = _Backward(steps, W, grad_h, ctx.table, first=ctx.needs_input_grad[7])
        share(steps.N, backward_pass)
        operands = steps.operands[: steps.T].view(-1, steps.H)
        dW = product_transposed(steps.delta.flatten(0, 1), operands).to(ctx.weight_dtype)
        dh, dc = backward_pass.first_gradient(), steps.gradient_of_c()
        return None, None, backward_pass.of_rows(), None, None, dW, backward_pass.of_bias(), dh, dc


class _Reading:
    """All steps of some rows, forwards."""

    def __init__(self, steps: Steps, W: Tensor) -> None:
        self._steps, self._weight = steps, Weight(W, share_of(steps.N))

    def __call__(self, first: int, last: int) -> None:
        """Make them."""
        steps, weight = self._steps, self._weight
        if weight.panels is not None:
            steps.forward(first, last, weight.panels)
            return
        for t, operand in enumerate(steps.operands[:-1, first:last].unbind(0)):
            steps.step_forward(t, first, weight(operand))


class _Backward:
    """All steps of some rows, backwards, and the sums of their gradients.

    Args:
        steps: of the layer.
        W: recurrent weight, operands, (G * H, H).
        grad_h: gradient of the last state, beside that of all states; float32, (N, H).
        table: number of its rows, and which each step has read; None without one.
        first: whether the gradient of the first state is wanted.
    """

    def __init__(
        self,
        steps: Steps,
        W: Tensor,
        grad_h: Tensor,
        table: tuple[int, Tensor] | None,
        *,
        first: bool,
    ) -> None:
        self._steps, self._weight = steps, Weight(W, share_of(steps.N), transposed=True)
        self._grad_h = grad_h
        self._products = torch.empty(steps.N, steps.H) if first else None
        self._table = Sums(*table, steps.of_inputs()) if table is not None else None
        bias, only_row = steps.of_bias(), torch.zeros(steps.T, steps.N, dtype=torch.int64)
        self._bias = Sums(1, only_row, (bias,)) if bias is not None else None

    def __call__(self, first: int, last: int) -> None:
        """Back-propagate through the rows' steps."""
        product = self._all_steps(first, self._grad_h[first:last])
        if self._products is not None:
            self._products[first:last] = product
        for sums in filter(None, (self._table, self._bias)):
            sums.add(first, last)

    def _all_steps(self, first: int, product: Tensor) -> Tensor:
        steps, weight, wanted = self._steps, self._weight, self._products is not None
        if weight.panels is not None:
            return steps.backward(first, product, weight.panels, wanted=wanted)
        product = product.to(steps.dtype)
        for t in reversed(range(steps.T)):
            steps.step_backward(t, first, product)
            if t > 0 or wanted:
                product = weight(steps.delta[t, first : first + len(product)])
        return product

    def of_rows(self) -> Tensor:
        """Return the gradient of the rows that the steps have added."""
        if self._table is not None:
            return self._table.total()
        parts = [columns.tensor for columns in self._steps.of_inputs()]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 2)).flatten(0, 1)

    def of_bias(self) -> Tensor | None:
        """Return the gradient of a GRU's recurrent bias of n, (H,)."""
        return self._bias.total()[0] if self._bias is not None else None

    def first_gradient(self) -> Tensor | None:
        """Return the gradient of the state before the window, if it was wanted."""
        past = self._steps.past_the_product()
        if self._products is None or past is None:
            return self._products
        return self._products + past
