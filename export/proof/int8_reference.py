"""What the int8 loop should compute, in numpy and without any of its graph.

The weights are rounded as for the graph; products are exact, as 64-bit floats hold every sum.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.graph.arithmetic import Scale, quantise
from export.graph.weights import LayerWeights, ModelWeights

Floats = NDArray[np.float64]


class Int8Reference:
    """A model in 8-bit products, called as the torch model is.

    Args:
        model: the weights.
        scales: of each layer's h.
    """

    def __init__(self, model: ModelWeights, scales: list[Scale]) -> None:
        self._model = model
        self._scales = scales
        self._layers: list[_Layer] = []
        self._tops = []
        for network in model.networks:
            for weights in network.layers:
                index = len(self._layers)
                embedding = network.embedding if weights is network.layers[0] else None
                self._layers.append(_Layer(model.cell, embedding, weights, scales, index))
            self._tops.append(len(self._layers) - 1)
        parts = [
            network.decoder * np.float32(scales[top].step)
            for network, top in zip(model.networks, self._tops, strict=True)
        ]
        self._decoder = _Product(np.concatenate(parts, axis=1), model.decoder_bias)

    def zero_state(self, N: int) -> dict[str, Tensor]:
        """Return the state before any symbol, each tensor (L, N, H)."""
        shape = len(self._model.layers), N, self._model.hidden_size
        return {name: torch.zeros(shape) for name in self._model.state_names}

    def __call__(
        self, tokens: Tensor, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Read tokens, (T, N); return logits, (T, N, V), and the state."""
        now = {name: list(tensor.numpy().astype(np.float32)) for name, tensor in state.items()}
        tops = []
        for token in tokens.numpy():
            rounded: list[Floats] = []
            for index, layer in enumerate(self._layers):
                old = {name: layers[index] for name, layers in now.items()}
                for name, tensor in layer.step(token, rounded, old).items():
                    now[name][index] = tensor.astype(np.float32)
                rounded.append(_rounded(now["h"][index], self._scales[index]))
            tops.append(np.concatenate([rounded[top] for top in self._tops], axis=1))
        logits = self._decoder(np.concatenate(tops)).reshape(*tokens.shape, -1)
        last = {name: torch.from_numpy(np.stack(layers)) for name, layers in now.items()}
        return torch.from_numpy(logits.astype(np.float32)), last


class _Product:
    """q -> (W q + C) * scale, W and C in 8 and 32 bits."""

    def __init__(self, W: NDArray[np.float32], addend: NDArray[np.float32]) -> None:
        weights = quantise(W)
        self._W = weights.W.astype(np.float64)
        self._scale = weights.scale.astype(np.float64)
        self._addend = np.rint(addend.astype(np.float64) / self._scale)

    def __call__(self, q: Floats, token: NDArray[np.int64] | None = None) -> Floats:
        addend = self._addend if token is None else self._addend[token]
        product: Floats = (q @ self._W.T + addend) * self._scale
        return product


class _Layer:
    def __init__(
        self,
        cell: str,
        embedding: NDArray[np.float32] | None,
        weights: LayerWeights,
        scales: list[Scale],
        index: int,
    ) -> None:
        self._scale = scales[index]
        self._is_first = embedding is not None
        h = np.float32(scales[index].step)
        self._cell = cell
        self._total: dict[str, _Product] = {}
        for gate in weights.gates:
            W, R = weights.gate("W", gate), weights.gate("R", gate)
            Wb, Rb = weights.gate("Wb", gate), weights.gate("Rb", gate)
            if embedding is not None:
                table = embedding.astype(np.float64) @ W.T.astype(np.float64)
                self._total[gate] = _Product(R * h, (table + (Wb + Rb)).astype(np.float32))
                self._table = (table + Wb).astype(np.float32)  # of the last gate: the GRU's n
            else:
                x = np.float32(scales[index - 1].step)
                self._total[gate] = _Product(np.concatenate([W * x, R * h], axis=1), Wb + Rb)
                self._input = _Product(W * x, Wb)
            self._recurrent = _Product(R * h, Rb)

    def step(
        self, token: NDArray[np.int64], below: list[Floats], old: dict[str, NDArray[np.float32]]
    ) -> dict[str, Floats]:
        """Make a step; the last of `below` is what comes from the layer below, if there is one."""
        x = None if self._is_first else below[-1]
        h = _rounded(old["h"], self._scale)

        def total(gate: str) -> Floats:
            if x is None:
                return self._total[gate](h, token)
            return self._total[gate](np.concatenate([x, h], axis=1))

        if self._cell == "rnn_tanh":
            return {"h": np.tanh(total("h"))}
        if self._cell == "rnn_relu":
            return {"h": np.maximum(total("h"), 0)}
        if self._cell == "gru":
            z, r = _sigmoid(total("z")), _sigmoid(total("r"))
            above = self._table[token] if x is None else self._input(x)
            n: Floats = np.tanh(above + r * self._recurrent(h))
            return {"h": (1 - z) * n + z * old["h"]}
        i, o, f = (_sigmoid(total(gate)) for gate in "iof")
        c = f * old["c"] + i * np.tanh(total("c"))
        return {"h": o * np.tanh(c), "c": c}


def _rounded(h: NDArray[np.float32], scale: Scale) -> Floats:
    """Steps above zero that stand for h, as ONNX's QuantizeLinear rounds."""
    low, high = -scale.zero_point, 255 - scale.zero_point
    q: Floats = np.clip(np.rint(h / np.float32(scale.step)), low, high).astype(np.float64)
    return q


def _sigmoid(x: Floats) -> Floats:
    y: Floats = 1 / (1 + np.exp(-x))
    return y
