"""One step of each cell, forwards and backwards.

Where autograd would record a dozen operations a step and compute each one's derivative on the way
back, a gated cell's step here turns its gates into *factors* while they are still in the cache: on
the way back all gates' gradients are one product, the state's gradient times the factors. Letters:
T time, N batch, H hidden, G gates of the weights, B blocks of a step's buffer.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

aten = torch.ops.aten
ONE, MINUS_ONE = torch.tensor(1.0), torch.tensor(-1.0)


def tanh_of_half_(x: Tensor) -> Tensor:
    """Return tanh(x / 2) in x's place, as 2 * sigmoid(x) - 1.

    Torch's sigmoid is 6 times as fast as its tanh.
    """
    return torch.add(MINUS_ONE, x.sigmoid_(), alpha=2, out=x)


class Steps(ABC):
    """All steps of one layer over one window: buffers, and what the way back needs.

    Args:
        h: state before the first step, float32, shape (N, H).
        T: number of steps.
        dtype: of the operands of products, float32 or bfloat16. All else is float32.
    """

    G: ClassVar[int]

    def __init__(self, h: Tensor, T: int, dtype: torch.dtype) -> None:
        self.H, self.low = h.shape[1], dtype != torch.float32
        self.states = torch.empty(T + 1, *h.shape)
        self.states[0] = h
        self.operands = self.states.to(dtype)  # the same tensor in float32
        self._h, self._operand = self.states.unbind(0), self.operands.unbind(0)

    def operand(self, t: int) -> Tensor:
        """The state before step t as a product's operand, shape (N, H)."""
        return self._operand[t]

    def table(self, rows: Tensor) -> Tensor:
        """Return rows, (V, G * H), as a table to fill gates from, (V, B * H)."""
        return rows

    @abstractmethod
    def gates(self, t: int) -> Tensor:
        """The buffer of step t, shape (N, B * H), float32."""

    def enter(self, gates: Tensor, x: Tensor, product: Tensor) -> None:
        """Fill a step's buffer from its input x, (N, G * H), and its product."""
        torch.add(x, product, out=gates)

    def forward(self, t: int, gates: Tensor) -> None:
        """Make step t: the state after it, and what the way back needs.

        Args:
            t: in [0, T).
            gates: the step's buffer; overwritten.
        """
        self._step(t, gates)
        if self.low:
            self._operand[t + 1].copy_(self._h[t + 1])

    @abstractmethod
    def _step(self, t: int, gates: Tensor) -> None: ...

    @abstractmethod
    def begin_backward(self, grad_c: Tensor) -> None:
        """Take the gradient of a second state tensor, if the cell has one; shape (N, H)."""

    @abstractmethod
    def backward(self, t: int, dh: Tensor, delta: Tensor) -> None:
        """Write the gradients of step t's products.

        Args:
            t: in [0, T), falling.
            dh: gradient of the state after the step, shape (N, H).
            delta: is written to; float32, shape (N, G * H).
        """

    def parts(self, delta: Tensor) -> tuple[Tensor, ...]:
        """Return the contiguous tensors that hold the gradient of the step's input."""
        return (delta,)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Make one tensor, (rows, G * H), of parts or of sums of their rows."""
        return parts[0]

    def carry(self, t: int, dh: Tensor, incoming: Tensor) -> Tensor:
        """Return the gradient that reaches the state before step t on other ways than the product.

        Args:
            t: in [0, T).
            dh: gradient of the state after the step, shape (N, H); may be overwritten.
            incoming: gradient of that state from outside, shape (N, H).
        """
        return incoming


class PlainSteps(Steps):
    """What the cells without gates share: the state holds all that the way back needs."""

    G = 1

    def gates(self, t: int) -> Tensor:
        """See Steps: the state itself."""
        return self._h[t + 1]

    def begin_backward(self, grad_c: Tensor) -> None:
        """See Steps: there is none."""


class TanhSteps(PlainSteps):
    """h' = tanh(x + W h)."""

    def _step(self, t: int, gates: Tensor) -> None:
        tanh_of_half_(gates.mul_(2))

    def backward(self, t: int, dh: Tensor, delta: Tensor) -> None:
        """See Steps."""
        aten.tanh_backward.grad_input(dh, self._h[t + 1], grad_input=delta)


class ReLUSteps(PlainSteps):
    """h' = max(0, x + W h)."""

    def _step(self, t: int, gates: Tensor) -> None:
        gates.relu_()

    def backward(self, t: int, dh: Tensor, delta: Tensor) -> None:
        """See Steps."""
        aten.threshold_backward.grad_input(dh, self._h[t + 1], 0, grad_input=delta)


class GatedSteps(Steps):
    """What GRU and LSTM share: four blocks a step, gates at first and factors in the end."""

    B: ClassVar[int] = 4

    def __init__(self, h: Tensor, T: int, dtype: torch.dtype) -> None:
        super().__init__(h, T, dtype)
        self._buffers = torch.empty(T, len(h), self.B * self.H).unbind(0)
        self._kept = torch.empty(T, *h.shape).unbind(0)  # z of a GRU, f of an LSTM

    def gates(self, t: int) -> Tensor:
        """See Steps: where the factors will be."""
        return self._buffers[t]

    def _blocks(self, t: int) -> Tensor:
        return self._buffers[t].view(-1, self.B, self.H)


