"""One step of every cell for a library with numpy's operators, as its users would write it fast.

The input's share of the first layer's gates is a row of a table, as in the compiled loop, and each
of the other products is as wide as it can be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.graph.weights import Array, LayerWeights, ModelWeights


@dataclass(frozen=True, kw_only=True)
class Folded:
    """One layer; G gates in ONNX's order.

    Attributes:
        input: (V, G * H) in the first layer, a row for each symbol; else W, (G * H, H).
        bias: (G * H,); zero in the first layer, whose table holds it.
        R: (G * H, H).
        held_out: what a GRU adds to its last gate's recurrent product, (H,); else empty.
    """

    input: Array
    bias: Array
    R: Array
    held_out: Array


def fold(model: ModelWeights) -> list[Folded]:
    """Bring the layers of a model of one network into the form that a step needs."""
    (network,) = model.networks
    return [
        _fold(model.cell, layer, None if index else network.embedding)
        for index, layer in enumerate(network.layers)
    ]


def _fold(cell: str, layer: LayerWeights, embedding: Array | None) -> Folded:
    bias, held_out = layer.Wb + layer.Rb, layer.Rb[:0]
    if cell == "gru":
        H = layer.hidden_size
        bias, held_out = bias.copy(), layer.Rb[2 * H :]
        bias[2 * H :] = layer.Wb[2 * H :]
    if embedding is None:
        return Folded(input=layer.W, bias=bias, R=layer.R, held_out=held_out)
    table = embedding.astype(np.float64) @ layer.W.T.astype(np.float64) + bias
    return Folded(
        input=table.astype(np.float32), bias=np.zeros_like(bias), R=layer.R, held_out=held_out
    )


def advance(
    cell: str,
    share: Any,
    recurrent: Any,
    old: tuple[Any, ...],
    held_out: Any,
    sigmoid: Callable[[Any], Any],
    tanh: Callable[[Any], Any],
) -> tuple[Any, ...]:
    """Make one layer's step.

    Args:
        cell: rnn_tanh, rnn_relu, gru or lstm.
        share: the input's share of the gates, (N, G * H).
        recurrent: R h, (N, G * H).
        old: h and, for an LSTM, c, each (N, H).
        held_out: see Folded.
        sigmoid: the library's.
        tanh: the library's.

    Returns:
        The new h (and c).
    """
    h = old[0]
    H = h.shape[1]
    if cell == "gru":
        zr = sigmoid(share[:, : 2 * H] + recurrent[:, : 2 * H])
        z, r = zr[:, :H], zr[:, H:]
        n = tanh(share[:, 2 * H :] + r * (recurrent[:, 2 * H :] + held_out))
        return (n + z * (h - n),)
    gates = share + recurrent
    if cell == "lstm":
        iof = sigmoid(gates[:, : 3 * H])
        c = iof[:, 2 * H :] * old[1] + iof[:, :H] * tanh(gates[:, 3 * H :])
        return iof[:, H : 2 * H] * tanh(c), c
    return (tanh(gates) if cell == "rnn_tanh" else gates.clip(0),)
