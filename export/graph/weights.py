"""A model's weights as the graphs want them: numpy arrays in ONNX's layout and gate order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.model.model import CharRNN

Array = NDArray[np.float32]

# Each cell's gates in ONNX's order, and for each its place among torch's: ONNX's GRU is z, r, h
# (here n) and torch's r, z, n; ONNX's LSTM is i, o, f, c and torch's i, f, g, o.
GATES = {
    "rnn_tanh": {"h": 0},
    "rnn_relu": {"h": 0},
    "gru": {"z": 1, "r": 0, "n": 2},
    "lstm": {"i": 0, "o": 3, "f": 1, "c": 2},
}


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One recurrent layer; G gates.

    Attributes:
        gates: their names, in ONNX's order.
        W: input weights, (G * H, input).
        R: recurrent weights, (G * H, H).
        Wb: input bias, (G * H,).
        Rb: recurrent bias, (G * H,).
    """

    gates: tuple[str, ...]
    W: Array
    R: Array
    Wb: Array
    Rb: Array

    def gate(self, weight: Literal["W", "R", "Wb", "Rb"], gate: str) -> Array:
        """Return one gate's rows of a weight: a view, (H, ...)."""
        start = self.gates.index(gate) * self.hidden_size
        rows: Array = getattr(self, weight)[start : start + self.hidden_size]
        return rows

    @property
    def hidden_size(self) -> int:
        """Width H."""
        return int(self.R.shape[1])


@dataclass(frozen=True, kw_only=True)
class NetworkWeights:
    """One of the networks that stand side by side in a model.

    Attributes:
        embedding: (V, E).
        layers: the recurrent layers, first one first.
        decoder: its part of the logits, divided by the number of networks, (V, H).
    """

    embedding: Array
    layers: list[LayerWeights]
    decoder: Array


@dataclass(frozen=True, kw_only=True)
class ModelWeights:
    """All weights of a model.

    Attributes:
        cell: rnn_tanh, rnn_relu, gru or lstm.
        networks: M of them, of one size; the model's logits are the sum of theirs and the bias.
        decoder_bias: (V,).
        sampled_size: how many symbols may be drawn, those of the first ids; V or less.
    """

    cell: str
    networks: list[NetworkWeights]
    decoder_bias: Array
    sampled_size: int

    @property
    def layers(self) -> list[LayerWeights]:
        """The layers of all networks, in the order of the state's."""
        return [layer for network in self.networks for layer in network.layers]

    @property
    def vocabulary_size(self) -> int:
        """Number of symbols V."""
        return len(self.decoder_bias)

    @property
    def hidden_size(self) -> int:
        """Width H."""
        return self.layers[0].hidden_size

    @property
    def state_names(self) -> tuple[str, ...]:
        """The state tensors' names without their suffix."""
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def state_shape(self) -> list[int | str]:
        """Shape of each state tensor: (layers of all networks, "batch", hidden)."""
        return [len(self.layers), "batch", self.hidden_size]

    @classmethod
    def of(cls, model: CharRNN, sampled_size: int | None = None) -> "ModelWeights":
        """Take the weights out of a torch model; by default every symbol may be drawn."""
        cell, count = model.settings.cell, model.settings.members
        return cls(
            cell=cell,
            networks=[
                NetworkWeights(
                    embedding=_array(network.embedding),
                    layers=[
                        _layer(cell, network.recurrent, index)
                        for index in range(model.settings.layers)
                    ],
                    # A single network's is not copied: it is as large as the vocabulary.
                    decoder=_array(network.decoder if count == 1 else network.decoder / count),
                )
                for network in model.networks
            ],
            decoder_bias=_array(model.decoder.bias),
            sampled_size=sampled_size or model.settings.vocabulary_size,
        )


def _layer(cell: str, weights: Mapping[str, Tensor], index: int) -> LayerWeights:
    names = {"W": "weight_ih", "R": "weight_hh", "Wb": "bias_ih", "Rb": "bias_hh"}
    return LayerWeights(
        gates=tuple(GATES[cell]),
        **{key: _reorder(cell, weights[f"{name}_l{index}"]) for key, name in names.items()},
    )


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy().astype(np.float32, copy=False)


def _reorder(cell: str, tensor: Tensor) -> Array:
    gates = np.split(_array(tensor), len(GATES[cell]))
    return np.concatenate([gates[place] for place in GATES[cell].values()])
