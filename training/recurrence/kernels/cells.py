"""Steps of the cells as compiled loops over a state's numbers, forwards and backwards.

A step's product is that of tiles (products.py) or the library's (../weight.py); all else of it is
one pass here over what is still in the cache. What the cells compute and what the arrays are
stands in ../steps.py. Letters: T time, N batch, H hidden; a thread's share is the rows `first` to
`first + len(product)` of the N. A row of products may go on past its end with columns of padding.

Each loop touches few arrays: LLVM checks every pair of them for overlap before it runs a loop on
vectors, and beyond a handful it gives up (five times slower).
"""

from collections.abc import Callable

import numpy as np

from training.recurrence.kernels.arithmetic import f32, put, sigmoid, tanh, wide
from training.recurrence.kernels.compiling import Array, compiled, inlined
from training.recurrence.kernels.products import multiply


@inlined
def plain_step_forward(
    t: int,
    first: int,
    product: Array,
    operands: Array,
    x: Array,
    index: Array,
    states: Array,
    relu: bool,
) -> None:
    """Make a step of a plain cell; `relu` says which. NaN stays NaN."""
    H = states.shape[2]
    for row in range(len(product)):
        i = first + row
        own, given, after = product[row], x[index[t, i]], states[t + 1, i]
        for j in range(H):
            after[j] = wide(given[j]) + wide(own[j])
        if relu:
            for j in range(H):
                after[j] = f32(0) if after[j] < f32(0) else after[j]
        else:
            for j in range(H):
                after[j] = tanh(after[j])
        operand = operands[t + 1, i]
        for j in range(H):
            put(operand, j, after[j])


@inlined
def plain_step_backward(
    t: int,
    first: int,
    product: Array,
    delta: Array,
    incoming: Array,
    states: Array,
    relu: bool,
) -> None:
    """Write the gradient of a plain cell's products."""
    H = states.shape[2]
    for row in range(len(product)):
        i = first + row
        own, given, after, out = product[row], incoming[t, i], states[t + 1, i], delta[t, i]
        if relu:
            for j in range(H):
                dh = wide(own[j]) + wide(given[j])
                put(out, j, dh * (f32(0) if after[j] <= f32(0) else f32(1)))
        else:
            for j in range(H):
                dh = wide(own[j]) + wide(given[j])
                put(out, j, dh * (f32(1) - after[j] * after[j]))


@inlined
def gru_step_forward(
    t: int,
    first: int,
    product: Array,
    operands: Array,
    x: Array,
    index: Array,
    states: Array,
    bias: Array,
    gates: Array,
) -> None:
    """Make a step of a GRU; `gates`, (T, N, 4 H), keeps r, z, p = W h + bias, and n."""
    H = len(bias)
    for row in range(len(product)):
        i = first + row
        own, given, kept = product[row], x[index[t, i]], gates[t, i]
        for j in range(2 * H):
            kept[j] = sigmoid(wide(given[j]) + wide(own[j]))
        of_product, of_x, p = own[2 * H : 3 * H], given[2 * H :], kept[2 * H : 3 * H]
        for j in range(H):
            p[j] = wide(of_product[j]) + bias[j]
        r, n = kept[:H], kept[3 * H :]
        for j in range(H):
            n[j] = tanh(wide(of_x[j]) + r[j] * p[j])
        z, before, after = kept[H : 2 * H], states[t, i], states[t + 1, i]
        for j in range(H):
            after[j] = n[j] + z[j] * (before[j] - n[j])
        operand = operands[t + 1, i]
        for j in range(H):
            put(operand, j, after[j])


@inlined
def gru_step_backward(
    t: int,
    first: int,
    product: Array,
    delta: Array,
    incoming: Array,
    states: Array,
    carried: Array,
    delta_n: Array,
    gates: Array,
) -> None:
    """Write the gradient of a GRU's products, and of n's input.

    `delta`, (T, N, 3 H), is of r, z and p; `delta_n`, (T, N, H), of n; `carried`, float32, (N, H),
    holds the gradient that reaches a state past the product, through z.
    """
    H = carried.shape[1]
    dn = np.empty(H, f32)
    for row in range(len(product)):
        i = first + row
        own, given, past = product[row], incoming[t, i], carried[i]
        for j in range(H):
            past[j] += wide(own[j]) + wide(given[j])
        kept, out, before = gates[t, i], delta[t, i], states[t, i]
        z, n, of_z, of_n = kept[H : 2 * H], kept[3 * H :], out[H : 2 * H], delta_n[t, i]
        for j in range(H):
            dn[j] = past[j] * (f32(1) - z[j]) * (f32(1) - n[j] * n[j])
            put(of_n, j, dn[j])
        for j in range(H):
            put(of_z, j, past[j] * (before[j] - n[j]) * z[j] * (f32(1) - z[j]))
            past[j] *= z[j]
        r, p, of_r, of_p = kept[:H], kept[2 * H : 3 * H], out[:H], out[2 * H :]
        for j in range(H):
            put(of_r, j, dn[j] * p[j] * r[j] * (f32(1) - r[j]))
            put(of_p, j, dn[j] * r[j])


