"""step.onnx: a block of symbols in, logits out, in standard ONNX operators.

    in   tokens  (time, batch) int64
         h_0 (and c_0)  (layers, batch, hidden) float
    out  logits  (time, batch, vocabulary) float
         h_n (and c_n)

The graph that any ONNX runtime can run, and that shows in one page what the model computes.
"""

from typing import Any

import numpy as np
import onnx

from export.graph import Graph, WeightFile
from export.weights import LayerWeights, ModelWeights

OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn_tanh": ("RNN", {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "lstm": ("LSTM", {}),
}


def compile_step(model: ModelWeights, file: WeightFile) -> onnx.ModelProto:
    """Write the graph of a model."""
    g = Graph("step", file)
    tokens = g.input("tokens", np.int64, ["time", "batch"])
    old = {
        name: _layers(g, g.input(f"{name}_0", np.float32, model.state_shape), model)
        for name in model.state_names
    }
    new: dict[str, list[str]] = {name: [] for name in model.state_names}
    logits = g.weight("decoder.b", model.decoder_bias)
    for number, network in enumerate(model.networks):
        embedding = g.weight(f"embedding{number}", network.embedding)
        x = g.op("Gather", embedding, tokens, axis=0)  # (T, N, E)
        for layer in network.layers:
            index = len(new["h"])
            state = [tensors[index] for tensors in old.values()]
            y, *last = _layer(g, model.cell, f"layer{index}", layer, x, state)
            x = g.op("Squeeze", y, g.constant("axes_1", [1], np.int64))  # (T, N, H)
            for name, tensor in zip(model.state_names, last, strict=True):
                new[name].append(tensor)
        weight = g.weight(f"decoder.W{number}", network.decoder)
        product = g.op("MatMul", x, g.op("Transpose", weight, perm=[1, 0]))
        logits = g.op("Add", product, logits)
    g.output(logits, "logits", np.float32, ["time", "batch", model.vocabulary_size])
    for name, tensors in new.items():
        g.output(g.op("Concat", *tensors, axis=0), f"{name}_n", np.float32, model.state_shape)
    return g.model()


def _layers(g: Graph, tensor: str, model: ModelWeights) -> list[str]:
    """Take (L, N, H) apart into L tensors of (1, N, H)."""
    if len(model.layers) == 1:
        return [tensor]
    return g.ops("Split", tensor, count=len(model.layers), axis=0)


def _layer(
    g: Graph, cell: str, name: str, weights: LayerWeights, x: str, state: list[str]
) -> list[str]:
    """Append one recurrent operator; return Y (T, 1, N, H) and the last states (1, N, H)."""
    kind, attributes = OPERATORS[cell]
    return g.ops(
        kind,
        x,
        g.weight(f"{name}.W", weights.W[None]),
        g.weight(f"{name}.R", weights.R[None]),
        g.weight(f"{name}.B", np.concatenate([weights.Wb, weights.Rb])[None]),
        "",  # sequence_lens: all rows are full
        *state,
        count=1 + len(state),
        hidden_size=weights.hidden_size,
        **attributes,
    )
