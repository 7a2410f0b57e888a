"""Torch's tensors as numpy's arrays of the same memory."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


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
