"""Recurrent layers one above the other, with torch's weights under torch's names."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from training.recurrence.layer import Layer
from training.recurrence.linear import linear
from training.settings import Cell

Weights = Mapping[str, Tensor]


def run_stack(
    cell: Cell,
    weights: Weights,
    embedding: Tensor,
    tokens: Tensor,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype,
    dropout: Callable[[Tensor], Tensor],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Read tokens through all layers on the CPU; gradients flow back to the window's start.

    The first layer's input is one of V vectors, so its product with the input weights is a table
    of V rows, made once a window and looked up at each step.

    Args:
        cell: of all layers.
        weights: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0` and so on, as torch.nn
            has them.
        embedding: shape (V, E).
        tokens: token ids, int64, shape (T, N).
        state: `h` and, for an LSTM, `c`, float32, shape (L, N, H).
        dtype: of products' operands, float32 or bfloat16.
        dropout: is applied to the outputs that go from layer to layer.

    Returns:
        The last layer's outputs, of that dtype, shape (T, N, H), and the float32 state after them.
    """
    below, last = embedding, dict[str, list[Tensor]]()
    for layer, h in enumerate(state["h"]):
        ih, hh, bias, bias_n = _of_layer(cell, weights, layer)
        if layer == 0:
            index, rows = tokens, F.linear(embedding, ih, bias)
        else:
            index, rows = None, linear(below.flatten(0, 1), ih.to(dtype), bias)
        c = state["c"][layer] if "c" in state else h.new_empty(0)
        arguments = (cell, dtype, rows, index, tuple(tokens.shape), hh, bias_n, h, c)
        below, *after = Layer.apply(*arguments)  # type: ignore[no-untyped-call]  # (T, N, H)
        for name, tensor in zip(("h", "c"), after, strict=True):
            last.setdefault(name, []).append(tensor)
        if layer + 1 < len(state["h"]):
            below = dropout(below)
    return below, {name: torch.stack(last[name]) for name in state}


def _of_layer(cell: Cell, weights: Weights, layer: int) -> tuple[Tensor, ...]:
    """Return W_ih, W_hh, the bias of the gates, and the one within a GRU's n."""
    ih, hh, b_ih, b_hh = (
        weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    if cell != "gru":
        return ih, hh, b_ih + b_hh, b_hh.new_empty(0)
    gates = 2 * hh.shape[1]  # r and z; torch adds the bias of n before the reset gate acts
    return ih, hh, b_ih + F.pad(b_hh[:gates], (0, hh.shape[1])), b_hh[gates:]