@inlined
def lstm_step_forward(
    t: int,
    first: int,
    product: Array,
    operands: Array,
    x: Array,
    index: Array,
    states: Array,
    cells: Array,
    gates: Array,
) -> None:
    """Make a step of an LSTM; `gates`, (T, N, 4 H), keeps i, f, g and o; `cells` is c."""
    H = states.shape[2]
    for row in range(len(product)):
        k = first + row
        own, given, kept = product[row], x[index[t, k]], gates[t, k]
        for j in range(2 * H):
            kept[j] = sigmoid(wide(given[j]) + wide(own[j]))
        i, f, g, o = kept[:H], kept[H : 2 * H], kept[2 * H : 3 * H], kept[3 * H :]
        given_g, own_g, given_o, own_o = given[2 * H :], own[2 * H :], given[3 * H :], own[3 * H :]
        for j in range(H):
            g[j] = tanh(wide(given_g[j]) + wide(own_g[j]))
        for j in range(H):
            o[j] = sigmoid(wide(given_o[j]) + wide(own_o[j]))
        before, after = cells[t, k], cells[t + 1, k]
        for j in range(H):
            after[j] = f[j] * before[j] + i[j] * g[j]
        state, operand = states[t + 1, k], operands[t + 1, k]
        for j in range(H):
            state[j] = o[j] * tanh(after[j])
        for j in range(H):
            put(operand, j, state[j])


@inlined
def lstm_step_backward(
    t: int,
    first: int,
    product: Array,
    delta: Array,
    incoming: Array,
    states: Array,
    carried: Array,
    cells: Array,
    gates: Array,
) -> None:
    """Write the gradient of an LSTM's products; `carried`, float32, (N, H), holds that of c."""
    H = carried.shape[1]
    dh = np.empty(H, f32)
    for row in range(len(product)):
        k = first + row
        own, given = product[row], incoming[t, k]
        for j in range(H):
            dh[j] = wide(own[j]) + wide(given[j])
        kept, out, past = gates[t, k], delta[t, k], carried[k]
        i, f, g, o = kept[:H], kept[H : 2 * H], kept[2 * H : 3 * H], kept[3 * H :]
        after, of_o = cells[t + 1, k], out[3 * H :]
        for j in range(H):
            tanh_c = tanh(after[j])
            past[j] += dh[j] * o[j] * (f32(1) - tanh_c * tanh_c)
            put(of_o, j, dh[j] * tanh_c * o[j] * (f32(1) - o[j]))
        of_i, of_g = out[:H], out[2 * H : 3 * H]
        for j in range(H):
            put(of_i, j, past[j] * g[j] * i[j] * (f32(1) - i[j]))
            put(of_g, j, past[j] * i[j] * (f32(1) - g[j] * g[j]))
        before, of_f = cells[t, k], out[H : 2 * H]
        for j in range(H):
            put(of_f, j, past[j] * before[j] * f[j] * (f32(1) - f[j]))
            past[j] *= f[j]


def forwards(step: Callable[..., None]) -> Callable[..., None]:
    """Make the loop over a cell's steps forwards.

    Args:
        step: of the cell.

    Returns:
        What makes the steps `start` to `stop` of a thread's rows. With a packed `weight` it
        multiplies the states with it before each step; with None, `product` holds the product of
        the one step to make.
    """

    def loop(
        start: int,
        stop: int,
        first: int,
        product: Array,
        weight: Array,
        operands: Array,
        *more: Array,
    ) -> None:
        for t in range(start, stop):
            if weight is not None:
                multiply(operands[t], first, weight, product)
            step(t, first, product, operands, *more)

    loop.__qualname__ = step.__qualname__
    return compiled(loop)


def backwards(step: Callable[..., None]) -> Callable[..., None]:
    """Make the loop over a cell's steps backwards; see `forwards`.

    Returns:
        What makes the steps before `stop`, down to `start`. `product` holds what the state after
        the last of them gets through its product with the weight; with a packed `weight`, it is
        computed before each further step, and if `wanted` for the state before the first, too.
    """

    def loop(
        start: int,
        stop: int,
        first: int,
        product: Array,
        weight: Array,
        wanted: bool,
        delta: Array,
        *more: Array,
    ) -> None:
        for t in range(stop - 1, start - 1, -1):
            step(t, first, product, delta, *more)
            if weight is not None and (t > start or wanted):
                multiply(delta[t], first, weight, product)

    loop.__qualname__ = step.__qualname__
    return compiled(loop)


plain_forward, plain_backward = forwards(plain_step_forward), backwards(plain_step_backward)
gru_forward, gru_backward = forwards(gru_step_forward), backwards(gru_step_backward)
lstm_forward, lstm_backward = forwards(lstm_step_forward), backwards(lstm_step_backward)
