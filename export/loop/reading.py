"""read.onnx: the loop over symbols that are all given, without the sampler.

    in   tokens   (batch) int64         the last symbol, not yet consumed
         forced   (time, batch) int64   the symbols that come next
         steps    (batch) int64         after so many steps, a row keeps its state as it is
         asked    (asked) int64         places in forced whose log-probabilities are wanted
         h_0 (and c_0)  (layers, batch, hidden) float
    out  log_probs (asked) float        of the symbols at these places, as decode.onnx tells them
         h_n (and c_n)

What no symbol waits for is done in one go, a product for the logits of all places, and is not done
where nobody asks. All bits are those of decode.onnx.
"""

import numpy as np
import onnx

from export.graph.arithmetic import Arithmetic, Term
from export.graph.cells import RecurrentState, recurrent_step
from export.graph.graph import Graph, Shape, WeightFile
from export.graph.weights import ModelWeights
from export.loop.nodes import (
    cast,
    enter,
    give_state,
    is_alive_at,
    keep_alive,
    leave,
    log_probs_of,
    take_state,
)


def compile_read(model: ModelWeights, arithmetic: Arithmetic, file: WeightFile) -> onnx.ModelProto:
    """Write the graph of a model."""
    g = Graph("read", file)
    token = g.input("tokens", np.int64, ["batch"])
    forced = g.input("forced", np.int64, ["time", "batch"])
    is_alive = is_alive_at(g, g.input("steps", np.int64, ["batch"]))
    shape = model.state_shape
    inputs = {name: g.input(f"{name}_0", np.float32, shape) for name in model.state_names}
    state = enter(g, model, arithmetic, inputs, axis=0)
    tops: list[Term] = []
    outputs = g.ops(
        "Scan",
        *state.names,
        _consumed(g, token, forced),
        is_alive,
        count=len(state.names) + len(model.networks),
        body=_body(g, model, arithmetic, state, tops),
        num_scan_inputs=2,
    )
    after, collected = outputs[: len(state.names)], outputs[len(state.names) :]
    asked = g.input("asked", np.int64, ["asked"])
    terms = [
        Term(h=_at(g, h, [-1, model.hidden_size], asked), layer=top.layer, W=top.W)
        for h, top in zip(collected, tops, strict=True)
    ]
    logits = arithmetic.affine(g, "decoder", terms, model.decoder_bias)  # (asked, V)
    logits = cast(g, logits, arithmetic.dtype, np.float32)
    chosen = _at(g, forced, [-1], asked)
    log_probs = log_probs_of(g, g.op("LogSoftmax", logits, axis=1), chosen, axis=1)
    g.output(log_probs, "log_probs", np.float32, ["asked"])
    for name, layers in state.renamed(after).tensors.items():
        g.output(leave(g, arithmetic, layers, axis=0), f"{name}_n", np.float32, shape)
    return g.model()


def _consumed(g: Graph, token: str, forced: str) -> str:
    """The symbol that each step consumes: the one that came in the step before, (T, N)."""
    first, last = g.constant("first_id", [0], np.int64), g.constant("minus_one_1", [-1], np.int64)
    now = g.op("Unsqueeze", token, g.constant("axes_0", [0], np.int64))
    return g.op("Concat", now, g.op("Slice", forced, first, last), axis=0)


def _at(g: Graph, tensor: str, shape: list[int], places: str) -> str:
    """Take a tensor (T, N, ...) at some places, counted through steps and rows, (places, ...)."""
    name = "_".join(["shape", *map(str, shape)])
    rows = g.op("Reshape", tensor, g.constant(name, shape, np.int64))
    return g.op("Gather", rows, places, axis=0)


def _body(
    outer: Graph,
    model: ModelWeights,
    arithmetic: Arithmetic,
    state: RecurrentState,
    tops: list[Term],
) -> onnx.GraphProto:
    """One step; `tops` gets the decoder's terms."""
    g = outer.body("step")
    row: Shape = ["batch", model.hidden_size]
    old = take_state(g, model, arithmetic, state)
    token = g.input("token", np.int64, ["batch"])
    is_alive = g.input("is_alive_t", np.bool_, ["batch", 1])
    terms, new = recurrent_step(g, arithmetic, model, token, old)
    tops += terms
    give_state(g, model, arithmetic, keep_alive(g, is_alive, new, old))
    dtype = np.uint8 if arithmetic.carries_activations else arithmetic.dtype
    for i, term in enumerate(terms):
        g.output(term.h, f"top{i}", dtype, row)
    return g.proto()
