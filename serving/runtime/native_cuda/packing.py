"""A bundle's weights as the native loop on CUDA reads them.

They come from decode.onnx itself, by the names that the export gives them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
GATES = {"rnn_tanh": "h", "rnn_relu": "h", "gru": "zrn", "lstm": "iofc"}


@dataclass(frozen=True, kw_only=True)
class PackedModel:
    """All weights; M networks of D layers, L = M D, G gates, A biases (GRU: z, r, n of x, n of h).

    Attributes:
        recurrent: weights of h, float32 or float16, (L, G H, H).
        input: weights of the layer below, likewise, (M, D - 1, G H, H).
        table: what a symbol adds in a first layer, (M, V, G H).
        bias: (L, A, H).
        decoder: as `recurrent`, (M, V, H).
        decoder_bias: (V,).
    """

    recurrent: NDArray[Any]
    input: NDArray[Any]
    table: NDArray[np.float32]
    bias: NDArray[np.float32]
    decoder: NDArray[Any]
    decoder_bias: NDArray[np.float32]


def pack(tensors: Tensors, cell: str, members: int, depth: int) -> PackedModel:
    """Pack a model.

    Args:
        tensors: the weights of decode.onnx, in fp32 or fp16.
        cell: rnn_tanh, rnn_relu, gru or lstm.
        members: how many networks.
        depth: layers of each.

    Raises:
        KeyError: the graph lacks a weight of this name.
    """
    layers = range(members * depth)
    decoder = np.stack([tensors[f"decoder.W{number}"] for number in range(members)])
    hidden = decoder.shape[-1]
    above = [_input(tensors, cell, index) for index in layers if index % depth]
    height = len(GATES[cell]) * hidden
    return PackedModel(
        recurrent=np.stack([_recurrent(tensors, cell, index, depth) for index in layers]),
        input=np.array(above, decoder.dtype).reshape(members, depth - 1, height, hidden),
        table=np.stack([_table(tensors, cell, index) for index in layers if not index % depth]),
        bias=np.stack([_bias(tensors, cell, index, depth) for index in layers]),
        decoder=decoder,
        decoder_bias=tensors["decoder.b"].astype(np.float32),
    )


def _is_candidate(cell: str, gate: str) -> bool:
    """Whether a gate keeps its products of x and of h apart."""
    return (cell, gate) == ("gru", "n")


def _recurrent(tensors: Tensors, cell: str, index: int, depth: int) -> NDArray[Any]:
    last = 1 if index % depth else 0
    return np.concatenate(
        [
            tensors[
                f"layer{index}.n.recurrent.W0"
                if _is_candidate(cell, gate)
                else f"layer{index}.{gate}.W{last}"
            ]
            for gate in GATES[cell]
        ]
    )


def _input(tensors: Tensors, cell: str, index: int) -> NDArray[Any]:
    return np.concatenate(
        [
            tensors[f"layer{index}.{gate}{'.input' if _is_candidate(cell, gate) else ''}.W0"]
            for gate in GATES[cell]
        ]
    )


def _table(tensors: Tensors, cell: str, index: int) -> NDArray[np.float32]:
    rows = [
        tensors[f"layer{index}.{gate}.{'input' if _is_candidate(cell, gate) else 'table'}"]
        for gate in GATES[cell]
    ]
    return np.concatenate(rows, axis=1).astype(np.float32)


def _bias(tensors: Tensors, cell: str, index: int, depth: int) -> NDArray[np.float32]:
    """Biases that the table does not hold."""
    names = [
        f"{gate}.input.b" if _is_candidate(cell, gate) else f"{gate}.b" for gate in GATES[cell]
    ]
    hidden = tensors[f"decoder.W{index // depth}"].shape[1]
    rows = [
        tensors[f"layer{index}.{name}"] if index % depth else np.zeros(hidden, np.float32)
        for name in names
    ]
    if cell == "gru":
        rows.append(tensors[f"layer{index}.n.recurrent.b"])
    return np.stack(rows).astype(np.float32)
