"""Steps of the cells as compiled loops over a state's numbers, forwards and backwards.

A step's product comes from oneDNN; all else of it is one pass here over what is still in the
cache. Operands of products are float32, or bfloat16 as their bits in uint16 (numpy has no such
type); all arithmetic is float32. What the cells compute and what the arrays are stands in steps.py.
Letters: T time, N batch, H hidden; a thread's share is the rows `first` to `first + len(product)`
of the N.

Each loop touches few arrays: LLVM checks every pair of them for overlap before it runs a loop on
vectors, and beyond a handful it gives up (five times slower).
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import overload, register_jitable

F = TypeVar("F", bound=Callable[..., Any])
Array = Any  # numba makes a version for every set of its arguments' types
f32, i32, u32 = np.float32, np.int32, np.uint32


def compiled(function: F) -> F:
    """Compile at the first call, for this processor; the result is kept beside the file.

    Of fast arithmetic only what leaves infinities and NaN alone: an explosion must be seen.
    """
    fast = {"contract", "arcp", "nsz"}
    return cast(F, njit(nogil=True, fastmath=fast, error_model="numpy", cache=True)(function))


def inlined(function: F) -> F:
    """Make a function of the kernels, and of Python."""
    return register_jitable(function)


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


@inlined
def scrambled(j: Any, seed: Any, other: Any) -> Any:
    """Return 32 bits for each j < 2**32, as good as random ones: lowbias32 (Wellons 2018)."""
    x = u32(u32(j) * u32(0x9E3779B9) + seed)
    x = u32((x ^ (x >> u32(16))) * u32(0x7FEB352D) + other)
    x = u32((x ^ (x >> u32(15))) * u32(0x846CA68B))
    return x ^ (x >> u32(16))


@compiled
def drop(first: int, last: int, x: Array, out: Array, dropped: Any, seed: Any, other: Any) -> None:
    """Write x with each number 0 at a probability, and the rest scaled to the same mean.

    Args:
        first: of the rows to do.
        last: the row before which to end.
        x: operands, (rows, X).
        out: is written to, operands, of x's shape.
        dropped: the probability in units of 2**-32.
        seed: what is dropped hangs on this, uint32,
        other: on this, too, and on the place in x.
    """
    X = x.shape[1]
    scale = f32(1.0 / (1.0 - dropped / 2.0**32))
    limit = u32(dropped)
    for row in range(first, last):
        own, kept, start = x[row], out[row], u32(row * X)
        for j in range(X):
            factor = scale if scrambled(start + u32(j), seed, other) >= limit else f32(0)
            put(kept, j, wide(own[j]) * factor)


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


@compiled
def plain_forward(
    t: int,
    first: int,
    product: Array,
    x: Array,
    index: Array,
    states: Array,
    operands: Array,
    relu: bool,
) -> None:
    """Make a step of a plain cell; `relu` says which. NaN stays NaN."""
    for row in range(len(product)):
        i = first + row
        own, given, after = product[row], x[index[t, i]], states[t + 1, i]
        for j in range(len(own)):
            after[j] = wide(given[j]) + wide(own[j])
        if relu:
            for j in range(len(own)):
                after[j] = f32(0) if after[j] < f32(0) else after[j]
        else:
            for j in range(len(own)):
                after[j] = tanh(after[j])
        operand = operands[t + 1, i]
        for j in range(len(own)):
            put(operand, j, after[j])


@compiled
def plain_backward(
    t: int,
    first: int,
    product: Array,
    incoming: Array,
    states: Array,
    delta: Array,
    relu: bool,
) -> None:
    """Write the gradient of a plain cell's products."""
    for row in range(len(product)):
        i = first + row
        own, given, after, out = product[row], incoming[t, i], states[t + 1, i], delta[t, i]
        if relu:
            for j in range(len(own)):
                dh = wide(own[j]) + wide(given[j])
                put(out, j, dh * (f32(0) if after[j] <= f32(0) else f32(1)))
        else:
            for j in range(len(own)):
                dh = wide(own[j]) + wide(given[j])
                put(out, j, dh * (f32(1) - after[j] * after[j]))


@compiled
def gru_forward(
    t: int,
    first: int,
    product: Array,
    x: Array,
    index: Array,
    states: Array,
    operands: Array,
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
        of_product, of_x, p = own[2 * H :], given[2 * H :], kept[2 * H : 3 * H]
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


@compiled
def gru_backward(
    t: int,
    first: int,
    product: Array,
    incoming: Array,
    states: Array,
    delta: Array,
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


@compiled
def lstm_forward(
    t: int,
    first: int,
    product: Array,
    x: Array,
    index: Array,
    states: Array,
    operands: Array,
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
        for j in range(2 * H, 3 * H):
            kept[j] = tanh(wide(given[j]) + wide(own[j]))
        for j in range(3 * H, 4 * H):
            kept[j] = sigmoid(wide(given[j]) + wide(own[j]))
        i, f, g, o = kept[:H], kept[H : 2 * H], kept[2 * H : 3 * H], kept[3 * H :]
        before, after = cells[t, k], cells[t + 1, k]
        for j in range(H):
            after[j] = f[j] * before[j] + i[j] * g[j]
        state, operand = states[t + 1, k], operands[t + 1, k]
        for j in range(H):
            state[j] = o[j] * tanh(after[j])
            put(operand, j, state[j])


@compiled
def lstm_backward(
    t: int,
    first: int,
    product: Array,
    incoming: Array,
    states: Array,
    delta: Array,
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
