"""A recurrent layer over a window as one differentiable operation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.recurrence.steps import GRUSteps, LSTMSteps, ReLUSteps, Steps, TanhSteps
from training.recurrence.weight import Weight
from training.settings import Cell


class Layer(torch.autograd.Function):
    """Run a layer over a window; the way back is truncated at its start.

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
        weight: Tensor,
        bias: Tensor,
        h: Tensor,
        c: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Run the layer.

        Args:
            ctx: of torch's.
            cell: which.
            dtype: of the operands of products.
            rows: input times input weights, with the biases: (T, N, G * H), or a table of V rows.
            tokens: which row of the table each step reads, (T, N); None where there is no table.
            weight: recurrent, (G * H, H).
            bias: recurrent, of a GRU's n.
            h: state before the window, (N, H).
            c: an LSTM's cell state, too.

        Returns:
            The states after all steps, (T, N, H), and an LSTM's last cell state.
        """
        T, N = tokens.shape if tokens is not None else rows.shape[:2]
        steps = _steps(cell, h, c, T, dtype, bias)
        W = weight.to(dtype)  # (G * H, H)
        times_weight, wide = Weight(W, N), torch.empty(N, len(W))
        table = steps.table(rows) if tokens is not None else None
        for t in range(T):
            product = times_weight(steps.operand(t))
            if steps.low:
                product = wide.copy_(product)
            gates = steps.gates(t)
            if tokens is not None and table is not None:
                torch.index_select(table, 0, tokens[t], out=gates)
                gates[:, : len(W)].add_(product)
            else:
                steps.enter(gates, rows[t], product)
            steps.forward(t, gates)
        ctx.steps, ctx.rows = steps, len(rows)
        ctx.save_for_backward(W, tokens)
        last_c = steps.c if isinstance(steps, LSTMSteps) else torch.empty(0)
        return steps.states[1:], last_c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor, grad_c: Tensor) -> Any:
        """Return the gradients of rows, weight, bias, h and c."""
        steps: Steps = ctx.steps
        W, tokens = ctx.saved_tensors
        T, N, H = grad_states.shape
        delta = torch.empty(T, N, len(W), dtype=W.dtype)
        inputs = _Inputs(steps, tokens, ctx.rows, delta.shape)
        steps.begin_backward(grad_c)
        dh = _back_through_time(steps, W, grad_states, delta, inputs, ctx.needs_input_grad[6])
        dW = torch.mm(delta.flatten(0, 1).t(), steps.operands[:T].view(T * N, H)).float()
        dbias = steps.grad_bias.sum(0) if isinstance(steps, GRUSteps) else None
        dc = steps.grad_c if isinstance(steps, LSTMSteps) else None
        return None, None, inputs.gradient(), None, dW, dbias, dh, dc


def _steps(cell: Cell, h: Tensor, c: Tensor, T: int, dtype: torch.dtype, bias: Tensor) -> Steps:
    match cell:
        case "gru":
            return GRUSteps(h, T, dtype, bias)
        case "lstm":
            return LSTMSteps(h, T, dtype, c)
        case "rnn_tanh":
            return TanhSteps(h, T, dtype)
        case "rnn_relu":
            return ReLUSteps(h, T, dtype)


class _Inputs:
    """Gathers the gradient of the rows: one of each step's, or a sum for each row of the table."""

    def __init__(self, steps: Steps, tokens: Tensor | None, rows: int, shape: torch.Size) -> None:
        self._steps, self._tokens = steps, tokens
        self._sums: list[Tensor] | None = None
        self._rows, self._each = rows, torch.empty(shape if tokens is None else 0)

    def add(self, t: int, delta: Tensor) -> None:
        """Take in step t's gradient, (N, G * H), while it is in the cache."""
        parts = self._steps.parts(delta)
        if self._tokens is None:
            self._each[t].copy_(self._steps.join(parts))
            return
        if self._sums is None:
            self._sums = [part.new_zeros(self._rows, part.shape[1]) for part in parts]
        for total, part in zip(self._sums, parts, strict=True):
            total.index_add_(
                0, self._tokens[t], part
            )  # a part of a tensor takes four times as long

    def gradient(self) -> Tensor:
        """Return it."""
        return self._each if self._sums is None else self._steps.join(self._sums)


def _back_through_time(
    steps: Steps, W: Tensor, grad_states: Tensor, delta: Tensor, inputs: _Inputs, wants_dh: bool
) -> Tensor | None:
    """Write the gradients of the products; return that of the state before the window."""
    T, N, H = grad_states.shape
    times_weight, wide = Weight(W.t(), N), torch.empty(N, len(W))
    before = (torch.zeros(N, H) if wants_dh else None, *grad_states.unbind(0))
    dh = grad_states[-1].clone()
    for t in reversed(range(T)):
        gates = wide if steps.low else delta[t]
        steps.backward(t, dh, gates)
        if steps.low:
            delta[t].copy_(gates)
        inputs.add(t, gates)
        incoming = before[t]
        if incoming is None:
            return None
        torch.add(steps.carry(t, dh, incoming), times_weight(delta[t]), out=dh)
    return dh