class GRUSteps(GatedSteps):
    """r, z = sigmoid(x + W h); n = tanh(x + r * (W h + b)); h' = n + z * (h - n).

    The blocks are those of r, z, the product within n with b, and the input of n, doubled; then
    the factors of the same.

    Args:
        h, T, dtype: as for all cells.
        bias: b, the recurrent bias of n, shape (H,).

    Attributes:
        grad_bias: after the way back, its gradient in parts, shape (N, H).
    """

    G = 3

    def __init__(self, h: Tensor, T: int, dtype: torch.dtype, bias: Tensor) -> None:
        super().__init__(h, T, dtype)
        self._bias, self._n, self._spare = bias, torch.empty_like(h), torch.empty_like(h)

    def table(self, rows: Tensor) -> Tensor:
        """See Steps."""
        gates, n = rows[:, : 2 * self.H], rows[:, 2 * self.H :]
        return torch.cat([gates, self._bias.expand(len(rows), -1), n * 2], 1)

    def enter(self, gates: Tensor, x: Tensor, product: Tensor) -> None:
        """See Steps."""
        H = self.H
        torch.add(x[:, : 2 * H], product[:, : 2 * H], out=gates[:, : 2 * H])
        torch.add(product[:, 2 * H :], self._bias, out=gates[:, 2 * H : 3 * H])
        torch.mul(x[:, 2 * H :], 2, out=gates[:, 3 * H :])

    def _step(self, t: int, gates: Tensor) -> None:
        h, z, n, spare = self._h[t], self._kept[t], self._n, self._spare
        r, of_z, product, of_n = self._blocks(t).unbind(1)
        torch.sigmoid(of_z, out=z)
        torch.addcmul(of_n, r.sigmoid_(), product, value=2, out=n)
        tanh_of_half_(n)
        torch.lerp(n, h, z, out=self._h[t + 1])
        aten.tanh_backward.grad_input(torch.add(ONE, z, alpha=-1, out=spare), n, grad_input=of_n)
        aten.sigmoid_backward.grad_input(torch.sub(h, n, out=spare), z, grad_input=of_z)
        torch.mul(of_n, product, out=spare)
        torch.mul(of_n, r, out=product)
        aten.sigmoid_backward.grad_input(spare, r, grad_input=r)

    def begin_backward(self, grad_c: Tensor) -> None:
        """See Steps."""
        self.grad_bias, self._grad_n = torch.zeros_like(self._n), torch.empty_like(self._n)

    def backward(self, t: int, dh: Tensor, delta: Tensor) -> None:
        """See Steps."""
        factors, gates = self._blocks(t), delta.view(-1, self.G, self.H)
        torch.mul(dh[:, None], factors[:, :3], out=gates)
        torch.mul(dh, factors[:, 3], out=self._grad_n)
        self.grad_bias.add_(gates[:, 2])

    def parts(self, delta: Tensor) -> tuple[Tensor, ...]:
        """See Steps: n's input is not its product."""
        return delta, self._grad_n

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """See Steps."""
        gates, n = parts
        return torch.cat([gates[:, : 2 * self.H], n], 1)

    def carry(self, t: int, dh: Tensor, incoming: Tensor) -> Tensor:
        """See Steps: here the state also passes through the update gate."""
        return torch.addcmul(incoming, dh, self._kept[t], out=dh)


class LSTMSteps(GatedSteps):
    """i, f, o = sigmoid(x + W h); g = tanh(x + W h); c' = f * c + i * g; h' = o * tanh(c').

    The factors are those of i, f, g (of the gradient of c') and o (of that of h').

    Args:
        h, T, dtype: as for all cells.
        c: cell state before the first step, shape (N, H).
    """

    G = 4

    def __init__(self, h: Tensor, T: int, dtype: torch.dtype, c: Tensor) -> None:
        super().__init__(h, T, dtype)
        self.c, self._next_c = c.clone(), torch.empty_like(c)
        self._g, self._tanh_c = torch.empty_like(c), torch.empty_like(c)
        self._slope = torch.empty(T, *h.shape).unbind(0)  # of h' in c'

    def _step(self, t: int, gates: Tensor) -> None:
        c, after, g, tanh_c = self.c, self._next_c, self._g, self._tanh_c
        i, f, half_g, o = self._blocks(t).unbind(1)
        half_g.mul_(2)
        gates.sigmoid_()
        torch.add(MINUS_ONE, half_g, alpha=2, out=g)
        self._kept[t].copy_(f)
        torch.mul(f, c, out=after).addcmul_(i, g)
        tanh_of_half_(torch.mul(after, 2, out=tanh_c))
        torch.mul(o, tanh_c, out=self._h[t + 1])
        aten.tanh_backward.grad_input(o, tanh_c, grad_input=self._slope[t])
        aten.sigmoid_backward.grad_input(tanh_c, o, grad_input=o)
        aten.sigmoid_backward.grad_input(c, f, grad_input=f)
        aten.tanh_backward.grad_input(i, g, grad_input=half_g)
        aten.sigmoid_backward.grad_input(g, i, grad_input=i)
        self.c, self._next_c = after, c

    def begin_backward(self, grad_c: Tensor) -> None:
        """See Steps; afterwards `grad_c` is the gradient of the cell state before the step."""
        self.grad_c = grad_c.clone()

    def backward(self, t: int, dh: Tensor, delta: Tensor) -> None:
        """See Steps."""
        factors, gates = self._blocks(t), delta.view(-1, self.G, self.H)
        dc = self.grad_c.addcmul_(dh, self._slope[t])
        torch.mul(dc[:, None], factors[:, :3], out=gates[:, :3])
        torch.mul(dh, factors[:, 3], out=gates[:, 3])
        dc.mul_(self._kept[t])
