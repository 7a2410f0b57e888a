"""The matrix products of an update, alone: torch.mm's, and the fastest that we know.

They are counted from the model. The first layer's input is one of V vectors, so its product with
the input weights is counted once a window for V rows, not for every symbol. All else is counted as
back-propagation needs it; the state before the window needs no gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.model.model import ModelSettings
from training.recurrence.threads import share, share_of
from training.recurrence.weight import (
    Weight,
    has_tiles,
    packed,
    packed_transposed,
    product_transposed,
    times_packed,
)
from training.settings import Cell

GATES: dict[Cell, int] = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True, kw_only=True)
class Product:
    """(rows, depth) times (depth, columns), so many times one after the other."""

    rows: int
    depth: int
    columns: int
    times: int = 1
    turned: str = ""  # which operands lie transposed in memory: neither, "a", or "b"
    ours: bool = False  # whether the trainer has a way of its own for it; else torch.mm makes it

    @property
    def operations(self) -> int:
        """Additions and multiplications."""
        return 2 * self.rows * self.depth * self.columns * self.times


def products_of(model: ModelSettings, streams: int, window: int) -> list[Product]:
    """List the products of one update of N streams and a window T."""
    H, E, V, T = model.hidden_size, model.embedding_size, model.vocabulary_size, window
    gates, symbols = GATES[model.cell] * H, window * streams
    return [
        *_linear(V, E, gates),
        *_linear(symbols, H, V),
        *(model.layers - 1) * _linear(symbols, H, gates, ours=True),
        *model.layers
        * (
            Product(rows=streams, depth=H, columns=gates, times=T, turned="b", ours=True),
            Product(rows=streams, depth=gates, columns=H, times=T - 1, ours=True),
            Product(rows=gates, depth=symbols, columns=H, turned="a", ours=True),
        ),
    ]


def _linear(rows: int, width: int, outputs: int, *, ours: bool = False) -> tuple[Product, ...]:
    """Outputs, gradient of the inputs, gradient of the weights, which are (outputs, width)."""
    return (
        Product(rows=rows, depth=width, columns=outputs, turned="b", ours=ours),
        Product(rows=rows, depth=outputs, columns=width, ours=ours),
        Product(rows=outputs, depth=rows, columns=width, turned="a", ours=ours),
    )


def operations_of(products: Sequence[Product]) -> int:
    """Additions and multiplications of one update."""
    return sum(product.operations for product in products)


def products_alone(
    products: Sequence[Product], dtype: torch.dtype, *, tuned: bool
) -> Callable[[], None]:
    """Make operands in float32 or bfloat16; the result multiplies them.

    Tuned, it does so in the trainer's way, where it has one: the fastest that we know. Otherwise
    torch.mm does each.
    """
    ways = [_way(product, dtype, tuned=tuned) for product in products]

    def multiply() -> None:
        for way in ways:
            way()

    return multiply


def _way(product: Product, dtype: torch.dtype, *, tuned: bool) -> Callable[[], object]:
    a = _matrix(product.rows, product.depth, turned=product.turned == "a").to(dtype)
    b = _matrix(product.depth, product.columns, turned=product.turned == "b").to(dtype)
    out = torch.empty(product.rows, product.columns, dtype=dtype)

    def by_torch() -> None:
        for _ in range(product.times):
            torch.mm(a, b, out=out)

    if not (tuned and product.ours):
        return by_torch
    if product.turned == "a":
        return lambda: product_transposed(a.t(), b)
    turned = product.turned == ""
    stored = b if turned else b.t()
    if product.times > 1:
        return _many(Weight(stored, share_of(product.rows), transposed=turned), a, product.times)
    if not has_tiles(stored):
        return by_torch
    pack, no_bias = packed_transposed if turned else packed, torch.zeros(product.columns)
    return lambda: times_packed(a, pack(stored), no_bias)


def _many(weight: Weight, a: Tensor, times: int) -> Callable[[], object]:
    def rows(first: int, last: int) -> None:
        for _ in range(times):
            weight(a[first:last])

    return lambda: share(len(a), rows)


def _matrix(rows: int, columns: int, *, turned: bool) -> Tensor:
    return torch.rand(columns, rows).t() if turned else torch.rand(rows, columns)
