"""Products with weights: of tiles where this processor has the instructions, else the library's."""

import numpy as np
import torch
from torch import Tensor

from training.recurrence.kernels import tile
from training.recurrence.kernels.arithmetic import view, words
from training.recurrence.kernels.compiling import Array
from training.recurrence.kernels.products import (
    WORD,
    multiply,
    multiply_and_add,
    multiply_transposed,
    pack_columns,
    pack_rows,
)
from training.recurrence.kernels.tile import COLUMNS
from training.recurrence.threads import share

TILES = {torch.float32: tile.FLOATS, torch.bfloat16: tile.BFLOATS}
# Without oneDNN (builds of torch for some processors), torch's own product is taken.
ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def has_tiles(weight: Tensor) -> bool:
    """Say whether tiles multiply with a weight, (outputs, inputs), and with it transposed.

    They do not where the processor lacks the instructions, or where an odd number of bfloat16 is
    no whole number of words.
    """
    whole = all(size * weight.itemsize % WORD == 0 for size in weight.shape)
    return whole and TILES[weight.dtype]


def packed(weight: Tensor) -> Array:
    """Pack a weight for products x times the transposed weight.

    Args:
        weight: contiguous, float32 or bfloat16, shape (outputs, inputs).

    Returns:
        Words, (panels, inputs in words, COLUMNS).
    """
    outputs, inputs = weight.shape
    panels = _panels(outputs, inputs, weight.dtype)
    share(len(panels), lambda first, last: pack_rows(first, last, words(weight), panels))
    return panels


def packed_transposed(matrix: Tensor) -> Array:
    """Pack a weight, (outputs, inputs), for products x times the weight; see `packed`."""
    depth, X = matrix.shape
    panels, of_matrix = _panels(X, depth, matrix.dtype), view(matrix)

    def pack(first: int, last: int) -> None:
        left, right = first * COLUMNS, min(last * COLUMNS, X)
        pack_columns(of_matrix, 0, left, right, panels.shape[1], panels[first:last])

    share(len(panels), pack)
    return panels


def times_packed(x: Tensor, panels: Array, bias: Tensor) -> Tensor:
    """Return x times a packed weight, plus a bias.

    Args:
        x: contiguous, float32 or bfloat16, shape (rows, inputs).
        panels: of the weight, of x's type.
        bias: float32, shape (outputs,).

    Returns:
        Of x's type, shape (rows, outputs).
    """
    out = torch.empty(len(x), len(bias), dtype=x.dtype)
    arrays = view(x), panels, view(bias), view(out)
    share(len(x), lambda first, last: multiply_and_add(first, last, *arrays))
    return out


def product_transposed(a: Tensor, b: Tensor) -> Tensor:
    """Return the transposed a times b: a weight's gradient.

    Args:
        a: contiguous, float32 or bfloat16, shape (batch, outputs).
        b: the same, shape (batch, inputs).

    Returns:
        Shape (outputs, inputs), float32; the library's is of the operands' type.
    """
    if not TILES[a.dtype]:
        return torch.mm(a.t(), b)
    panels, (outputs, inputs) = packed_transposed(b), (a.shape[1], b.shape[1])
    out = torch.empty(outputs, len(panels) * COLUMNS)
    share(outputs, lambda first, last: multiply_transposed(first, last, view(a), panels, view(out)))
    return out[:, :inputs].contiguous()


def _panels(columns: int, depth: int, dtype: torch.dtype) -> Array:
    """Make room, on a multiple of a vector's bytes, which torch's memory is."""
    in_words = -(-depth * dtype.itemsize // WORD)
    room = torch.empty(-(-columns // COLUMNS), in_words, COLUMNS).numpy()
    return room.view(np.uint32) if dtype == torch.bfloat16 else room


class Weight:
    """A weight that many x are multiplied with.

    Where there are no tiles, oneDNN puts the weight in the order in which it reads it, once;
    `torch.mm` in float32 does so at every call. The operators are those that torch.compile calls
    for frozen weights.

    Args:
        weight: contiguous, float32 or bfloat16, shape (outputs, inputs).
        rows: of each x.
        transposed: multiply with the weight, not with the transposed one.

    Attributes:
        panels: the packed weight; None where there are no tiles for it.
    """

    def __init__(self, weight: Tensor, rows: int, *, transposed: bool = False) -> None:
        self.panels, self._outputs = None, weight.shape[1 if transposed else 0]
        if has_tiles(weight):
            self.panels = packed_transposed(weight) if transposed else packed(weight)
            return
        self._weight = weight.t() if transposed else weight
        if ONEDNN:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, rows)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x's product, (rows, outputs); float32 of tiles, else of the weight's type."""
        if self.panels is not None:
            out = torch.empty(len(x), len(self.panels) * COLUMNS)
            multiply(view(x), 0, self.panels, view(out))
            return out[:, : self._outputs]
        if not ONEDNN:
            return torch.mm(x, self._weight.t())
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        return product
