"""All steps of one layer over one window: what they read, write and keep.

Torch's tensors, and numpy's views of the same memory for the kernels, which do the arithmetic.
Letters: T time, N batch, H hidden, G gates of the weights.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.recurrence.kernels import cells as kernels
from training.recurrence.kernels.arithmetic import view
from training.recurrence.kernels.compiling import Array
from training.recurrence.kernels.tile import COLUMNS
from training.settings import Cell


class Columns(NamedTuple):
    """Some columns of what all steps have."""

    whole: Tensor
    """Contiguous, (T, N, X)."""

    start: int
    """First of the X."""

    width: int
    """How many."""

    @property
    def tensor(self) -> Tensor:
        """They alone, (T, N, width)."""
        return self.whole[..., self.start : self.start + self.width]


class Steps:
    """A layer's steps; here those of the cells without gates, the gated ones keep more.

    h' = tanh(x + W h) or max(0, x + W h).

    Args:
        x: rows of which every step adds one, with the biases in it: (R, G * H), contiguous.
        index: which row, int64, shape (T, N).
        h: state before the first step, float32, shape (N, H).
        dtype: of the operands of products, float32 or bfloat16. All else is float32.
        more: what a cell's forward pass reads besides.

    Attributes:
        states: before the first step and after each, float32, (T + 1, N, H).
        operands: the same as a product's operands; the same tensor in float32.
        delta: after the backward pass, the gradients of the products, (T, N, G * H).
    """

    G: ClassVar[int] = 1
    FORWARD: ClassVar[Callable[..., None]] = staticmethod(kernels.plain_forward)
    BACKWARD: ClassVar[Callable[..., None]] = staticmethod(kernels.plain_backward)

    def __init__(
        self, x: Tensor, index: Tensor, h: Tensor, dtype: torch.dtype, *more: Array | bool
    ) -> None:
        self.T, self.N, self.H, self.dtype = *index.shape, h.shape[1], dtype
        self.states = torch.empty(self.T + 1, *h.shape)
        self.states[0] = h
        self.operands = self.states
        if dtype != torch.float32:
            self.operands = torch.empty(self.states.shape, dtype=dtype)
            self.operands[0] = h
        self._more = more
        self._reads = (view(self.operands), view(x), view(index), view(self.states), *more)

    def forward(self, first: int, last: int, weight: Array) -> None:
        """Make all steps of some rows.

        Args:
            first: row of the N.
            last: row before which to end.
            weight: packed, of the products.
        """
        product = np.empty((last - first, len(weight) * COLUMNS), np.float32)
        self.FORWARD(0, self.T, first, product, weight, *self._reads)

    def step_forward(self, t: int, first: int, product: Tensor) -> None:
        """Make step t of the rows from `first` on.

        Args:
            t: in [0, T).
            first: row of the N.
            product: of these rows' states and the weight, operands, (rows, G * H).
        """
        self.FORWARD(t, t + 1, first, view(product), None, *self._reads)

    def begin_backward(self, incoming: Tensor, grad_c: Tensor) -> None:
        """Take the gradients of the states after each step, (T, N, H), and of an LSTM's last c."""
        self.delta = torch.empty(self.T, self.N, self.G * self.H, dtype=self.dtype)
        arrays = view(self.delta), view(incoming.contiguous()), view(self.states)
        self._writes = (*arrays, *self._back(grad_c))

    def _back(self, grad_c: Tensor) -> tuple[Array | bool, ...]:
        """Return what a cell's backward pass reads and writes besides."""
        return self._more

    def backward(self, first: int, grad_h: Tensor, weight: Array, *, wanted: bool) -> Tensor:
        """Write the rows' `delta` of all steps.

        Args:
            first: row of the N.
            grad_h: what these rows' last states get beside the gradient of all states, (rows, H).
            weight: packed, of the products.
            wanted: whether the gradient of the states before the first step is.

        Returns:
            What these states get through their product, float32, (rows, H), if it is wanted.
        """
        product = torch.zeros(len(grad_h), len(weight) * COLUMNS)
        product[:, : self.H] = grad_h
        self.BACKWARD(0, self.T, first, view(product), weight, wanted, *self._writes)
        return product[:, : self.H]

    def step_backward(self, t: int, first: int, product: Tensor) -> None:
        """Write these rows' `delta` of step t.

        Args:
            t: in [0, T), falling.
            first: row of the N.
            product: of these rows' delta of step t + 1 and the weight, which is what the state
                after step t gets through it; operands, (rows, H).
        """
        self.BACKWARD(t, t + 1, first, view(product), None, False, *self._writes)

    def past_the_product(self) -> Tensor | None:
        """Return what the first state's gradient gets other than through its product, (N, H)."""
        return None

    def of_inputs(self) -> tuple[Columns, ...]:
        """Return the gradients of the rows that the steps have added, side by side."""
        return (Columns(self.delta, 0, self.G * self.H),)

    def of_bias(self) -> Columns | None:
        """Return the gradients of a GRU's recurrent bias of n."""
        return None

    def gradient_of_c(self) -> Tensor | None:
        """Return the gradient of an LSTM's cell state before the first step, (N, H)."""
        return None


