"""Matrix products as compiled loops over tiles (Goto and van de Geijn 2008).

A weight is packed once into panels in the order in which a tile reads it, and then multiplied with
many batches. A word is a float32, or a pair of bfloat16, of which a tile adds both products in
float32; all sums are float32, taken in the order of the depth, whoever shares the rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from training.recurrence.kernels.arithmetic import f32, put, u32
from training.recurrence.kernels.compiling import Array, compiled, inlined
from training.recurrence.kernels.tile import COLUMNS, ROWS, multiply_tile

WORD = 4  # bytes
DEPTH = 512  # words of a gradient's sums before the next rows of the batch are packed
STRIP = 16 * ROWS  # columns of a gradient's left operand that are packed side by side
TOGETHER = 64 // COLUMNS  # panels of a gradient that go with a strip while it is in the cache
BLOCK = 8 * ROWS  # rows that go through all panels of a weight while they are in the cache


def put_words(row: Array, matrix: Array, depth: int, column: int, count: int) -> None:
    """Write the words of some of a matrix's columns at a depth; bfloat16 have two rows each."""
    raise NotImplementedError  # compiled code only


def _put_words(row: Any, matrix: Any, depth: Any, column: Any, count: Any) -> Callable[..., None]:
    def pairs(row: Array, matrix: Array, depth: int, column: int, count: int) -> None:
        low = matrix[2 * depth][column : column + count]
        if 2 * depth + 1 < len(matrix):
            high = matrix[2 * depth + 1][column : column + count]
            for j in range(count):
                row[j] = u32(low[j]) | (u32(high[j]) << u32(16))
        else:
            for j in range(count):
                row[j] = u32(low[j])

    def single(row: Array, matrix: Array, depth: int, column: int, count: int) -> None:
        own = matrix[depth][column : column + count]
        for j in range(count):
            row[j] = own[j]

    return pairs if matrix.dtype == types.uint16 else single


overload(put_words, strict=False)(_put_words)


@compiled
def pack_columns(
    matrix: Array, top: int, first: int, last: int, depths: int, panels: Array
) -> None:
    """Pack columns of a matrix whose rows are the depth.

    Args:
        matrix: operands, (depth, X).
        top: depth to begin at, in words.
        first: column to begin at.
        last: column before which to end.
        depths: how many words of depth to take.
        panels: is written to, words, (panels, depths or more, width); past the columns it gets 0.
    """
    width = panels.shape[2]
    for depth in range(depths):
        for panel in range(len(panels)):
            row, left = panels[panel, depth], first + panel * width
            count = min(width, last - left)
            put_words(row, matrix, top + depth, left, count)
            row[count:] = 0


@compiled
def pack_rows(first: int, last: int, matrix: Array, panels: Array) -> None:
    """Pack a matrix whose columns are the depth; for the arguments see `pack_columns`.

    Args:
        first: panel to fill.
        last: panel before which to end.
        matrix: words, (X, depth in words).
        panels: words, (panels, depth in words, width); columns past X become 0.
    """
    X, depth, width = len(matrix), panels.shape[1], panels.shape[2]
    for panel in range(first, last):
        own, start = panels[panel], panel * width
        if start + width > X:
            own[:] = 0
        for left in range(0, depth, 16):  # a cache line of each row
            for column in range(min(width, X - start)):
                row = matrix[start + column]
                for each in range(left, min(left + 16, depth)):
                    own[each, column] = row[each]


