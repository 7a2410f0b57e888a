"""How a precision multiplies: the products of the cells and of the decoder.

fp32   Gemm; what is to be added goes in as its C, so that adding costs no node
fp16   the same in half precision; logits and the state between runs stay fp32
int8   activations in 8 bits with a static scale, weights in 8 bits with a scale for every unit,
       sums in 32 bits: com.microsoft.QGemm. Integer sums are exact, whatever their order.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.graph.graph import Graph
from export.graph.weights import Array


class Precision(Enum):
    """What the compiled loop computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What an 8-bit activation means: (q - zero_point) * step.

    Attributes:
        step: above 0.
        zero_point: 128 where activations have either sign, 0 where they have none.
    """

    step: float
    zero_point: int


# Processors without VNNI add two products of 8 bits in 16 bits and clip the sum. These weights keep
# 2 * 255 * 63 below 2^15, so that every processor gives the same integers.
LARGEST_WEIGHT = 63

UNIT = Scale(step=1 / 127, zero_point=128)
"""For the h of a tanh cell, a GRU or an LSTM, which lies in (-1, 1)."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """W h: the h of a layer and the weights that it meets.

    Attributes:
        h: the tensor, as `Arithmetic.activation` gave it, (N, H).
        layer: whose h it is.
        W: (rows, H).
    """

    h: str
    layer: int
    W: Array


class Arithmetic(Protocol):
    """Writes the products of one precision.

    Attributes:
        dtype: of the recurrent state between two steps.
        carries_activations: whether an activation is worth carrying to the next step; else it
            is made anew, at no cost.
    """

    dtype: type[np.floating[Any]]
    carries_activations: bool

    def activation(self, g: Graph, layer: int, h: str) -> str:
        """Bring a layer's h into the form that products take, (N, H)."""

    def affine(self, g: Graph, name: str, terms: list[Term], bias: Array) -> str:
        """Sum of the terms + bias, (N, rows)."""

    def lookup(self, g: Graph, name: str, table: Array, token: str, term: Term) -> str:
        """table[token] + the term, (N, rows); the table is (V, rows)."""


class FloatArithmetic:
    """Single or half precision.

    Args:
        dtype: float32 or float16.
    """

    carries_activations = False

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self.dtype = dtype

    def activation(self, g: Graph, layer: int, h: str) -> str:
        """Return h as it is."""
        return h

    def affine(self, g: Graph, name: str, terms: list[Term], bias: Array) -> str:
        """Chain one Gemm a term."""
        total = self._weight(g, f"{name}.b", bias)
        for index, term in enumerate(terms):
            total = g.op(
                "Gemm", term.h, self._weight(g, f"{name}.W{index}", term.W), total, transB=1
            )
        return total

    def lookup(self, g: Graph, name: str, table: Array, token: str, term: Term) -> str:
        """Gather, then Gemm with the rows as its C."""
        rows = g.op("Gather", self._weight(g, f"{name}.table", table), token, axis=0)
        return g.op("Gemm", term.h, self._weight(g, f"{name}.W0", term.W), rows, transB=1)

    def _weight(self, g: Graph, name: str, array: Array) -> str:
        # A view stays one where nothing is converted, so that its bytes are stored once.
        return g.weight(name, array if array.dtype == self.dtype else array.astype(self.dtype))


class Int8Arithmetic:
    """8-bit products, everything else in single precision.

    Args:
        scales: of each layer's h.
    """

    dtype = np.float32
    carries_activations = True

    def __init__(self, scales: list[Scale]) -> None:
        self._scales = scales

    def activation(self, g: Graph, layer: int, h: str) -> str:
        """Round h to uint8."""
        step = g.constant(f"step{layer}", self._scales[layer].step, np.float32)
        return g.op("QuantizeLinear", h, step, self._zero_point(g))

    def affine(self, g: Graph, name: str, terms: list[Term], bias: Array) -> str:
        """Lay the terms side by side: one product, one scale for every unit."""
        h = terms[0].h
        if len(terms) > 1:
            h = g.op("Concat", *(term.h for term in terms), axis=1)
        weights = quantise(np.concatenate([self._scaled(term) for term in terms], axis=1))
        return self._gemm(g, name, h, weights, g.weight(f"{name}.b", weights.in_steps(bias)))

    def lookup(self, g: Graph, name: str, table: Array, token: str, term: Term) -> str:
        """Gather from a table of 32-bit sums, to which the product adds."""
        weights = quantise(self._scaled(term))
        sums = g.weight(f"{name}.table", weights.in_steps(table))
        return self._gemm(g, name, term.h, weights, g.op("Gather", sums, token, axis=0))

    def _scaled(self, term: Term) -> Array:
        """Weights times what one unit of their activation means."""
        return term.W * np.float32(self._scales[term.layer].step)

    def _zero_point(self, g: Graph) -> str:
        return g.constant("zero_point", self._scales[0].zero_point, np.uint8)

    def _gemm(self, g: Graph, name: str, h: str, weights: "Quantised", addend: str) -> str:
        rows = len(weights.scale)
        return g.op(
            "QGemm",
            h,
            g.constant("one", 1.0, np.float32),
            self._zero_point(g),
            g.weight(f"{name}.W", np.ascontiguousarray(weights.W.T)),
            g.weight(f"{name}.scale", weights.scale),
            g.constant(f"no_shift_{rows}", np.zeros(rows), np.int8),
            addend,
            domain="com.microsoft",
        )


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """Weights in 8 bits.

    Attributes:
        W: int8, (rows, columns).
        scale: what one step means in each row, float, (rows,).
    """

    W: NDArray[np.int8]
    scale: Array

    def in_steps(self, addend: Array) -> NDArray[np.int32]:
        """Round what is added to the products, (..., rows), to their steps."""
        return np.rint(addend.astype(np.float64) / self.scale).astype(np.int32)


def quantise(W: Array) -> Quantised:
    """Round weights to 127 steps a row, the largest at either end."""
    largest = np.abs(W).max(1)
    scale = (np.where(largest > 0, largest, 1) / LARGEST_WEIGHT).astype(np.float32)
    steps = np.rint(W.astype(np.float64) / scale[:, None]).astype(np.int8)
    return Quantised(W=steps, scale=scale)


def open_arithmetic(precision: Precision, scales: list[Scale]) -> Arithmetic:
    """Choose by precision; the scales of each layer's h matter to int8 alone."""
    if precision is Precision.INT8:
        return Int8Arithmetic(scales)
    return FloatArithmetic(np.float16 if precision is Precision.FP16 else np.float32)