class GRUSteps(Steps):
    """r, z = sigmoid(x + W h); n = tanh(x + r * (W h + b)); h' = n + z * (h - n).

    Args:
        x, index, h, dtype: as for all cells.
        bias: b, the recurrent bias of n, float32, (H,).
    """

    G = 3
    FORWARD = staticmethod(kernels.gru_forward)
    BACKWARD = staticmethod(kernels.gru_backward)

    def __init__(
        self, x: Tensor, index: Tensor, h: Tensor, dtype: torch.dtype, bias: Tensor
    ) -> None:
        super().__init__(x, index, h, dtype, view(bias), _four(index, h))

    def _back(self, grad_c: Tensor) -> tuple[Array | bool, ...]:
        self._carried = torch.zeros(self.N, self.H)
        self._of_n = torch.empty(self.T, self.N, self.H, dtype=self.dtype)
        return view(self._carried), view(self._of_n), self._more[-1]

    def past_the_product(self) -> Tensor:
        """See Steps: through the update gate."""
        return self._carried

    def of_inputs(self) -> tuple[Columns, ...]:
        """See Steps: n's input is not its product."""
        return Columns(self.delta, 0, 2 * self.H), Columns(self._of_n, 0, self.H)

    def of_bias(self) -> Columns:
        """See Steps."""
        return Columns(self.delta, 2 * self.H, self.H)


class LSTMSteps(Steps):
    """i, f, o = sigmoid(x + W h); g = tanh(x + W h); c' = f * c + i * g; h' = o * tanh(c').

    Args:
        x, index, h, dtype: as for all cells.
        c: cell state before the first step, float32, (N, H).

    Attributes:
        cells: c before the first step and after each, (T + 1, N, H).
    """

    G = 4
    FORWARD = staticmethod(kernels.lstm_forward)
    BACKWARD = staticmethod(kernels.lstm_backward)

    def __init__(self, x: Tensor, index: Tensor, h: Tensor, dtype: torch.dtype, c: Tensor) -> None:
        self.cells = torch.empty(len(index) + 1, *h.shape)
        self.cells[0] = c
        super().__init__(x, index, h, dtype, view(self.cells), _four(index, h))

    def _back(self, grad_c: Tensor) -> tuple[Array | bool, ...]:
        self._carried = grad_c.clone()
        return view(self._carried), *self._more

    def gradient_of_c(self) -> Tensor:
        """See Steps."""
        return self._carried


def _four(index: Tensor, h: Tensor) -> Array:
    """Make what a gated cell keeps: four blocks of H a step."""
    return np.empty((*index.shape, 4 * h.shape[1]), np.float32)


def steps_of(
    cell: Cell, x: Tensor, index: Tensor, h: Tensor, dtype: torch.dtype, bias: Tensor, c: Tensor
) -> Steps:
    """Make the steps of a cell; for the arguments see the classes."""
    match cell:
        case "gru":
            return GRUSteps(x, index, h, dtype, bias)
        case "lstm":
            return LSTMSteps(x, index, h, dtype, c)
        case "rnn_tanh" | "rnn_relu":
            return Steps(x, index, h, dtype, cell == "rnn_relu")
