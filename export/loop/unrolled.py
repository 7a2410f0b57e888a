"""unrolled-<length>.onnx: the loop's body, a fixed number of times, for CUDA graphs.

A CUDA graph can capture no loop, and what it captures reads and writes fixed addresses. So these
graphs have a fixed length, and all that outlives a loop run lies in buffers that they use:

    in   slots    (batch) int64         where each row's state lies in h_0
         start    (1) int64             the step of the loop run at which these steps begin
         tokens   (batch) int64         the last symbol, not yet consumed
         forced, uniform (time, batch)  of the whole loop run, as in decode.onnx
         steps    (batch) int64         counted from the run's first step, as in decode.onnx
         temperature (batch) float; with filters also top_k, top_p and min_p
         h_0 (and c_0)  (slots, layers, hidden)   of every slot; a slot's state in one piece
         tokens_out_0, log_probs_0 (time, batch)  what earlier steps of the loop run wrote
    out  tokens_out, log_probs (time, batch)      the same with the rows from `start` on written
         tokens_n (batch) int64         the last symbol, for the steps that follow
         h_n (and c_n)  (slots, layers, hidden)   the same with the rows' states written

Each output may lie in its input's place: whatever reads the input comes before the one node that
writes the output, by the flow of data. No node asks for a shape, so every node has a place on the
device.

What a kernel does costs less than that there is one: of a GRU 512x3's step in primitive operators,
74 kernels took 132 us on an H100 for one row. So each layer is ONNX's own operator, which
ONNX Runtime hands to cuDNN; a row that has ended goes on with what means nothing, and the state
that it ended in is picked once a graph; and what is written to a pool is written by
ScatterElements, a thread an element, where ScatterND would take a thread a row.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from export.drawing.sampler import Sampler, draw, prepare, probabilities, that_may_be_drawn
from export.graph.arithmetic import Arithmetic, Term
from export.graph.graph import Graph, WeightFile
from export.graph.operators import recurrent_operator
from export.graph.weights import LayerWeights, ModelWeights
from export.loop.nodes import cast, log_probs_of
from unroll.bundle.manifest import BATCH, SLOTS, TIME, UNROLLED, Unrolled

State = dict[str, list[str]]
"""For "h" (and "c"), one tensor (1, N, H) a layer."""


def compile_unrolled(
    model: ModelWeights, arithmetic: Arithmetic, file: WeightFile
) -> dict[str, onnx.ModelProto]:
    """Write all unrolled graphs of a model, by their files' names."""
    return {kind.name: _Compiler(model, arithmetic, file, kind).compile() for kind in UNROLLED}


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What one step gives: logits (N, V), the symbol that comes next (N,), the state after it."""

    logits: str
    chosen: str
    state: State


class _Compiler:
    def __init__(
        self, model: ModelWeights, arithmetic: Arithmetic, file: WeightFile, kind: Unrolled
    ) -> None:
        self._model = model
        self._arithmetic = arithmetic
        self._length = kind.length
        self._filtered = kind.filtered
        self._graph = Graph(kind.name.removesuffix(".onnx"), file)

    def compile(self) -> onnx.ModelProto:
        g = self._graph
        self._declare()
        sampler, uniform = prepare(g, self._model.sampled_size, filtered=self._filtered)
        offsets = g.constant("offsets", np.arange(self._length), np.int64)
        window = g.op("Add", offsets, "start")  # (length,)
        uniforms, forced = (self._by_step(self._taken(t, window)) for t in (uniform, "forced"))
        token, states, steps = "tokens", [self._read_state()], []
        for uniform_t, forced_t in zip(uniforms, forced, strict=True):
            steps.append(self._step(token, states[-1], uniform_t, forced_t, sampler))
            token = steps[-1].chosen
            states.append(steps[-1].state)
        self._write_symbols(steps, window)
        g.output(token, "tokens_n", np.int64, [BATCH])
        self._write_state(states)
        return g.model()

    def _declare(self) -> None:
        g, model = self._graph, self._model
        g.input("slots", np.int64, [BATCH])
        g.input("start", np.int64, [1])
        g.input("tokens", np.int64, [BATCH])
        g.input("forced", np.int64, [TIME, BATCH])
        g.input("uniform", np.float32, [TIME, BATCH])
        g.input("steps", np.int64, [BATCH])
        for name in model.state_names:
            g.input(f"{name}_0", np.float32, self._state_shape)
        g.input("tokens_out_0", np.int64, [TIME, BATCH])
        g.input("log_probs_0", np.float32, [TIME, BATCH])

    @property
    def _state_shape(self) -> list[int | str]:
        return [SLOTS, len(self._model.layers), self._model.hidden_size]

    def _step(self, token: str, state: State, uniform: str, forced: str, sampler: Sampler) -> _Step:
        """Consume a symbol, (N,), and choose the next."""
        g, model, dtype = self._graph, self._model, self._arithmetic.dtype
        new: State = {name: [] for name in state}
        terms = []
        for number, network in enumerate(model.networks):
            embedding = g.weight(f"embedding{number}", network.embedding.astype(dtype, copy=False))
            x = self._unsqueezed(g.op("Gather", embedding, token, axis=0), 0)  # (1, N, E)
            for weights in network.layers:
                index = len(new["h"])
                before = [layers[index] for layers in state.values()]
                x, *after = self._layer(f"layer{index}", weights, x, before)
                for layers, tensor in zip(new.values(), after, strict=True):
                    layers.append(tensor)
            h = g.op("Squeeze", x, g.constant("axes_0", [0], np.int64))  # (N, H)
            terms.append(Term(h=h, layer=len(new["h"]) - 1, W=network.decoder))
        logits = self._arithmetic.affine(g, "decoder", terms, model.decoder_bias)
        logits = cast(g, logits, dtype, np.float32)
        drawable = that_may_be_drawn(g, logits, model)
        p = probabilities(g, drawable, sampler, model.sampled_size)
        ids = draw(g, p, uniform, model.sampled_size)
        # Where a symbol is forced, 0 is drawn.
        return _Step(logits=logits, chosen=g.op("Max", ids, forced), state=new)

    def _layer(self, name: str, weights: LayerWeights, x: str, before: list[str]) -> list[str]:
        """Append one layer, its tensors (1, N, ...); return what it gives and its state."""
        g, cell, dtype = self._graph, self._model.cell, self._arithmetic.dtype
        if cell != "rnn_relu":
            return recurrent_operator(g, cell, name, weights, x, before, dtype=dtype, one_step=True)
        # ONNX Runtime has an RNN with Relu on the CPU alone.
        biases = np.concatenate([weights.Wb, weights.Rb])  # as the operator has them
        parts = {"W": weights.W, "R": weights.R}
        parts |= dict(zip(("Wb", "Rb"), np.split(biases, 2), strict=True))
        W, R, Wb, Rb = (
            g.weight(f"{name}.{part}", array if array.dtype == dtype else array.astype(dtype))
            for part, array in parts.items()
        )
        total = g.op("Add", Wb, Rb)
        for tensor, matrix in ((x, W), (before[0], R)):
            row = g.op("Squeeze", tensor, g.constant("axes_0", [0], np.int64))  # (N, ...)
            total = g.op("Gemm", row, matrix, total, transB=1)
        h = self._unsqueezed(g.op("Relu", total), 0)
        return [h, h]

    def _taken(self, tensor: str, window: str) -> str:
        """Take these steps' part of a tensor of the whole loop run."""
        return self._graph.op("Gather", tensor, window, axis=0)

    def _by_step(self, tensor: str) -> list[str]:
        """Take (length, N, ...) apart into (N, ...)."""
        g = self._graph
        axes = g.constant("axes_0", [0], np.int64)
        parts = g.ops("Split", tensor, count=self._length, axis=0)
        return [g.op("Squeeze", part, axes) for part in parts]

    def _read_state(self) -> State:
        """Gather the rows' states."""
        g = self._graph
        state = {}
        for name in self._model.state_names:
            rows = g.op("Gather", f"{name}_0", "slots", axis=0)  # (N, L, H)
            rows = cast(g, rows, np.float32, self._arithmetic.dtype)
            layers = g.op("Transpose", rows, perm=[1, 0, 2])
            state[name] = g.ops("Split", layers, count=len(self._model.layers), axis=0)
        return state

    def _write_state(self, states: list[State]) -> None:
        """Write the states that the rows ended in: of as many steps as each of them makes here."""
        g = self._graph
        made = self._unsqueezed(self._steps_made(), 0, 2)  # (1, N, 1)
        made = g.op("Add", made, self._zeros(1, 1, self._model.hidden_size))
        slots = self._unsqueezed("slots", 1, 2)  # (N, 1, 1)
        slots = g.op("Add", slots, self._zeros(1, *self._state_shape[1:]))
        for name in self._model.state_names:
            ended = []
            for index in range(len(self._model.layers)):
                by_step = g.op("Concat", *(s[name][index] for s in states), axis=0)
                ended.append(g.op("GatherElements", by_step, made, axis=0))  # (1, N, H)
            rows = g.op("Transpose", g.op("Concat", *ended, axis=0), perm=[1, 0, 2])  # (N, L, H)
            rows = cast(g, rows, self._arithmetic.dtype, np.float32)
            written = g.op("ScatterElements", f"{name}_0", slots, rows, axis=0)
            g.output(written, f"{name}_n", np.float32, self._state_shape)

    def _steps_made(self) -> str:
        """How many of these steps each row makes, (N,)."""
        g = self._graph
        left = g.op("Sub", "steps", "start")
        left = g.op("Max", left, g.constant("zero_id", 0, np.int64))
        return g.op("Min", left, g.constant("length", self._length, np.int64))

    def _write_symbols(self, steps: list[_Step], window: str) -> None:
        """Write what all steps chose; their log-probabilities are found in one go."""
        g = self._graph
        chosen = self._stacked([step.chosen for step in steps])  # (length, N)
        logits = self._stacked([step.logits for step in steps])  # (length, N, V)
        log_probs = log_probs_of(g, g.op("LogSoftmax", logits, axis=2), chosen, axis=2)
        nothing = g.op("Mul", chosen, g.constant("zero_id", 0, np.int64))
        places = g.op("Add", nothing, self._unsqueezed(window, 1))  # (length, N)
        for name, dtype, new in (
            ("tokens_out", np.int64, chosen),
            ("log_probs", np.float32, log_probs),
        ):
            written = g.op("ScatterElements", f"{name}_0", places, new, axis=0)
            g.output(written, name, dtype, [TIME, BATCH])

    def _stacked(self, tensors: list[str]) -> str:
        return self._graph.op("Concat", *(self._unsqueezed(t, 0) for t in tensors), axis=0)

    def _unsqueezed(self, tensor: str, *axes: int) -> str:
        name = "axes_" + "_".join(map(str, axes))
        return self._graph.op("Unsqueeze", tensor, self._graph.constant(name, axes, np.int64))

    def _zeros(self, *shape: int | str) -> str:
        name = "zeros_" + "_".join(map(str, shape))
        return self._graph.constant(name, np.zeros([int(n) for n in shape]), np.int64)
