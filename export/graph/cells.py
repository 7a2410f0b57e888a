"""The recurrent cells in primitive ONNX operators, one step at a time.

The equations are those of the ONNX operators RNN, GRU (linear_before_reset = 1) and LSTM. Each gate
has a product of its own: a wider one for several gates multiplies no faster and has to be split.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.graph.arithmetic import Arithmetic, Term
from export.graph.graph import Graph
from export.graph.weights import Array, LayerWeights, ModelWeights

ROWS_AT_ONCE = 2**14  # of a table in float64; bounds the memory


@dataclass(frozen=True, kw_only=True)
class RecurrentState:
    """The state of all layers between two steps, as names of tensors.

    Attributes:
        tensors: for "h" (and "c"), one (N, H) tensor a layer.
        activations: h of each layer as products take it, (N, H); none where that is made anew.
    """

    tensors: dict[str, list[str]]
    activations: list[str]

    @property
    def names(self) -> list[str]:
        """All of them in a row."""
        return [*(t for layers in self.tensors.values() for t in layers), *self.activations]

    def renamed(self, names: Iterable[str]) -> "RecurrentState":
        """Return the same under other names, in the order of `names`."""
        others = iter(names)
        tensors = {name: [next(others) for _ in layers] for name, layers in self.tensors.items()}
        return RecurrentState(tensors=tensors, activations=list(others))


@dataclass(frozen=True, kw_only=True)
class Layer(ABC):
    """What the gates of one layer receive in one step.

    Attributes:
        g: where the nodes go.
        arithmetic: how products are made.
        index: of the layer, among those of all networks.
        weights: of the layer.
        h: its h before the step, as products take it.
    """

    g: Graph
    arithmetic: Arithmetic
    index: int
    weights: LayerWeights
    h: str

    @abstractmethod
    def total(self, gate: str) -> str:
        """W x + R h + both biases of a gate, (N, H)."""

    @abstractmethod
    def input(self, gate: str) -> str:
        """W x + its bias of a gate, (N, H)."""

    def recurrent(self, gate: str) -> str:
        """R h + its bias of a gate, (N, H)."""
        bias = self.weights.gate("Rb", gate)
        return self._affine(f"{gate}.recurrent", [self._recurrent(gate)], bias)

    def _recurrent(self, gate: str) -> Term:
        return Term(h=self.h, layer=self.index, W=self.weights.gate("R", gate))

    def _bias(self, gate: str) -> Array:
        return self.weights.gate("Wb", gate) + self.weights.gate("Rb", gate)

    def _name(self, part: str) -> str:
        return f"layer{self.index}.{part}"

    def _affine(self, part: str, terms: list[Term], bias: Array) -> str:
        return self.arithmetic.affine(self.g, self._name(part), terms, bias)


@dataclass(frozen=True, kw_only=True)
class FirstLayer(Layer):
    """It reads symbols: W x is a row of a table with the embedding folded in.

    Attributes:
        token: ids, (N,).
        embedding: (V, E).
    """

    token: str
    embedding: Array

    def total(self, gate: str) -> str:
        """Add the recurrent product to the symbol's row."""
        table = self._table(gate, self._bias(gate))
        recurrent = self._recurrent(gate)
        return self.arithmetic.lookup(self.g, self._name(gate), table, self.token, recurrent)

    def input(self, gate: str) -> str:
        """Look up the symbol's row."""
        table = self._table(gate, self.weights.gate("Wb", gate)).astype(self.arithmetic.dtype)
        name = self.g.weight(self._name(f"{gate}.input"), table)
        return self.g.op("Gather", name, self.token, axis=0)

    def _table(self, gate: str, bias: Array) -> Array:
        W = self.weights.gate("W", gate).astype(np.float64)
        table = np.empty((len(self.embedding), len(W)), np.float32)  # (V, H)
        for first in range(0, len(table), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            table[rows] = self.embedding[rows].astype(np.float64) @ W.T + bias
        return table


@dataclass(frozen=True, kw_only=True)
class UpperLayer(Layer):
    """It reads the h of the layer below.

    Attributes:
        x: that h after the step, as products take it.
    """

    x: str

    def total(self, gate: str) -> str:
        """Add both products."""
        return self._affine(gate, [self._input(gate), self._recurrent(gate)], self._bias(gate))

    def input(self, gate: str) -> str:
        """Multiply what comes from below."""
        return self._affine(f"{gate}.input", [self._input(gate)], self.weights.gate("Wb", gate))

    def _input(self, gate: str) -> Term:
        return Term(h=self.x, layer=self.index - 1, W=self.weights.gate("W", gate))


Step = Callable[[Graph, Layer, dict[str, str]], dict[str, str]]


def _rnn(activation: str) -> Step:
    def step(g: Graph, layer: Layer, state: dict[str, str]) -> dict[str, str]:
        return {"h": g.op(activation, layer.total("h"))}

    return step


def _gru(g: Graph, layer: Layer, state: dict[str, str]) -> dict[str, str]:
    h = state["h"]
    z = g.op("Sigmoid", layer.total("z"))
    r = g.op("Sigmoid", layer.total("r"))
    n = g.op("Tanh", g.op("Add", layer.input("n"), g.op("Mul", r, layer.recurrent("n"))))
    # (1 - z) n + z h, with one product fewer.
    return {"h": g.op("Add", n, g.op("Mul", z, g.op("Sub", h, n)))}


def _lstm(g: Graph, layer: Layer, state: dict[str, str]) -> dict[str, str]:
    i, o, f = (g.op("Sigmoid", layer.total(gate)) for gate in "iof")
    candidate = g.op("Tanh", layer.total("c"))
    c = g.op("Add", g.op("Mul", f, state["c"]), g.op("Mul", i, candidate))
    return {"h": g.op("Mul", o, g.op("Tanh", c)), "c": c}


STEPS: dict[str, Step] = {
    "rnn_tanh": _rnn("Tanh"),
    "rnn_relu": _rnn("Relu"),
    "gru": _gru,
    "lstm": _lstm,
}


def recurrent_step(
    g: Graph, arithmetic: Arithmetic, model: ModelWeights, token: str, state: RecurrentState
) -> tuple[list[Term], RecurrentState]:
    """Append one step of all layers of all networks.

    Args:
        g: where the nodes go.
        arithmetic: how products are made.
        model: the weights.
        token: ids, (N,).
        state: before the step.

    Returns:
        The decoder's terms, one of each network's top layer, and the state after the step.
    """
    new: dict[str, list[str]] = {name: [] for name in state.tensors}
    activations: list[str] = []
    terms = []
    for network in model.networks:
        for weights in network.layers:
            index = len(activations)
            old = {name: tensors[index] for name, tensors in state.tensors.items()}
            if arithmetic.carries_activations:
                h = state.activations[index]
            else:
                h = arithmetic.activation(g, index, old["h"])
            given: dict[str, Any] = {
                "g": g, "arithmetic": arithmetic, "index": index, "weights": weights, "h": h,
            }  # fmt: skip
            layer = (
                FirstLayer(**given, token=token, embedding=network.embedding)
                if weights is network.layers[0]
                else UpperLayer(**given, x=activations[-1])
            )
            for name, tensor in STEPS[model.cell](g, layer, old).items():
                new[name].append(tensor)
            activations.append(arithmetic.activation(g, index, new["h"][-1]))
        top = len(activations) - 1
        terms.append(Term(h=activations[top], layer=top, W=network.decoder))
    carried = activations if arithmetic.carries_activations else []
    return terms, RecurrentState(tensors=new, activations=carried)