@inlined
def multiply_panel(
    a: int,
    a_row: int,
    a_step: int,
    rows: int,
    panel: int,
    c: int,
    c_row: int,
    steps: int,
    add: bool,
    words: Array,
) -> None:
    """Multiply rows with a panel; for the arguments see `multiply_tile`."""
    while rows >= ROWS and rows != 8:  # two tiles of 4 are faster than one of 6 and one of 2
        multiply_tile(6, a, a_row, a_step, panel, c, c_row, steps, add, words)
        a, c, rows = a + 6 * a_row, c + 6 * c_row, rows - 6
    while rows >= 4:
        multiply_tile(4, a, a_row, a_step, panel, c, c_row, steps, add, words)
        a, c, rows = a + 4 * a_row, c + 4 * c_row, rows - 4
    if rows >= 2:
        multiply_tile(2, a, a_row, a_step, panel, c, c_row, steps, add, words)
        a, c, rows = a + 2 * a_row, c + 2 * c_row, rows - 2
    if rows:
        multiply_tile(1, a, a_row, a_step, panel, c, c_row, steps, add, words)


@compiled
def multiply(a: Array, first: int, weight: Array, out: Array) -> None:
    """Write rows of a times a weight.

    Args:
        a: operands, (rows, depth), the depth a whole number of words.
        first: row of a which is the first to multiply.
        weight: packed words, (panels, depth in words, COLUMNS).
        out: is written to, float32, (as many rows as wanted, panels * COLUMNS).
    """
    panels, steps, _ = weight.shape
    a_row, c_row = a.strides[0], out.strides[0]
    start = a.ctypes.data + first * a_row
    for panel in range(panels):
        place = weight.ctypes.data + panel * steps * COLUMNS * WORD
        c = out.ctypes.data + panel * COLUMNS * WORD
        multiply_panel(start, a_row, WORD, len(out), place, c, c_row, steps, False, weight)


@compiled
def multiply_and_add(
    first: int, last: int, a: Array, weight: Array, bias: Array, out: Array
) -> None:
    """Write rows of a times a weight, plus a bias, as operands.

    Args:
        first: row to write.
        last: row before which to end.
        a: operands, (rows, depth), the depth a whole number of words.
        weight: packed words, (panels, depth in words, COLUMNS).
        bias: float32, (X,).
        out: is written to, operands, (rows, X).
    """
    panels, steps, _ = weight.shape
    a_row, X = a.strides[0], out.shape[1]
    block = np.empty((BLOCK, COLUMNS), f32)
    for start in range(first, last, BLOCK):
        rows, of_a = min(BLOCK, last - start), a.ctypes.data + start * a_row
        for panel in range(panels):
            place = weight.ctypes.data + panel * steps * COLUMNS * WORD
            c, c_row = block.ctypes.data, block.strides[0]
            multiply_panel(of_a, a_row, WORD, rows, place, c, c_row, steps, False, weight)
            column = panel * COLUMNS
            width = min(COLUMNS, X - column)
            of_bias = bias[column : column + width]
            for row in range(rows):
                own, given = out[start + row][column : column + width], block[row]
                for j in range(width):
                    put(own, j, given[j] + of_bias[j])


@compiled
def multiply_transposed(first: int, last: int, a: Array, b: Array, out: Array) -> None:
    """Write rows of the transposed a times b: sums over a batch.

    Args:
        first: row to write.
        last: row before which to end.
        a: operands, (batch, rows).
        b: packed words, (panels, batch in words, COLUMNS).
        out: is written to, float32, (rows, panels * COLUMNS).
    """
    panels, words, _ = b.shape
    strips = np.empty((-(-(last - first) // STRIP), DEPTH, STRIP), b.dtype)
    c_row, a_step = out.strides[0], STRIP * WORD
    for start in range(0, words, DEPTH):
        steps = min(DEPTH, words - start)
        pack_columns(a, start, first, last, steps, strips)
        for group in range(0, panels, TOGETHER):
            for strip in range(len(strips)):
                row, of_a = first + strip * STRIP, strips.ctypes.data + strip * DEPTH * a_step
                rows, c = min(STRIP, last - row), out.ctypes.data + row * c_row
                for panel in range(group, min(group + TOGETHER, panels)):
                    place = b.ctypes.data + (panel * words + start) * COLUMNS * WORD
                    to = c + panel * COLUMNS * WORD
                    multiply_panel(of_a, WORD, a_step, rows, place, to, c_row, steps, start > 0, b)
