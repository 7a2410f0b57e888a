"""A plain ONNX Loop over steps with the sampler inside, for runtimes that are not ONNX Runtime.

in   uniform (time, batch), state tensors (layers, batch, hidden)
out  tokens_out (time, batch)

One that is forced takes `forced` (time, batch) int64 in place of `uniform` and gives `logits`
(time, batch, vocabulary). One in 8 bits has its weights so, each output's with a scale of its own.
"""

from collections.abc import Callable

import numpy as np
import onnx

from benchmarks.decode.peers.cells import Folded, fold
from benchmarks.decode.peers.peer import START
from export.graph.graph import Graph, Shape, WeightFile
from export.graph.weights import Array, ModelWeights

Old = dict[str, str]
"""Names of h (and c) of one layer before its step, each (N, H)."""

Product = Callable[[Graph, str, str, Array, Array], str]


def compile_plain_loop(
    model: ModelWeights, file: WeightFile, *, is_int8: bool = False, is_forced: bool = False
) -> onnx.ModelProto:
    """Write the graph of a model."""
    g = Graph("plain_loop", file)
    name, dtype = ("forced", np.int64) if is_forced else ("uniform", np.float32)
    given = g.input(name, dtype, ["time", "batch"])
    state = [g.input(f"{name}_0", np.float32, model.state_shape) for name in model.state_names]
    layers = [
        g.op("Gather", tensor, g.constant(f"layer_{index}", index, np.int64), axis=0)
        for index in range(len(model.layers))
        for tensor in state
    ]
    start = g.constant("start", [START], np.int64)
    tokens = g.op("Expand", start, g.op("Shape", given, start=1))
    trips = g.op("Shape", given, end=1)
    product = _product_of_bytes if is_int8 else _product
    body = _body(g, model, given, product, is_forced)
    *_, told = g.ops("Loop", trips, "", tokens, *layers, count=len(layers) + 2, body=body)
    if is_forced:
        g.output(told, "logits", np.float32, ["time", "batch", model.vocabulary_size])
    else:
        g.output(told, "tokens_out", np.int64, ["time", "batch"])
    return g.model()


def _body(
    outer: Graph, model: ModelWeights, given: str, product: Product, is_forced: bool
) -> onnx.GraphProto:
    g = outer.body("step")
    t = g.input("t", np.int64, [])
    go_on = g.input("go_on", np.bool_, [])
    token = g.input("token", np.int64, ["batch"])
    row: Shape = ["batch", model.hidden_size]
    old = [
        {name: g.input(f"{name}{index}", np.float32, row) for name in model.state_names}
        for index in range(len(model.layers))
    ]
    x, new = token, []
    for index, layer in enumerate(fold(model)):
        new.append(_advance(g, product, model.cell, index, layer, x, old[index]))
        x = new[-1]["h"]
    logits = product(g, "decoder", x, model.networks[0].decoder, model.decoder_bias)
    now = g.op("Gather", given, t, axis=0)
    chosen = now if is_forced else _draw(g, logits, now)
    g.output(go_on, "goes_on", np.bool_, [])
    g.output(chosen, "chosen", np.int64, ["batch"])
    for index, tensors in enumerate(new):
        for name, tensor in tensors.items():
            g.output(tensor, f"{name}{index}_new", np.float32, row)
    if is_forced:
        g.output(logits, "told", np.float32, ["batch", model.vocabulary_size])
    else:
        g.output(chosen, "written", np.int64, ["batch"])
    return g.proto()


def _product(g: Graph, name: str, x: str, W: Array, b: Array) -> str:
    return g.op("Gemm", x, g.weight(f"{name}.W", W), g.weight(f"{name}.b", b), transB=1)


def _product_of_bytes(g: Graph, name: str, x: str, W: Array, b: Array) -> str:
    scale = np.abs(W).max(1) / 127
    integers = np.round(W / scale[:, None]).astype(np.int8)
    weight = g.op(
        "DequantizeLinear",
        g.weight(f"{name}.W", integers),
        g.weight(f"{name}.scale", scale.astype(np.float32)),
        axis=0,
    )
    return g.op("Gemm", x, weight, g.weight(f"{name}.b", b), transB=1)


def _draw(g: Graph, logits: str, u: str) -> str:
    """Sample (N, V) at (N,) by inverse CDF; (N,)."""
    one = g.constant("one", 1, np.int64)
    axes = g.constant("axes_1", [1], np.int64)
    cdf = g.op("CumSum", g.op("Softmax", logits, axis=1), one)
    total = g.op("Gather", cdf, g.constant("last", [-1], np.int64), axis=1)  # (N, 1)
    threshold = g.op("Mul", g.op("Unsqueeze", u, axes), total)
    below = g.op("Cast", g.op("LessOrEqual", cdf, threshold), to=onnx.TensorProto.INT64)
    return g.op("ReduceSum", below, axes, keepdims=0)


def _advance(
    g: Graph, product: Product, cell: str, index: int, layer: Folded, x: str, old: Old
) -> Old:
    """Append one layer's step; x is the token in the first layer, else the h below."""
    name = f"layer{index}"
    if index:
        share = product(g, f"{name}.input", x, layer.input, layer.bias)
    else:
        share = g.op("Gather", g.weight(f"{name}.table", layer.input), x, axis=0)
    zero = np.zeros(len(layer.R), np.float32)
    if cell == "gru":
        zero[-len(layer.held_out) :] = layer.held_out
    recurrent = product(g, f"{name}.recurrent", old["h"], layer.R, zero)
    return STEPS[cell](g, share, recurrent, old)


def _gru(g: Graph, share: str, recurrent: str, old: Old) -> Old:
    from_x, from_h = (g.ops("Split", part, count=3, axis=1) for part in (share, recurrent))
    z, r = (g.op("Sigmoid", g.op("Add", from_x[i], from_h[i])) for i in (0, 1))
    n = g.op("Tanh", g.op("Add", from_x[2], g.op("Mul", r, from_h[2])))
    return {"h": g.op("Add", n, g.op("Mul", z, g.op("Sub", old["h"], n)))}


def _lstm(g: Graph, share: str, recurrent: str, old: Old) -> Old:
    i, o, f, c = g.ops("Split", g.op("Add", share, recurrent), count=4, axis=1)
    i, o, f = (g.op("Sigmoid", gate) for gate in (i, o, f))
    c = g.op("Add", g.op("Mul", f, old["c"]), g.op("Mul", i, g.op("Tanh", c)))
    return {"h": g.op("Mul", o, g.op("Tanh", c)), "c": c}


def _rnn(activation: str) -> Callable[[Graph, str, str, Old], Old]:
    def step(g: Graph, share: str, recurrent: str, old: Old) -> Old:
        return {"h": g.op(activation, g.op("Add", share, recurrent))}

    return step


STEPS: dict[str, Callable[[Graph, str, str, Old], Old]] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn_tanh": _rnn("Tanh"),
    "rnn_relu": _rnn("Relu"),
}
