"""Gradients of rows that are read again and again."""

import torch
from torch import Tensor

from training.recurrence import kernels
from training.recurrence.arrays import view
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
            kernels.add_rows(first, last, self._index, view(whole), start, width, view(sums), place)
            place += width
        self._shares[first] = sums

    def total(self) -> Tensor:
        """Return the sums over all shares, (V, columns)."""
        return torch.stack([sums for _, sums in sorted(self._shares.items())]).sum(0)
