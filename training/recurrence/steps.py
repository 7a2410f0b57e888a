"""One step of each cell, forwards and backwards.

Where autograd would record a dozen operations a step and compute each one's derivative on the way
back, a step here leaves *factors* behind while its numbers are still in the cache: on the way back
all gates' gradients are one product, the state's gradient times the factors. Letters: T time,
N batch, H hidden, G gates of the weights, F blocks of factors.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

aten = torch.ops.aten


def tanh_(x: Tensor) -> Tensor:
    """Return tanh(x) in x's place, as 2 * sigmoid(2x) - 1: torch's sigmoid is 3-5 times as fast."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class Steps(ABC):
    """All steps of one layer over one window: buffers, and what the way back needs.

    Args:
        h: state before the first step, float32, shape (N, H).
        T: number of steps.
        dtype: of the operands of products, float32 or bfloat16. States are kept in float32.
    """

    G: ClassVar[int]
    F: ClassVar[int]
    INPUT_BLOCKS: ClassVar[tuple[int, ...]]
    """Which blocks of factors belong to the gates of the input weights, in their order."""

    def __init__(self, h: Tensor, T: int, dtype: torch.dtype) -> None:
        N, H = h.shape
        self.H, self.low = H, dtype != torch.float32
        self.states = torch.empty(T + 1, N, H)
        self.states[0] = h
        self.operands = self.states.to(dtype)  # the same tensor in float32
        self.factors = torch.empty(T, N, self.F, H, dtype=dtype)
        self._factors = torch.empty(N, self.F, H)
        self._spare = torch.empty(N, H)
        self._h, self._operand = self.states.unbind(0), self.operands.unbind(0)
        self._factor = self.factors.unbind(0)

    def operand(self, t: int) -> Tensor:
        """The state before step t as a product's operand, shape (N, H)."""
        return self._operand[t]

    def forward(self, t: int, gates: Tensor, x: Tensor) -> None:
        """Make step t: the state after it, and its factors.

        Args:
            t: in [0, T).
            gates: state times recurrent weights, float32, shape (N, G * H); overwritten.
            x: input times input weights, with the biases, float32, shape (N, G * H).
        """
        factors = self._factors if self.low else self._factor[t]
        self._step(t, gates, x, factors)
        if self.low:
            self._factor[t].copy_(factors)
            self._operand[t + 1].copy_(self._h[t + 1])

    @abstractmethod
    def _step(self, t: int, gates: Tensor, x: Tensor, factors: Tensor) -> None: ...

    def begin_backward(self, grad_c: Tensor) -> None:
        """Take the gradient of a second state tensor, if the cell has one; shape (N, H)."""
        N, _, H = self._factors.shape
        self._low = torch.empty(N, 1, H, dtype=self.factors.dtype)

    def backward(self, t: int, dh: Tensor, delta: Tensor) -> None:
        """Write the gradients of step t's gates, before their non-linearities.

        Args:
            t: in [0, T), falling.
            dh: gradient of the state after the step, float32, shape (N, H).
            delta: is written to; shape (N, F, H), of the operands' type.
        """
        torch.mul(self._as_factor(dh), self._factor[t], out=delta)

    def carry(self, t: int, dh: Tensor, incoming: Tensor) -> Tensor:
        """Return the gradient that reaches the state before step t on other ways than the product.

        Args:
            t: in [0, T).
            dh: gradient of the state after the step, shape (N, H).
            incoming: gradient of that state from outside, shape (N, H).
        """
        return incoming

    def _as_factor(self, gradient: Tensor) -> Tensor:
        return self._low.copy_(gradient[:, None]) if self.low else gradient[:, None]


class TanhSteps(Steps):
    """h' = tanh(x + W h)."""

    G, F, INPUT_BLOCKS = 1, 1, (0,)

    def _step(self, t: int, gates: Tensor, x: Tensor, factors: Tensor) -> None:
        h = self._h[t + 1]
        tanh_(torch.add(gates, x, out=h))
        factor = factors[:, 0]
        torch.mul(h, h, out=factor)
        factor.neg_().add_(1)


class ReLUSteps(Steps):
    """h' = max(0, x + W h)."""

    G, F, INPUT_BLOCKS = 1, 1, (0,)

    def _step(self, t: int, gates: Tensor, x: Tensor, factors: Tensor) -> None:
        h = self._h[t + 1]
        torch.add(gates, x, out=h).relu_()
        torch.sign(h, out=factors[:, 0])


