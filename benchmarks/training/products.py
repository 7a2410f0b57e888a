"""The matrix products of an update, alone: torch.mm's, and the fastest that we know.

They are counted from the model. The first layer's input is one of V vectors, so its product with
the input weights is counted once a window for V rows, not for every symbol. All else is counted as
back-propagation needs it; the state before the window needs no gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.model import ModelSettings
from training.recurrence.threads import share, share_of
from training.recurrence.weight import Weight
from training.settings import Cell

GATES: dict[Cell, int] = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True, kw_only=True)
class Product:
    """(rows, depth) times (depth, columns), so many times one after the other.

    Attributes:
        turned: which operands lie transposed in memory: neither (""), "a", or "b".
    """

    rows: int
    depth: int
    columns: int
    times: int = 1
    turned: str = ""

    @property
    def operations(self) -> int:
        """Additions and multiplications."""
        return 2 * self.rows * self.depth * self.columns * self.times


def products_of(model: ModelSettings, streams: int, window: int) -> list[Product]:
    """List the products of one update.

    Args:
        model: its cell and sizes.
        streams: N.
        window: T.
    """
    H, E, V, T = model.hidden_size, model.embedding_size, model.vocabulary_size, window
    gates, symbols = GATES[model.cell] * H, window * streams
    below = [(V, E), *[(symbols, H)] * (model.layers - 1)]
    return [
        *(product for rows, width in below for product in _linear(rows, width, gates)),
        *_linear(symbols, H, V),
        *model.layers
        * (
            Product(rows=streams, depth=H, columns=gates, times=T, turned="b"),
            Product(rows=streams, depth=gates, columns=H, times=T - 1),
            Product(rows=gates, depth=symbols, columns=H, turned="a"),
        ),
    ]


def _linear(rows: int, width: int, outputs: int) -> tuple[Product, Product, Product]:
    """Outputs, gradient of the inputs, gradient of the weights, which are (outputs, width)."""
    return (
        Product(rows=rows, depth=width, columns=outputs, turned="b"),
        Product(rows=rows, depth=outputs, columns=width),
        Product(rows=outputs, depth=rows, columns=width, turned="a"),
    )


def operations_of(products: Sequence[Product]) -> int:
    """Additions and multiplications of one update."""
    return sum(product.operations for product in products)


def products_alone(
    products: Sequence[Product], dtype: torch.dtype, *, tuned: bool
) -> Callable[[], None]:
    """Make operands; the result multiplies them.

    Args:
        products: what to multiply.
        dtype: of the operands and the results, float32 or bfloat16.
        tuned: in the fastest way that we know: a weight that many batches are multiplied with is
            put in order once, and each thread takes its rows through all of these products.
            Otherwise torch.mm does each.
    """
    ways = [_way(product, dtype, tuned=tuned) for product in products]

    def multiply() -> None:
        for way in ways:
            way()

    return multiply


def _way(product: Product, dtype: torch.dtype, *, tuned: bool) -> Callable[[], None]:
    a = _matrix(product.rows, product.depth, turned=product.turned == "a").to(dtype)
    b = _matrix(product.depth, product.columns, turned=product.turned == "b").to(dtype)
    if tuned and product.times > 1:
        times_weight = Weight(b.t(), share_of(product.rows))

        def rows(first: int, last: int) -> None:
            for _ in range(product.times):
                times_weight(a[first:last])

        return lambda: share(product.rows, rows)
    out = torch.empty(product.rows, product.columns, dtype=dtype)

    def whole() -> None:
        for _ in range(product.times):
            torch.mm(a, b, out=out)

    return whole


def _matrix(rows: int, columns: int, *, turned: bool) -> Tensor:
    return torch.rand(columns, rows).t() if turned else torch.rand(rows, columns)
