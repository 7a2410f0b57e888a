"""decode.onnx: prefill, decode and score as one compiled loop.

    in   tokens   (batch) int64         the last symbol, not yet consumed
         forced   (time, batch) int64   >= 0: this symbol comes next; -1: sample
         uniform  (time, batch) float   in [0, 1), multiples of 2^-24
         steps    (batch) int64         after so many steps, a row keeps its state as it is
         temperature, top_p, min_p (batch) float; top_k (batch) int64, 0 keeps all
         h_0 (and c_0)  (layers, batch, hidden) float
    out  tokens_out (time, batch) int64
         log_probs (time, batch) float  of each symbol under the model, before temperature
         h_n (and c_n)

The loop stands twice in the graph, one after the other: without the sampler's filters and with
them. One of the two makes no steps, so requests without filters do not pay for them. (An If around
the two loops would keep ONNX Runtime 1.31 from prepacking the weights, two subgraphs deep: 1.2
times slower at batch 64, 1.9 times at 4.)
"""

from dataclasses import dataclass

import numpy as np
import onnx

from export.cells import recurrent_step
from export.graph import Graph, WeightFile
from export.sampler import SamplerInputs, prepare, sample
from export.weights import ModelWeights


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What the loop's body takes from outside, a row each.

    Attributes:
        steps: after how many steps a row keeps its state, int64, (N, 1).
        uniform: float, (T, N, 1); zero where greedy.
        sampler: the sampling parameters.
    """

    steps: str
    uniform: str
    sampler: SamplerInputs


class DecodeCompiler:
    """Writes the decode graph of one model.

    Args:
        model: the weights.
        file: where the weights' bytes go.
    """

    def __init__(self, model: ModelWeights, file: WeightFile) -> None:
        self._model = model
        self._file = file

    def compile(self) -> onnx.ModelProto:
        """Write the graph."""
        g = Graph("decode", self._file)
        g.input("tokens", np.int64, ["batch"])
        g.input("forced", np.int64, ["time", "batch"])
        g.input("uniform", np.float32, ["time", "batch"])
        column = g.constant("axes_1", [1], np.int64)
        steps = g.op("Unsqueeze", g.input("steps", np.int64, ["batch"]), column)
        sampler, uniform, filtered = prepare(g, self._model.vocabulary_size)
        rows = Rows(steps=steps, uniform=uniform, sampler=sampler)
        state = [
            g.input(f"{s}_0", np.float32, self._model.state_shape) for s in self._model.state_names
        ]
        carried = ["tokens", *(t for tensor in state for t in self._layers_of(g, tensor))]
        plain_trips, filtered_trips = self._trips(g, filtered)
        carried, *plain = self._loop(g, "plain", plain_trips, carried, rows)
        carried, *with_filters = self._loop(g, "filtered", filtered_trips, carried, rows)
        for name, dtype, parts in zip(
            ("tokens_out", "log_probs"),
            (np.int64, np.float32),
            zip(plain, with_filters, strict=True),
            strict=True,
        ):
            g.output(g.op("Concat", *parts, axis=0), name, dtype, ["time", "batch"])
        L = len(self._model.layers)
        for index, name in enumerate(self._model.state_names):
            layers = carried[1 + index * L : 1 + (index + 1) * L]
            axes = g.constant("axes_0", [0], np.int64)
            stacked = [g.op("Unsqueeze", layer, axes) for layer in layers]
            g.output(
                g.op("Concat", *stacked, axis=0), f"{name}_n", np.float32, self._model.state_shape
            )
        return g.model()

    def _trips(self, g: Graph, filtered: str) -> tuple[str, str]:
        """How many steps the plain loop makes and how many the filtered one: all or none, (1,)."""
        time = g.op("Shape", "forced", end=1)
        none = g.constant("axes_0", [0], np.int64)
        return g.op("Where", filtered, none, time), g.op("Where", filtered, time, none)

    def _layers_of(self, g: Graph, tensor: str) -> list[str]:
        """Take (L, N, H) apart into L tensors of (N, H)."""
        return [
            g.op("Gather", tensor, g.constant(f"layer_{index}", index, np.int64), axis=0)
            for index in range(len(self._model.layers))
        ]

    def _loop(
        self,
        g: Graph,
        name: str,
        trips: str,
        carried: list[str],
        rows: Rows,
    ) -> tuple[list[str], str, str]:
        """Append one loop; return what it carried, its tokens and log-probabilities, (trips, N)."""
        body = self._body(g, name, rows)
        *carried, tokens, log_probs = g.ops(
            "Loop", trips, "", *carried, count=len(carried) + 2, body=body
        )
        # After no step at all, ONNX Runtime gives (0, 0) where Concat needs (0, N).
        shape = g.op("Concat", trips, g.op("Shape", "tokens"), axis=0)
        tokens, log_probs = (
            g.op("Reshape", scanned, shape, allowzero=1) for scanned in (tokens, log_probs)
        )
        return carried, tokens, log_probs

    def _body(self, outer: Graph, prefix: str, rows: Rows) -> onnx.GraphProto:
        """One step: consume a symbol, choose the next."""
        g = outer.body(f"{prefix}_step")
        t = g.input(f"{prefix}_t", np.int64, [])
        go_on = g.input(f"{prefix}_go_on", np.bool_, [])
        token = g.input(f"{prefix}_token", np.int64, ["batch"])
        H = self._model.hidden_size
        state = {
            name: [
                g.input(f"{prefix}_{name}{layer}", np.float32, ["batch", H])
                for layer in range(len(self._model.layers))
            ]
            for name in self._model.state_names
        }
        top, new = recurrent_step(g, self._model, token, state)
        logits = g.op(
            "Gemm",
            top,
            g.weight("decoder.W", self._model.decoder_weight),
            g.weight("decoder.b", self._model.decoder_bias),
            transB=1,
        )
        uniform = g.op("Gather", rows.uniform, t, axis=0)
        sampled = sample(
            g, logits, uniform, rows.sampler, self._model.vocabulary_size, prefix == "filtered"
        )
        forced = g.op("Gather", "forced", t, axis=0)
        is_free = g.op("Less", forced, g.constant("zero_id", 0, np.int64))
        chosen = g.op("Where", is_free, sampled, forced)
        log_prob = self._log_prob(g, logits, chosen)
        is_alive = g.op("Less", t, rows.steps)  # (N, 1)
        g.output(go_on, f"{prefix}_goes_on", np.bool_, [])
        g.output(chosen, f"{prefix}_chosen", np.int64, ["batch"])
        for name, layers in new.items():
            for layer, tensor in enumerate(layers):
                kept = g.op("Where", is_alive, tensor, state[name][layer])
                g.output(kept, f"{prefix}_{name}{layer}_new", np.float32, ["batch", H])
        g.output(chosen, f"{prefix}_tokens", np.int64, ["batch"])
        g.output(log_prob, f"{prefix}_log_prob", np.float32, ["batch"])
        return g.proto()

    def _log_prob(self, g: Graph, logits: str, chosen: str) -> str:
        axes = g.constant("axes_1", [1], np.int64)
        all_of_them = g.op("LogSoftmax", logits, axis=1)  # (N, V)
        of_chosen = g.op("GatherElements", all_of_them, g.op("Unsqueeze", chosen, axes), axis=1)
        return g.op("Squeeze", of_chosen, axes)
