"""A bundle's weights as the native loop reads them: panels of LANES units, padded to whole ones.

They come from decode.onnx itself, by the names that the export gives them.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
GATES = {"rnn_tanh": "h", "rnn_relu": "h", "gru": "zrn", "lstm": "iofc"}
GROUP = 4  # activations of 8 bits that meet their weights at once
LINE = 64  # bytes of the processor's cache
BEHIND = 16 * 4 * LINE  # bytes that tiles may read behind the last panel


@dataclass(frozen=True, kw_only=True)
class PackedLayer:
    """One layer; G gates, A sums (those of a GRU are z, r, n of h, n of x).

    Attributes:
        x_panels: weights of the layer below; None in a first layer.
        h_panels: weights of its own h.
        table: (V, G, width), what a symbol adds; None in an upper layer.
        bias: (A, width).
        scale: what a step of a sum means, (A, width); None in fp32.
        step: what a step of h means; 1 in fp32.
        zero_point: of h.
    """

    x_panels: NDArray[Any] | None
    h_panels: NDArray[Any]
    table: NDArray[Any] | None
    bias: NDArray[Any]
    scale: NDArray[np.float32] | None
    step: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True, kw_only=True)
class PackedDecoder:
    """What makes logits.

    Attributes:
        panels: of each network.
        bias: (width of the symbols).
        scale: likewise; None in fp32.
    """

    panels: list[NDArray[Any]]
    bias: NDArray[Any]
    scale: NDArray[np.float32] | None


def padded(size: int, multiple: int) -> int:
    """Round a size up."""
    return -(-size // multiple) * multiple


def _row(values: NDArray[Any], lanes: int) -> NDArray[Any]:
    """Fill rows of units up with zeros, (..., width)."""
    missing = padded(values.shape[-1], lanes) - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])


def _panels(weights: list[NDArray[Any]], lanes: int) -> NDArray[Any]:
    """Lay the weights of some gates out, each (inputs, units)."""
    stacked = _row(np.stack(weights, axis=1), lanes)  # (inputs, G, width)
    inputs, G, width = stacked.shape
    if stacked.dtype == np.int8:
        stacked = np.pad(stacked, [(0, padded(inputs, GROUP) - inputs), (0, 0), (0, 0)])
        blocks = stacked.reshape(-1, GROUP, G, width // lanes, lanes).transpose(3, 0, 2, 4, 1)
    else:
        blocks = stacked.reshape(inputs, G, width // lanes, lanes).transpose(2, 0, 1, 3)
    return _on_lines(blocks)


def _on_lines(array: NDArray[Any]) -> NDArray[Any]:
    """Copy an array to the start of a cache line, so that no vector lies on two."""
    copy = _zeros(array.shape, array.dtype)
    copy[...] = array
    return copy


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(LINE + size + BEHIND, np.uint8)
    begin = -memory.ctypes.data % LINE
    return memory[begin : begin + size].view(dtype).reshape(shape)


def _table(of_gates: list[NDArray[Any]], lanes: int) -> NDArray[Any]:
    """Lay out what a symbol adds to each gate, each (V, units)."""
    V, units = of_gates[0].shape
    table = _zeros((V, len(of_gates), padded(units, lanes)), of_gates[0].dtype)
    for gate, values in enumerate(of_gates):
        table[:, gate, :units] = values
    return table


def pack_layer(tensors: Tensors, cell: str, index: int, is_first: bool, lanes: int) -> PackedLayer:
    """Pack one layer.

    Raises:
        KeyError: the graph lacks a weight of this name.
    """
    pack = _pack_int8_layer if f"step{index}" in tensors else _pack_fp32_layer
    return pack(tensors, cell, f"layer{index}", index, is_first, lanes)


def _pack_fp32_layer(
    tensors: Tensors, cell: str, name: str, index: int, is_first: bool, lanes: int
) -> PackedLayer:
    def of(part: str) -> NDArray[Any]:
        return tensors[f"{name}.{part}"]

    summed = [gate for gate in GATES[cell] if (cell, gate) != ("gru", "n")]
    of_h = [of(f"{gate}.W{0 if is_first else 1}") for gate in summed]
    of_x = [] if is_first else [of(f"{gate}.W0") for gate in summed]
    looked_up = [of(f"{gate}.table") for gate in summed] if is_first else []
    bias = [
        np.zeros(len(W), np.float32) if is_first else of(f"{gate}.b")
        for gate, W in zip(summed, of_h, strict=True)
    ]
    if cell == "gru":
        of_h.append(of("n.recurrent.W0"))
        bias.append(of("n.recurrent.b"))
        if is_first:
            looked_up.append(of("n.input"))
            bias.append(np.zeros_like(bias[0]))  # the loop reads one for each sum
        else:
            of_x.append(of("n.input.W0"))
            bias.append(of("n.input.b"))
    return PackedLayer(
        x_panels=None if is_first else _panels([W.T for W in of_x], lanes),
        h_panels=_panels([W.T for W in of_h], lanes),
        table=_table(looked_up, lanes) if is_first else None,
        bias=_row(np.stack(bias), lanes),
        scale=None,
    )


def _pack_int8_layer(
    tensors: Tensors, cell: str, name: str, index: int, is_first: bool, lanes: int
) -> PackedLayer:
    zero_point = int(tensors["zero_point"])

    def of(part: str) -> NDArray[Any]:
        return tensors[f"{name}.{part}"]

    def shift(W: NDArray[Any]) -> NDArray[np.int32]:
        """What a product has too much, as activations are counted from zero_point."""
        total: NDArray[np.int32] = zero_point * W.sum(0, dtype=np.int32)
        return total

    summed = [gate for gate in GATES[cell] if (cell, gate) != ("gru", "n")]
    both = [of(f"{gate}.W") for gate in summed]  # (H, H), or (2 H, H) with those of x first
    H = both[0].shape[1] if both else of("n.recurrent.W").shape[1]
    of_h, of_x = [W[-H:] for W in both], [W[:H] for W in both]
    scale = [of(f"{gate}.scale") for gate in summed]
    looked_up, bias = [], []
    for gate, W in zip(summed, both, strict=True):
        if is_first:
            looked_up.append(of(f"{gate}.table") - shift(W))
            bias.append(np.zeros(H, np.int32))
        else:
            bias.append(of(f"{gate}.b") - shift(W))
    if cell == "gru":
        W = of("n.recurrent.W")
        of_h.append(W)
        bias.append(of("n.recurrent.b") - shift(W))
        scale.append(of("n.recurrent.scale"))
        if is_first:
            looked_up.append(of("n.input").view(np.int32))  # floats among the sums
            bias.append(np.zeros_like(bias[0]))
            scale.append(np.zeros_like(scale[0]))
        else:
            W = of("n.input.W")
            of_x.append(W)
            bias.append(of("n.input.b") - shift(W))
            scale.append(of("n.input.scale"))
    return PackedLayer(
        x_panels=None if is_first else _panels(of_x, lanes),
        h_panels=_panels(of_h, lanes),
        table=_table(looked_up, lanes) if is_first else None,
        bias=_row(np.stack(bias), lanes),
        scale=_row(np.stack(scale), lanes),
        step=float(tensors[f"step{index}"]),
        zero_point=zero_point,
    )


def pack_decoder(tensors: Tensors, members: int, lanes: int) -> PackedDecoder:
    """Pack what makes logits.

    Raises:
        KeyError: the graph lacks a weight of this name.
    """
    if "decoder.W" not in tensors:
        return PackedDecoder(
            panels=[_panels([tensors[f"decoder.W{i}"].T], lanes) for i in range(members)],
            bias=_row(tensors["decoder.b"], lanes),
            scale=None,
        )
    W = tensors["decoder.W"]
    shift = int(tensors["zero_point"]) * W.sum(0, dtype=np.int32)
    return PackedDecoder(
        panels=[_panels([part], lanes) for part in np.split(W, members)],
        bias=_row(tensors["decoder.b"] - shift, lanes),
        scale=_row(tensors["decoder.scale"], lanes),
    )
