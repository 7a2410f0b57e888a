"""A model's weights as the graphs want them: numpy arrays in ONNX's layout and gate order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.model import CharRNN

Array = NDArray[np.float32]

# For each of ONNX's gates, its place among torch's: ONNX's GRU is z, r, h and torch's r, z, n;
# ONNX's LSTM is i, o, f, c and torch's i, f, g, o.
TORCH_GATES = {"rnn_tanh": (0,), "rnn_relu": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One recurrent layer; G gates.

    Attributes:
        W: input weights, (G * H, input).
        R: recurrent weights, (G * H, H).
        Wb: input bias, (G * H,).
        Rb: recurrent bias, (G * H,).
    """

    W: Array
    R: Array
    Wb: Array
    Rb: Array

    @property
    def hidden_size(self) -> int:
        """Width H."""
        return int(self.R.shape[1])


@dataclass(frozen=True, kw_only=True)
class ModelWeights:
    """All weights of a model.

    Attributes:
        cell: rnn_tanh, rnn_relu, gru or lstm.
        embedding: (V, E).
        layers: the recurrent layers, first one first.
        decoder_weight: (V, H).
        decoder_bias: (V,).
    """

    cell: str
    embedding: Array
    layers: list[LayerWeights]
    decoder_weight: Array
    decoder_bias: Array

    @property
    def vocabulary_size(self) -> int:
        """Number of symbols V."""
        return int(self.embedding.shape[0])

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
        """Shape of each state tensor: (layers, "batch", hidden)."""
        return [len(self.layers), "batch", self.hidden_size]

    @classmethod
    def of(cls, model: CharRNN) -> "ModelWeights":
        """Take the weights out of a torch model."""
        cell = model.settings.cell
        parameters = dict(model.recurrent.named_parameters())

        def layer(index: int) -> LayerWeights:
            names = {"W": "weight_ih", "R": "weight_hh", "Wb": "bias_ih", "Rb": "bias_hh"}
            return LayerWeights(
                **{
                    key: _reorder(cell, parameters[f"{name}_l{index}"])
                    for key, name in names.items()
                }
            )

        return cls(
            cell=cell,
            embedding=_array(model.embedding.weight),
            layers=[layer(index) for index in range(model.settings.layers)],
            decoder_weight=_array(model.decoder.weight),
            decoder_bias=_array(model.decoder.bias),
        )


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy().astype(np.float32)


def _reorder(cell: str, tensor: Tensor) -> Array:
    order = TORCH_GATES[cell]
    gates = np.split(_array(tensor), len(order))
    return np.concatenate([gates[gate] for gate in order])
