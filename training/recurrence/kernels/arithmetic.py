"""Numbers of compiled loops: torch's memory as arrays, operands, and the functions of the cells.

An operand is a float32, or a bfloat16 as its bits in a uint16 (numpy has no such type); all
arithmetic is float32.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

from training.recurrence.kernels.compiling import Array, inlined

f32, i32, u32 = np.float32, np.int32, np.uint32


def view(tensor: Tensor) -> Array:
    """Return a tensor's memory as numpy's; bfloat16 as its bits, uint16."""
    tensor = tensor.detach()
    bits = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    array: Array = bits.numpy()
    return array


def words(tensor: Tensor) -> Array:
    """Return a tensor's memory in words of 32 bits: float32, or uint32 of two bfloat16 each.

    Args:
        tensor: contiguous, of an even last dimension if bfloat16.
    """
    array = view(tensor)
    return array.view(np.uint32) if tensor.dtype == torch.bfloat16 else array


def wide(number: Any) -> Any:
    """Return an operand as float32."""
    raise NotImplementedError  # compiled code only


def _wide(number: Any) -> Callable[[Any], Any]:
    if number == types.uint16:
        return lambda number: i32(i32(number) << i32(16)).view(f32)
    return lambda number: number


def put(row: Array, j: int, number: Any) -> None:
    """Write a float32 as an operand, bfloat16 rounded to the nearest, half to even."""
    raise NotImplementedError  # compiled code only


def _put(row: Any, j: Any, number: Any) -> Callable[[Array, int, Any], None]:
    if row.dtype == types.uint16:

        def rounded(row: Array, j: int, number: Any) -> None:
            bits = f32(number).view(i32)
            half = i32(0x7FFF) + ((bits >> i32(16)) & i32(1))
            row[j] = np.uint16(u32(bits + half) >> u32(16))

        return rounded

    def exact(row: Array, j: int, number: Any) -> None:
        row[j] = number

    return exact


overload(wide, strict=False)(_wide)
overload(put, strict=False)(_put)


@inlined
def exp(x: Any) -> Any:
    """Return e**x within 2e-7 of it, relative; NaN of NaN. Beyond +-87 it stays where it is.

    2**k times a polynomial on [-ln 2 / 2, ln 2 / 2], coefficients of Cephes' expf (Moshier).
    """
    x = f32(87) if x > f32(87) else x
    x = f32(-87) if x < f32(-87) else x
    k = np.floor(x * f32(1.44269504) + f32(0.5))
    r = x - k * f32(0.693359375) + k * f32(2.12194440e-4)
    p = f32(1.9875691500e-4) * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    return (p * r * r + r + f32(1)) * i32((i32(k) + i32(127)) << i32(23)).view(f32)


@inlined
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e**-x)."""
    return f32(1) / (f32(1) + exp(-x))


@inlined
def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent, within 2e-7 of it, absolute."""
    return f32(2) * sigmoid(f32(2) * x) - f32(1)
