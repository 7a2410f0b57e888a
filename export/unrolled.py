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
"""

import numpy as np
import onnx

from export.arithmetic import Arithmetic
from export.cells import RecurrentState
from export.decode import StepInputs, StepOutputs, choose_next, enter, leave, log_probs_of
from export.graph import Graph, WeightFile
from export.sampler import prepare
from export.weights import ModelWeights
from unroll.bundle.manifest import BATCH, SLOTS, TIME, UNROLLED, Unrolled


def compile_unrolled(
    model: ModelWeights, arithmetic: Arithmetic, file: WeightFile
) -> dict[str, onnx.ModelProto]:
    """Write all unrolled graphs of a model, by their files' names."""
    return {kind.name: _Compiler(model, arithmetic, file, kind).compile() for kind in UNROLLED}


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
        sampler, uniform = prepare(g, self._model.vocabulary_size, filtered=self._filtered)
        offsets = g.constant("offsets", np.arange(self._length), np.int64)
        window = g.op("Add", offsets, "start")  # (length,)
        uniforms, forced = (self._by_step(self._taken(t, window)) for t in (uniform, "forced"))
        is_alive = self._by_step(self._is_alive(window))
        token, state, steps = "tokens", self._read_state(), []
        for uniform_t, forced_t, is_alive_t in zip(uniforms, forced, is_alive, strict=True):
            step = choose_next(
                g,
                self._model,
                self._arithmetic,
                token,
                state,
                inputs=StepInputs(uniform=uniform_t, forced=forced_t, is_alive=is_alive_t),
                sampler=sampler,
            )
            token, state = step.chosen, step.state
            steps.append(step)
        self._write_symbols(steps, self._column(window))
        g.output(token, "tokens_n", np.int64, [BATCH])
        self._write_state(state)
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

    def _taken(self, tensor: str, window: str) -> str:
        """Take these steps' part of a tensor of the whole loop run."""
        return self._graph.op("Gather", tensor, window, axis=0)

    def _is_alive(self, window: str) -> str:
        """Whether a row still makes a step, (length, N, 1)."""
        g = self._graph
        is_alive = g.op("Less", self._column(window), "steps")  # (length, N)
        return g.op("Unsqueeze", is_alive, g.constant("axis_last", [-1], np.int64))

    def _column(self, vector: str) -> str:
        return self._graph.op("Unsqueeze", vector, self._graph.constant("axes_1", [1], np.int64))

    def _by_step(self, tensor: str) -> list[str]:
        """Take (length, N, ...) apart into (N, ...)."""
        g = self._graph
        axes = g.constant("axes_0", [0], np.int64)
        parts = g.ops("Split", tensor, count=self._length, axis=0)
        return [g.op("Squeeze", part, axes) for part in parts]

    def _stacked(self, tensors: list[str]) -> str:
        g = self._graph
        axes = g.constant("axes_0", [0], np.int64)
        return g.op("Concat", *(g.op("Unsqueeze", t, axes) for t in tensors), axis=0)

    def _read_state(self) -> RecurrentState:
        """Gather the rows' states."""
        g = self._graph
        rows = {
            name: g.op("Gather", f"{name}_0", "slots", axis=0)  # (N, L, H)
            for name in self._model.state_names
        }
        return enter(g, self._model, self._arithmetic, rows, axis=1)

    def _write_state(self, state: RecurrentState) -> None:
        g, slots = self._graph, self._column("slots")
        for name, layers in state.tensors.items():
            rows = leave(g, self._arithmetic, layers, axis=1)  # (N, L, H)
            written = g.op("ScatterND", f"{name}_0", slots, rows)
            g.output(written, f"{name}_n", np.float32, self._state_shape)

    def _write_symbols(self, steps: list[StepOutputs], window: str) -> None:
        """Write what all steps chose; their log-probabilities are found in one go."""
        g = self._graph
        chosen = self._stacked([step.chosen for step in steps])  # (length, N)
        logits = self._stacked([step.logits for step in steps])  # (length, N, V)
        log_probs = log_probs_of(g, logits, chosen)
        for name, dtype, new in (
            ("tokens_out", np.int64, chosen),
            ("log_probs", np.float32, log_probs),
        ):
            written = g.op("ScatterND", f"{name}_0", window, new)
            g.output(written, name, dtype, [TIME, BATCH])
