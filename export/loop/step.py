"""step.onnx: a block of symbols in, logits out, in standard ONNX operators.

    in   tokens  (time, batch) int64
         h_0 (and c_0)  (layers, batch, hidden) float
    out  logits  (time, batch, vocabulary) float
         h_n (and c_n)

The graph that any ONNX runtime can run, and that shows in one page what the model computes.
"""

import numpy as np
import onnx

from export.graph.graph import Graph, WeightFile
from export.graph.operators import recurrent_operator
from export.graph.weights import ModelWeights


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
            x, *last = recurrent_operator(g, model.cell, f"layer{index}", layer, x, state)
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
