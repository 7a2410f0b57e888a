"""A layer as ONNX's own operator: RNN, GRU or LSTM.

They are defined on https://onnx.ai/onnx/operators. On CUDA, ONNX Runtime runs them with cuDNN.
"""

from typing import Any

import numpy as np

from export.graph.graph import Graph
from export.graph.weights import Array, LayerWeights

OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn_tanh": ("RNN", {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "lstm": ("LSTM", {}),
}


def recurrent_operator(
    g: Graph,
    cell: str,
    name: str,
    weights: LayerWeights,
    x: str,
    state: list[str],
    *,
    dtype: type[np.floating[Any]] = np.float32,
    one_step: bool = False,
) -> list[str]:
    """Append one layer.

    Args:
        g: where the nodes go.
        cell: rnn_tanh, rnn_relu, gru or lstm.
        name: prefix of the weights' names.
        weights: of the layer.
        x: what the layer reads, (T, N, E or H).
        state: h, and c of an LSTM, before the first symbol, (1, N, H) each.
        dtype: float32 or float16, of weights and tensors.
        one_step: T is 1. Then h after the step is the operator's one output, not a copy of it.

    Returns:
        What the layer gives, (T, N, H), then the state after the last symbol, (1, N, H) each.
    """
    kind, attributes = OPERATORS[cell]

    def weight(part: str, array: Array) -> str:
        # A view stays one where nothing is converted, so that its bytes are stored once.
        return g.weight(f"{name}.{part}", array if array.dtype == dtype else array.astype(dtype))

    without_h = one_step and len(state) == 1
    y, *last = g.ops(
        kind,
        x,
        weight("W", weights.W[None]),
        weight("R", weights.R[None]),
        weight("B", np.concatenate([weights.Wb, weights.Rb])[None]),
        "",  # sequence_lens: all rows are full
        *state,
        count=1 if without_h else 1 + len(state),
        unused=1 if one_step and not without_h else None,
        hidden_size=weights.hidden_size,
        **attributes,
    )
    outputs = g.op("Squeeze", y, g.constant("axes_1", [1], np.int64))  # (T, N, H)
    return [outputs, outputs, *last[1:]] if one_step else [outputs, *last]
