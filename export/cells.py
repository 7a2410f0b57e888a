"""The recurrent cells in primitive ONNX operators, one step at a time.

The equations are those of the ONNX operators RNN, GRU (linear_before_reset = 1) and LSTM.

A step's matrix product takes the input's share of the gates as Gemm's C, so that adding it costs
no node of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from export.graph import Graph
from export.weights import Array, LayerWeights, ModelWeights


@dataclass(frozen=True, kw_only=True)
class Split:
    """A cell's gates, split into the column blocks that its step treats alike.

    Attributes:
        blocks: name of each block and its number of gates.
        held_out: the block whose recurrent bias stays with the recurrent product, if any.
    """

    blocks: dict[str, int]
    held_out: str | None = None


Step = Callable[[Graph, dict[str, str], dict[str, str], "Recurrent"], dict[str, str]]


class Recurrent:
    """The recurrent products of one layer: gates = R h + the input's share."""

    def __init__(self, name: str, weights: LayerWeights, split: Split) -> None:
        self.name = name
        self.weights = weights
        self.split = split

    def rows(self, block: str) -> slice:
        """Return the rows of a block in W, R and the biases."""
        H = self.weights.hidden_size
        start = 0
        for name, gates in self.split.blocks.items():
            if name == block:
                return slice(start * H, (start + gates) * H)
            start += gates
        raise KeyError(block)

    def product(self, g: Graph, block: str, h: str, addend: str) -> str:
        """R[block] h + addend, (N, block)."""
        R = g.weight(f"{self.name}.R.{block}", self.weights.R[self.rows(block)])
        return g.op("Gemm", h, R, addend, transB=1)

    def input_bias(self, block: str) -> Array:
        """Return what the input's share of a block adds besides W x."""
        rows = self.rows(block)
        bias = self.weights.Wb[rows]
        return bias if block == self.split.held_out else bias + self.weights.Rb[rows]

    def held_out_bias(self, g: Graph) -> str:
        """Return the recurrent bias of the held-out block, (block,)."""
        assert self.split.held_out is not None
        rows = self.rows(self.split.held_out)
        return g.weight(f"{self.name}.Rb.{self.split.held_out}", self.weights.Rb[rows])


def _rnn(activation: str) -> Step:
    def step(
        g: Graph, share: dict[str, str], state: dict[str, str], layer: Recurrent
    ) -> dict[str, str]:
        return {"h": g.op(activation, layer.product(g, "h", state["h"], share["h"]))}

    return step


def _gru(
    g: Graph, share: dict[str, str], state: dict[str, str], layer: Recurrent
) -> dict[str, str]:
    h = state["h"]
    z, r = g.ops("Split", g.op("Sigmoid", layer.product(g, "zr", h, share["zr"])), count=2, axis=1)
    recurrent_n = layer.product(g, "n", h, layer.held_out_bias(g))
    n = g.op("Tanh", g.op("Add", share["n"], g.op("Mul", r, recurrent_n)))
    # (1 - z) n + z h, with one product fewer.
    return {"h": g.op("Add", n, g.op("Mul", z, g.op("Sub", h, n)))}


def _lstm(
    g: Graph, share: dict[str, str], state: dict[str, str], layer: Recurrent
) -> dict[str, str]:
    h, c = state["h"], state["c"]
    i, o, f = g.ops(
        "Split", g.op("Sigmoid", layer.product(g, "iof", h, share["iof"])), count=3, axis=1
    )
    candidate = g.op("Tanh", layer.product(g, "c", h, share["c"]))
    c = g.op("Add", g.op("Mul", f, c), g.op("Mul", i, candidate))
    return {"h": g.op("Mul", o, g.op("Tanh", c)), "c": c}


SPLITS = {
    "rnn_tanh": Split(blocks={"h": 1}),
    "rnn_relu": Split(blocks={"h": 1}),
    "gru": Split(blocks={"zr": 2, "n": 1}, held_out="n"),
    "lstm": Split(blocks={"iof": 3, "c": 1}),
}
STEPS: dict[str, Step] = {
    "rnn_tanh": _rnn("Tanh"),
    "rnn_relu": _rnn("Relu"),
    "gru": _gru,
    "lstm": _lstm,
}


def first_layer_share(g: Graph, layer: Recurrent, embedding: Array, token: str) -> dict[str, str]:
    """Input's share of the first layer's gates: a row of a folded table.

    Args:
        g: where the nodes go.
        layer: the first layer.
        embedding: (V, E).
        token: ids, (N,).
    """
    projected = embedding.astype(np.float64) @ layer.weights.W.T.astype(np.float64)  # (V, G * H)
    share = {}
    for block in layer.split.blocks:
        table = projected[:, layer.rows(block)] + layer.input_bias(block)
        name = g.weight(f"{layer.name}.table.{block}", table.astype(np.float32))
        share[block] = g.op("Gather", name, token, axis=0)
    return share


def upper_layer_share(g: Graph, layer: Recurrent, x: str) -> dict[str, str]:
    """Input's share of an upper layer's gates; x is the layer below's h, (N, H)."""
    share = {}
    for block in layer.split.blocks:
        W = g.weight(f"{layer.name}.W.{block}", layer.weights.W[layer.rows(block)])
        bias = g.weight(f"{layer.name}.bias.{block}", layer.input_bias(block))
        share[block] = g.op("Gemm", x, W, bias, transB=1)
    return share


def recurrent_step(
    g: Graph, model: ModelWeights, token: str, state: dict[str, list[str]]
) -> tuple[str, dict[str, list[str]]]:
    """Append one step of all layers.

    Args:
        g: where the nodes go.
        model: the weights.
        token: ids, (N,).
        state: for "h" (and "c"), one (N, H) tensor a layer.

    Returns:
        The top layer's h, (N, H), and the new state.
    """
    new: dict[str, list[str]] = {name: [] for name in state}
    x = ""
    for index, weights in enumerate(model.layers):
        layer = Recurrent(f"layer{index}", weights, SPLITS[model.cell])
        share = (
            upper_layer_share(g, layer, x)
            if index
            else first_layer_share(g, layer, model.embedding, token)
        )
        old = {name: tensors[index] for name, tensors in state.items()}
        for name, tensor in STEPS[model.cell](g, share, old, layer).items():
            new[name].append(tensor)
        x = new["h"][-1]
    return x, new
