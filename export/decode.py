"""decode.onnx: prefill, decode and score as one compiled loop.

    in   tokens   (batch) int64         the last symbol, not yet consumed
         forced   (time, batch) int64   >= 0: this symbol comes next; -1: sample
         uniform  (time, batch) float   in [0, 1), multiples of 2^-24
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

import numpy as np
import onnx

from export.cells import STATES, Array, LayerWeights, recurrent_step
from export.graph import Graph, WeightFile
from export.sampler import SamplerInputs, prepare, sample


class DecodeCompiler:
    """Writes the decode graph of one model.

    Args:
        cell: the cell's name.
        embedding: (V, E).
        layers: the recurrent layers.
        decoder_weight: (V, H).
        decoder_bias: (V,).
        weights: where the weights' bytes go.
    """

    def __init__(
        self,
        *,
        cell: str,
        embedding: Array,
        layers: list[LayerWeights],
        decoder_weight: Array,
        decoder_bias: Array,
        weights: WeightFile,
    ) -> None:
        self.cell = cell
        self.embedding = embedding
        self.layers = layers
        self.decoder_weight = decoder_weight
        self.decoder_bias = decoder_bias
        self.weights = weights

    @property
    def vocabulary_size(self) -> int:
        """Number of symbols V."""
        return int(self.embedding.shape[0])

    def compile(self) -> onnx.ModelProto:
        """Write the graph."""
        g = Graph("decode", self.weights)
        state_shape: list[int | str] = [len(self.layers), "batch", self.layers[0].hidden_size]
        g.input("tokens", np.int64, ["batch"])
        g.input("forced", np.int64, ["time", "batch"])
        g.input("uniform", np.float32, ["time", "batch"])
        sampler, uniform, filtered = prepare(g, self.vocabulary_size)
        state = [g.input(f"{s}_0", np.float32, state_shape) for s in STATES[self.cell]]
        carried = ["tokens", *(t for tensor in state for t in self._layers_of(g, tensor))]
        plain_steps, filtered_steps = self._steps(g, filtered)
        carried, *plain = self._loop(g, "plain", plain_steps, carried, uniform, sampler)
        carried, *with_filters = self._loop(
            g, "filtered", filtered_steps, carried, uniform, sampler
        )
        for name, dtype, parts in zip(
            ("tokens_out", "log_probs"),
            (np.int64, np.float32),
            zip(plain, with_filters, strict=True),
            strict=True,
        ):
            g.output(g.op("Concat", *parts, axis=0), name, dtype, ["time", "batch"])
        L = len(self.layers)
        for index, name in enumerate(STATES[self.cell]):
            layers = carried[1 + index * L : 1 + (index + 1) * L]
            axes = g.constant("axes_0", [0], np.int64)
            stacked = [g.op("Unsqueeze", layer, axes) for layer in layers]
            g.output(g.op("Concat", *stacked, axis=0), f"{name}_n", np.float32, state_shape)
        return g.model()

    def _steps(self, g: Graph, filtered: str) -> tuple[str, str]:
        """How many steps the plain loop makes and how many the filtered one: all or none, (1,)."""
        time = g.op("Shape", "forced", end=1)
        none = g.constant("axes_0", [0], np.int64)
        return g.op("Where", filtered, none, time), g.op("Where", filtered, time, none)

    def _layers_of(self, g: Graph, tensor: str) -> list[str]:
        """Take (L, N, H) apart into L tensors of (N, H)."""
        return [
            g.op("Gather", tensor, g.constant(f"layer_{index}", index, np.int64), axis=0)
            for index in range(len(self.layers))
        ]

    def _loop(
        self,
        g: Graph,
        name: str,
        steps: str,
        carried: list[str],
        uniform: str,
        sampler: SamplerInputs,
    ) -> tuple[list[str], str, str]:
        """Append one loop; return what it carried, its tokens and log-probabilities, (steps, N)."""
        body = self._body(g, name, uniform, sampler)
        *carried, tokens, log_probs = g.ops(
            "Loop", steps, "", *carried, count=len(carried) + 2, body=body
        )
        # After no step at all, ONNX Runtime gives (0, 0) where Concat needs (0, N).
        shape = g.op("Concat", steps, g.op("Shape", "tokens"), axis=0)
        tokens, log_probs = (
            g.op("Reshape", scanned, shape, allowzero=1) for scanned in (tokens, log_probs)
        )
        return carried, tokens, log_probs

    def _body(
        self, outer: Graph, prefix: str, uniform: str, sampler: SamplerInputs
    ) -> onnx.GraphProto:
        """One step: consume a symbol, choose the next."""
        g = outer.body(f"{prefix}_step")
        t = g.input(f"{prefix}_t", np.int64, [])
        go_on = g.input(f"{prefix}_go_on", np.bool_, [])
        token = g.input(f"{prefix}_token", np.int64, ["batch"])
        H = self.layers[0].hidden_size
        state = {
            name: [
                g.input(f"{prefix}_{name}{layer}", np.float32, ["batch", H])
                for layer in range(len(self.layers))
            ]
            for name in STATES[self.cell]
        }
        top, state = recurrent_step(g, self.cell, self.layers, self.embedding, token, state)
        logits = g.op(
            "Gemm",
            top,
            g.weight("decoder.W", self.decoder_weight),
            g.weight("decoder.b", self.decoder_bias),
            transB=1,
        )
        row = g.op("Gather", uniform, t, axis=0)
        sampled = sample(g, logits, row, sampler, self.vocabulary_size, prefix == "filtered")
        forced = g.op("Gather", "forced", t, axis=0)
        is_free = g.op("Less", forced, g.constant("zero_id", 0, np.int64))
        chosen = g.op("Where", is_free, sampled, forced)
        log_prob = self._log_prob(g, logits, chosen)
        g.output(go_on, f"{prefix}_goes_on", np.bool_, [])
        g.output(chosen, f"{prefix}_chosen", np.int64, ["batch"])
        for name, layers in state.items():
            for layer, tensor in enumerate(layers):
                g.output(tensor, f"{prefix}_{name}{layer}_new", np.float32, ["batch", H])
        g.output(chosen, f"{prefix}_tokens", np.int64, ["batch"])
        g.output(log_prob, f"{prefix}_log_prob", np.float32, ["batch"])
        return g.proto()

    def _log_prob(self, g: Graph, logits: str, chosen: str) -> str:
        axes = g.constant("axes_1", [1], np.int64)
        all_of_them = g.op("LogSoftmax", logits, axis=1)  # (N, V)
        of_chosen = g.op("GatherElements", all_of_them, g.op("Unsqueeze", chosen, axes), axis=1)
        return g.op("Squeeze", of_chosen, axes)
