"""A recurrent layer over a window as one differentiable operation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from training.recurrence.steps import GRUSteps, LSTMSteps, ReLUSteps, Steps, TanhSteps
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
        """Run the layer; see `run_layer`."""
        T, N = tokens.shape if tokens is not None else rows.shape[:2]
        steps = _steps(cell, h, c, T, dtype, bias)
        W = weight.to(dtype)  # (G * H, H)
        product = torch.empty(N, len(W), dtype=dtype)
        gates = torch.empty(N, len(W)) if steps.low else product
        x = torch.empty(N, len(W))
        for t in range(T):
            torch.mm(steps.operand(t), W.t(), out=product)
            if steps.low:
                gates.copy_(product)
            if tokens is None:
                x = rows[t]
            else:
                torch.index_select(rows, 0, tokens[t], out=x)
            steps.forward(t, gates, x)
        ctx.steps, ctx.vocabulary_size = steps, len(rows)
        ctx.save_for_backward(W, tokens)
        last_c = steps.c if isinstance(steps, LSTMSteps) else torch.empty(0)
        return steps.states[1:], last_c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Return the gradients of rows, weight, bias, h and c."""
        steps: Steps = ctx.steps
        W, tokens = ctx.saved_tensors
        delta, dh = _back_through_time(steps, W, *gradients)
        T, N, _, H = delta.shape
        of_gates = delta.view(T * N, -1)[:, : steps.G * H]
        dW = torch.mm(of_gates.t(), steps.operands[:T].reshape(T * N, H)).float()
        drows = _by_row(delta, tokens, ctx.vocabulary_size)  # (rows, F, H)
        dbias = drows[:, 2].sum(0) if isinstance(steps, GRUSteps) else None
        if len(steps.INPUT_BLOCKS) != steps.F:
            drows = drows[:, list(steps.INPUT_BLOCKS)]
        shape = (-1, steps.G * H) if tokens is not None else (T, N, steps.G * H)
        dc = steps.grad_c if isinstance(steps, LSTMSteps) else None
        return None, None, drows.reshape(shape), None, dW, dbias, dh, dc


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


def _back_through_time(
    steps: Steps, W: Tensor, grad_states: Tensor, grad_c: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of all gates, (T, N, F, H), and of the state before the window."""
    T, N, H = grad_states.shape
    delta = torch.empty_like(steps.factors)
    deltas, incoming = delta.unbind(0), (torch.zeros(N, H), *grad_states.unbind(0))
    dh, product = incoming[T].clone(), torch.empty(N, H, dtype=W.dtype)
    steps.begin_backward(grad_c)
    for t in reversed(range(T)):
        steps.backward(t, dh, deltas[t])
        base = steps.carry(t, dh, incoming[t])
        gates = deltas[t].view(N, -1)[:, : len(W)]
        if steps.low:
            torch.mm(gates, W, out=product)
            torch.add(base, product, out=dh)
        else:
            torch.addmm(base, gates, W, out=dh)
    return delta, dh


def _by_row(delta: Tensor, tokens: Tensor | None, rows: int) -> Tensor:
    """Sum gradients (T, N, F, H) by the token that they belong to, as a product with ones."""
    if tokens is None:
        return delta.flatten(0, 1).float()  # (T * N, F, H)
    ones = F.one_hot(tokens.flatten(), rows).to(delta.dtype)  # (T * N, V)
    return torch.mm(ones.t(), delta.flatten(0, 1).flatten(1)).float().view(rows, *delta.shape[2:])
