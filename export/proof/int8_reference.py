"""What the int8 loop should compute, in numpy and without any of its graph.

The weights are rounded as for the graph; products are exact, as 64-bit floats hold every sum.
"""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.graph.arithmetic import Scale, quantise
from export.graph.weights import Array, LayerWeights, ModelWeights, NetworkWeights

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

BLOCK = 256  # steps that one layer makes before the next one does; bounds the memory


class Int8Reference:
    """A model in 8-bit products, called as the torch model is.

    Args:
        model: the weights.
        scales: of each layer's h.
    """

    def __init__(self, model: ModelWeights, scales: list[Scale]) -> None:
        self._model = model
        depth = len(model.networks[0].layers)
        places = [slice(start, start + depth) for start in range(0, len(scales), depth)]
        self._networks = [
            (place, _layers(model.cell, network, scales[place]))
            for place, network in zip(places, model.networks, strict=True)
        ]
        parts = [
            network.decoder * np.float32(scales[place][-1].step)
            for place, network in zip(places, model.networks, strict=True)
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
        now = {name: tensor.numpy().astype(np.float32) for name, tensor in state.items()}
        ids, blocks = tokens.numpy(), []
        for start in range(0, len(ids), BLOCK):
            block, tops = ids[start : start + BLOCK], []
            for place, layers in self._networks:
                q: Floats = np.empty((*block.shape, 0))
                for index, layer in enumerate(layers, place.start):
                    old = {name: tensor[index] for name, tensor in now.items()}
                    q, new = layer.read(block, q, old)
                    for name, tensor in new.items():
                        now[name][index] = tensor
                tops.append(q)
            blocks.append(self._decoder(np.concatenate(tops, axis=-1)).astype(np.float32))
        last = {name: torch.from_numpy(tensor) for name, tensor in now.items()}
        return torch.from_numpy(np.concatenate(blocks)), last


class _Product:
    """q -> (W q + C) * scale, W and C in 8 and 32 bits."""

    def __init__(self, W: Array, addend: Array) -> None:
        weights = quantise(W)
        self.W = weights.W.astype(np.float64)
        self.scale = weights.scale.astype(np.float64)
        self.addend = weights.in_steps(addend)

    def __call__(self, q: Floats) -> Floats:
        product: Floats = (q @ self.W.T + self.addend) * self.scale
        return product


def _layers(cell: str, network: NetworkWeights, scales: list[Scale]) -> list["_Layer"]:
    """Make one network's layers; `scales` are those of their h."""
    first, *others = network.layers
    lowest = _Layer(cell, first, network.embedding, None, scales[0])
    above = zip(others, pairwise(scales), strict=True)
    return [lowest, *(_Layer(cell, weights, None, *two) for weights, two in above)]


class _Layer:
    """One recurrent layer; all sums of its gates are made at once, (..., G * H).

    Args:
        cell: its name.
        weights: not rounded.
        embedding: of the symbols, where the layer reads them.
        x: the scale of what the layer below gives, where there is one.
        h: the scale of its own h.
    """

    def __init__(
        self, cell: str, weights: LayerWeights, embedding: Array | None, x: Scale | None, h: Scale
    ) -> None:
        self._cell, self._scale = cell, h
        sums = []
        for gate in weights.gates:
            W, R = weights.gate("W", gate), weights.gate("R", gate) * np.float32(h.step)
            Wb, Rb = weights.gate("Wb", gate), weights.gate("Rb", gate)
            given: Floats = np.zeros(len(W))
            if embedding is not None:  # (V, H): a symbol is looked up, not multiplied
                given, W = embedding.astype(np.float64) @ W.T.astype(np.float64), W[:, :0]
            if x is not None:
                W = W * np.float32(x.step)
            if gate == "n":  # r meets only what comes from h
                self._table = (given + Wb).astype(np.float32)
                self._input = _Product(W, Wb) if x is not None else None
                W, given, Wb = 0 * W, 0 * given, 0 * Wb
            addend = (given + (Wb + Rb)).astype(np.float32)
            sums.append(_Product(np.concatenate([W, R], axis=1), addend))
        inputs = sums[0].W.shape[1] - weights.hidden_size
        rows = np.concatenate([each.W for each in sums])
        self._W, self._R = rows[:, :inputs].T, np.ascontiguousarray(rows[:, inputs:].T)
        self._unit = np.concatenate([each.scale for each in sums])
        self._addend = np.concatenate([each.addend for each in sums], axis=-1)

    def read(
        self, tokens: Ids, below: Floats, state: dict[str, Array]
    ) -> tuple[Floats, dict[str, Array]]:
        """Make T steps.

        Args:
            tokens: (T, N).
            below: what the layer below returned, (T, N, inputs); of the lowest, no inputs.
            state: before them, each tensor (N, H).

        Returns:
            The steps above zero that stand for each h, (T, N, H), and the state after them.
        """
        addend = self._addend[tokens] if self._addend.ndim == 2 else self._addend
        given = below @ self._W + addend
        above = self._above(tokens, below) if self._cell == "gru" else given
        q = _rounded(state["h"], self._scale)
        written = np.empty((*tokens.shape, q.shape[1]))
        for t in range(len(tokens)):
            new = self._step((q @ self._R + given[t]) * self._unit, above[t], state)
            state = {name: tensor.astype(np.float32) for name, tensor in new.items()}
            written[t] = q = _rounded(state["h"], self._scale)
        return written, state

    def _above(self, tokens: Ids, below: Floats) -> Floats | Array:
        """What a GRU's n takes from below, (T, N, H)."""
        return self._table[tokens] if self._input is None else self._input(below)

    def _step(
        self, sums: Floats, above: Floats | Array, old: dict[str, Array]
    ) -> dict[str, Floats]:
        """Make a step from the sums of all gates, (N, G * H)."""
        H = len(self._R)
        if self._cell == "rnn_tanh":
            return {"h": np.tanh(sums)}
        if self._cell == "rnn_relu":
            return {"h": np.maximum(sums, 0)}
        if self._cell == "gru":
            opened = _sigmoid(sums[:, : 2 * H])
            z, r = opened[:, :H], opened[:, H:]
            n: Floats = np.tanh(above + r * sums[:, 2 * H :])
            return {"h": (1 - z) * n + z * old["h"]}
        opened = _sigmoid(sums[:, : 3 * H])
        i, o, f = opened[:, :H], opened[:, H : 2 * H], opened[:, 2 * H :]
        c = f * old["c"] + i * np.tanh(sums[:, 3 * H :])
        return {"h": o * np.tanh(c), "c": c}


def _rounded(h: Array, scale: Scale) -> Floats:
    """Steps above zero that stand for h, as ONNX's QuantizeLinear rounds."""
    low, high = -scale.zero_point, 255 - scale.zero_point
    steps = np.minimum(np.maximum(np.rint(h / np.float32(scale.step)), low), high)
    q: Floats = steps.astype(np.float64)
    return q


def _sigmoid(x: Floats) -> Floats:
    y: Floats = 1 / (1 + np.exp(-x))
    return y
