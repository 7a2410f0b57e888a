"""Gradients of rows that are read again and again."""

import torch
from torch import Tensor

from training.recurrence.kernels.arithmetic import view, wide
from training.recurrence.kernels.compiling import Array, compiled
from training.recurrence.steps import Columns


class Sums:
    """Gradient of a table's rows: sums over the steps that have read each.

    Args:
        rows: V of the table.
        index: which of them each step has read, (T, N).
        columns: gradients of what was read, side by side.
    """

    def __init__(self, rows: int, index: Tensor, columns: tuple[Columns, ...]) -> None:
        self._index, self._columns = view(index), columns
        self._shape = rows, sum(each.width for each in columns)
        self._shares: dict[int, Tensor] = {}

    def add(self, first: int, last: int) -> None:
        """Sum over a share of the N."""
        sums, place = torch.zeros(self._shape), 0
        for whole, start, width in self._columns:
            add_rows(first, last, self._index, view(whole), start, width, view(sums), place)
            place += width
        self._shares[first] = sums

    def total(self) -> Tensor:
        """Return the sums over all shares, (V, columns)."""
        return torch.stack([sums for _, sums in sorted(self._shares.items())]).sum(0)


@compiled
def add_rows(
    first: int,
    last: int,
    index: Array,
    delta: Array,
    start: int,
    width: int,
    sums: Array,
    place: int,
) -> None:
    """Add the gradient of each row of each step to that of the row of the table it has read.

    Args:
        first: row of the N at which the thread's share begins.
        last: row before which it ends.
        index: rows of the table, int64, shape (T, N).
        delta: gradients of all steps, operands, shape (T, N, X).
        start: first column of the X to take.
        width: of these columns.
        sums: the table's, float32, shape (V, Y).
        place: of the first of these columns among the Y.
    """
    for t in range(len(index)):
        for row in range(first, last):
            total = sums[index[t, row]][place : place + width]
            own = delta[t, row][start : start + width]
            for j in range(width):
                total[j] += wide(own[j])
