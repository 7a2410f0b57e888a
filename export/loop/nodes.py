"""Nodes that several of the loop's graphs have: states in and out, rows that end, what is told."""

from typing import Any

import numpy as np
from onnx import helper

from export.graph.arithmetic import Arithmetic
from export.graph.cells import RecurrentState
from export.graph.graph import Graph, Shape
from export.graph.weights import ModelWeights


def enter(
    g: Graph, model: ModelWeights, arithmetic: Arithmetic, state: dict[str, str], axis: int
) -> RecurrentState:
    """Take float32 state tensors apart into layers, which lie along an axis."""
    tensors = {}
    for name, whole in state.items():
        inner = cast(g, whole, np.float32, arithmetic.dtype)
        tensors[name] = [
            g.op("Gather", inner, g.constant(f"layer_{index}", index, np.int64), axis=axis)
            for index in range(len(model.layers))
        ]
    activations = []
    if arithmetic.carries_activations:
        activations = [arithmetic.activation(g, i, h) for i, h in enumerate(tensors["h"])]
    return RecurrentState(tensors=tensors, activations=activations)


def take_state(
    g: Graph, model: ModelWeights, arithmetic: Arithmetic, state: RecurrentState
) -> RecurrentState:
    """Declare what a step gets of the state that is carried, as inputs of its body."""
    row: Shape = ["batch", model.hidden_size]
    dtypes = enumerate(_dtypes(arithmetic, state))
    return state.renamed([g.input(f"state{i}", dtype, row) for i, dtype in dtypes])


def give_state(
    g: Graph, model: ModelWeights, arithmetic: Arithmetic, state: RecurrentState
) -> None:
    """Declare what a step gives of the state, in the same order."""
    row: Shape = ["batch", model.hidden_size]
    for i, (tensor, dtype) in enumerate(zip(state.names, _dtypes(arithmetic, state), strict=True)):
        g.output(tensor, f"new{i}", dtype, row)


def _dtypes(arithmetic: Arithmetic, state: RecurrentState) -> list[Any]:
    quantised = len(state.activations)
    return [arithmetic.dtype] * (len(state.names) - quantised) + [np.uint8] * quantised


def keep_alive(g: Graph, is_alive: str, new: RecurrentState, old: RecurrentState) -> RecurrentState:
    """Take the old state in rows that are not alive.

    Activations of such a row go on unkept: what they lead to means nothing.
    """
    tensors = {
        name: [
            g.op("Where", is_alive, tensor, before)
            for tensor, before in zip(layers, old.tensors[name], strict=True)
        ]
        for name, layers in new.tensors.items()
    }
    return RecurrentState(tensors=tensors, activations=new.activations)


def leave(g: Graph, arithmetic: Arithmetic, layers: list[str], axis: int) -> str:
    """Join layers into one float32 state tensor, along an axis."""
    axes = g.constant(f"axes_{axis}", [axis], np.int64)
    whole = g.op("Concat", *(g.op("Unsqueeze", layer, axes) for layer in layers), axis=axis)
    return cast(g, whole, arithmetic.dtype, np.float32)


def log_probs_of(g: Graph, all_log_probs: str, chosen: str, axis: int) -> str:
    """Log-probabilities of the chosen symbols, (..., N), from those of all along the axis."""
    axes = g.constant(f"axes_{axis}", [axis], np.int64)
    of_chosen = g.op("GatherElements", all_log_probs, g.op("Unsqueeze", chosen, axes), axis=axis)
    return g.op("Squeeze", of_chosen, axes)


def cast(g: Graph, tensor: str, from_: Any, to: Any) -> str:
    """Append a Cast where the types differ."""
    if from_ == to:
        return tensor
    return g.op("Cast", tensor, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))


def is_alive_at(g: Graph, steps: str) -> str:
    """Whether a row's state goes on at each step, (T, N, 1)."""
    time = g.op("Squeeze", g.op("Shape", "forced", end=1))
    zero, one = g.constant("zero_id", 0, np.int64), g.constant("one_id", 1, np.int64)
    t = g.op("Range", zero, time, one)
    t = g.op("Unsqueeze", t, g.constant("axes_1_2", [1, 2], np.int64))  # (T, 1, 1)
    return g.op("Less", t, g.op("Unsqueeze", steps, g.constant("axes_1", [1], np.int64)))
