"""inspect.onnx: the loop's own steps over a text that is given, with all that they hold.

    in   tokens   (time, batch) int64      the symbols to consume
         alternative_rows, alternative_count   as in decode-full.onnx
         h_0 (and c_0)  (layers, batch, hidden) float
    out  log_probs (time, batch, vocabulary) float   of every symbol after each step
         alternative_ids, alternative_log_probs
         h (and c) (time, layers, batch, hidden) float   after each step
         h_n (and c_n)

A step is that of decode.onnx, so what comes is what the loop itself works with, bit for bit.
"""

import numpy as np
import onnx

from export.drawing.alternatives import find_alternatives
from export.graph.arithmetic import Arithmetic
from export.graph.cells import RecurrentState, recurrent_step
from export.graph.graph import Graph, Shape, WeightFile
from export.graph.weights import ModelWeights
from export.loop.nodes import cast, enter, give_state, leave, take_state


def compile_inspect(
    model: ModelWeights, arithmetic: Arithmetic, file: WeightFile
) -> onnx.ModelProto:
    """Write the graph of a model."""
    g = Graph("inspect", file)
    tokens = g.input("tokens", np.int64, ["time", "batch"])
    shape = model.state_shape
    inputs = {name: g.input(f"{name}_0", np.float32, shape) for name in model.state_names}
    state = enter(g, model, arithmetic, inputs, axis=0)
    floats = [tensor for layers in state.tensors.values() for tensor in layers]
    outputs = g.ops(
        "Scan",
        *state.names,
        tokens,
        count=len(state.names) + 1 + len(floats),
        body=_body(g, model, arithmetic, state),
        num_scan_inputs=1,
    )
    after, logits, held = (
        outputs[: len(state.names)],
        outputs[len(state.names)],
        outputs[-len(floats) :],
    )
    log_probs = g.op("LogSoftmax", logits, axis=2)
    found = find_alternatives(g, logits, log_probs)
    g.output(log_probs, "log_probs", np.float32, ["time", "batch", model.vocabulary_size])
    asked: Shape = ["time", "asking", "count"]
    g.output(found.ids, "alternative_ids", np.int64, asked)
    g.output(found.log_probs, "alternative_log_probs", np.float32, asked)
    for name, layers in state.renamed(held).tensors.items():
        g.output(leave(g, arithmetic, layers, axis=1), name, np.float32, ["time", *shape])
    for name, layers in state.renamed(after).tensors.items():
        g.output(leave(g, arithmetic, layers, axis=0), f"{name}_n", np.float32, shape)
    return g.model()


def _body(
    outer: Graph, model: ModelWeights, arithmetic: Arithmetic, state: RecurrentState
) -> onnx.GraphProto:
    """One step: the state and a symbol in, the state and all that is collected out."""
    g = outer.body("step")
    row: Shape = ["batch", model.hidden_size]
    before = take_state(g, model, arithmetic, state)
    token = g.input("token", np.int64, ["batch"])
    terms, new = recurrent_step(g, arithmetic, model, token, before)
    logits = arithmetic.affine(g, "decoder", terms, model.decoder_bias)
    give_state(g, model, arithmetic, new)
    logits = cast(g, logits, arithmetic.dtype, np.float32)
    g.output(logits, "logits_t", np.float32, ["batch", model.vocabulary_size])
    for i, tensor in enumerate(new.names[: len(new.names) - len(new.activations)]):
        g.output(tensor, f"held{i}", arithmetic.dtype, row)
    return g.proto()