class GRUSteps(Steps):
    """r, z = sigmoid(x + W h); n = tanh(x + r * (W h + b)); h' = n + z * (h - n).

    The blocks of factors are those of r, z, the product within n, and n.

    Args:
        h, T, dtype: as for all cells.
        bias: b, the recurrent bias of n, shape (H,).
    """

    G, F, INPUT_BLOCKS = 3, 4, (0, 1, 3)

    def __init__(self, h: Tensor, T: int, dtype: torch.dtype, bias: Tensor) -> None:
        super().__init__(h, T, dtype)
        self._bias, self._n = bias, torch.empty_like(h)
        self._kept = torch.empty(T, *h.shape).unbind(0)

    def _step(self, t: int, gates: Tensor, x: Tensor, factors: Tensor) -> None:
        H, h, z, n, spare = self.H, self._h[t], self._kept[t], self._n, self._spare
        gates[:, : 2 * H].add_(x[:, : 2 * H]).sigmoid_()
        r, product = gates[:, :H], gates[:, 2 * H :].add_(self._bias)
        z.copy_(gates[:, H : 2 * H])
        tanh_(torch.addcmul(x[:, 2 * H :], r, product, out=n))
        torch.lerp(n, h, z, out=self._h[t + 1])
        of_n = factors[:, 3]
        aten.tanh_backward.grad_input(torch.rsub(z, 1), n, grad_input=of_n)
        aten.sigmoid_backward.grad_input(torch.sub(h, n, out=spare), z, grad_input=factors[:, 1])
        torch.mul(of_n, r, out=factors[:, 2])
        torch.mul(of_n, product, out=spare)
        aten.sigmoid_backward.grad_input(spare, r, grad_input=factors[:, 0])

    def carry(self, t: int, dh: Tensor, incoming: Tensor) -> Tensor:
        """See Steps: here the state also passes through the update gate."""
        return torch.addcmul(incoming, dh, self._kept[t], out=self._spare)


class LSTMSteps(Steps):
    """i, f, o = sigmoid(x + W h); g = tanh(x + W h); c' = f * c + i * g; h' = o * tanh(c').

    The blocks of factors are those of i, f, g (of the gradient of c') and o (of that of h').

    Args:
        h, T, dtype: as for all cells.
        c: cell state before the first step, shape (N, H).
    """

    G, F, INPUT_BLOCKS = 4, 4, (0, 1, 2, 3)

    def __init__(self, h: Tensor, T: int, dtype: torch.dtype, c: Tensor) -> None:
        super().__init__(h, T, dtype)
        self.c, self._next_c, self._tanh_c = c.clone(), torch.empty_like(c), torch.empty_like(c)
        self._forget = torch.empty(T, *h.shape).unbind(0)
        self._slope = torch.empty(T, *h.shape).unbind(0)  # of h' in c'

    def _step(self, t: int, gates: Tensor, x: Tensor, factors: Tensor) -> None:
        H, c, after, tanh_c, forget = self.H, self.c, self._next_c, self._tanh_c, self._forget[t]
        gates.add_(x)
        i, f, g, o = (gates[:, k * H : (k + 1) * H] for k in range(4))
        gates[:, : 2 * H].sigmoid_()
        tanh_(g)
        o.sigmoid_()
        forget.copy_(f)
        torch.mul(f, c, out=after).addcmul_(i, g)
        tanh_(tanh_c.copy_(after))
        torch.mul(o, tanh_c, out=self._h[t + 1])
        aten.sigmoid_backward.grad_input(g, i, grad_input=factors[:, 0])
        aten.sigmoid_backward.grad_input(c, f, grad_input=factors[:, 1])
        aten.tanh_backward.grad_input(i, g, grad_input=factors[:, 2])
        aten.sigmoid_backward.grad_input(tanh_c, o, grad_input=factors[:, 3])
        aten.tanh_backward.grad_input(o, tanh_c, grad_input=self._slope[t])
        self.c, self._next_c = after, c

    def begin_backward(self, grad_c: Tensor) -> None:
        """See Steps; afterwards `grad_c` is the gradient of the cell state before the step."""
        super().begin_backward(grad_c)
        self.grad_c = grad_c.clone()

    def backward(self, t: int, dh: Tensor, delta: Tensor) -> None:
        """See Steps."""
        factors, dc = self._factor[t], self.grad_c.addcmul_(dh, self._slope[t])
        torch.mul(self._as_factor(dc), factors[:, :3], out=delta[:, :3])
        torch.mul(self._as_factor(dh), factors[:, 3:], out=delta[:, 3:])
        dc.mul_(self._forget[t])
