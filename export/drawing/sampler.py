"""The sampler in ONNX operators: inverse-CDF sampling with temperature and filters.

One uniform number u in [0, 1) a symbol: the symbol is the first in id order whose cumulative
probability exceeds u times the total (Devroye, Non-Uniform Random Variate Generation, 1986, III.2).
With u a multiple of 2^-24 below 1, u * total rounds to less than the total, so a symbol of
probability zero is never drawn.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from export.drawing.filters import Filters, declare_filters, keep_likeliest
from export.graph.graph import Graph
from export.graph.weights import ModelWeights

# Greedy decoding is the limit of low temperature: at this factor every probability but those
# of the largest logit underflows to zero, and u = 0 takes the first of them.
GREEDY_FACTOR = 1e20

WHOLE_AT_MOST = 512  # symbols; among more, one is drawn faster by block
BLOCKS = 16  # as wide as a product's kernel is


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """The sampling parameters as a step uses them.

    Attributes:
        factor: what the logits are multiplied by, (N, 1).
        filters: of all rows; None in graphs without them.
    """

    factor: str
    filters: Filters | None


def prepare(g: Graph, vocabulary_size: int, *, filtered: bool) -> tuple[Sampler, str]:
    """Declare the sampling parameters as graph inputs and bring them into the steps' form.

    Returns:
        The prepared parameters; `uniform` as (T, N, 1): 0 where greedy, -1 where a symbol is
        forced, so that the id drawn there is 0.
    """
    temperature = g.input("temperature", np.float32, ["batch"])
    zero = g.constant("zero", 0.0, np.float32)
    one = g.constant("one", 1.0, np.float32)
    greedy = g.op("Equal", temperature, zero)
    factor = g.op(
        "Where",
        greedy,
        g.constant("greedy_factor", GREEDY_FACTOR, np.float32),
        g.op("Div", one, g.op("Where", greedy, one, temperature)),
    )
    drawn = g.op("Where", greedy, zero, "uniform")
    is_free = g.op("Less", "forced", g.constant("zero_id", 0, np.int64))
    uniform = g.op("Where", is_free, drawn, g.constant("minus_one", -1.0, np.float32))
    column = g.constant("axis_last", [-1], np.int64)
    filters = declare_filters(g, vocabulary_size) if filtered else None
    sampler = Sampler(factor=g.op("Unsqueeze", factor, column), filters=filters)
    return sampler, g.op("Unsqueeze", uniform, column)


def that_may_be_drawn(g: Graph, logits: str, model: ModelWeights) -> str:
    """Cut off the logits of symbols that are only read, the last ones; (N, sampled size)."""
    if model.sampled_size == model.vocabulary_size:
        return logits
    end = g.constant("sampled_size", [model.sampled_size], np.int64)
    axis = g.constant("axes_1", [1], np.int64)
    return g.op("Slice", logits, g.constant("first_id", [0], np.int64), end, axis)


def probabilities(g: Graph, logits: str, sampler: Sampler, vocabulary_size: int) -> str:
    """Softmax at a row's temperature of what its filters leave; (N, V), not to sum to one.

    Args:
        g: where the nodes go.
        logits: of the symbols that may be drawn, (N, V).
        sampler: the prepared parameters.
        vocabulary_size: V.
    """
    p = g.op("Softmax", g.op("Mul", logits, sampler.factor), axis=1)
    if sampler.filters is None:
        return p
    return keep_likeliest(g, p, sampler.filters, vocabulary_size)


def draw(g: Graph, p: str, uniform: str, vocabulary_size: int) -> str:
    """Draw one id a row, (N,).

    Args:
        g: where the nodes go.
        p: probabilities, (N, V), which need not sum to one.
        uniform: (N, 1), in [0, 1), or -1 for id 0.
        vocabulary_size: V.
    """
    if vocabulary_size > WHOLE_AT_MOST:
        return _draw_by_block(g, p, uniform, vocabulary_size)
    cdf = g.op("CumSum", p, g.constant("axis_1", 1, np.int64))  # (N, V)
    last = g.constant("last_id", [vocabulary_size - 1], np.int64)
    total = g.op("Gather", cdf, last, axis=1)  # (N, 1)
    passed = g.op("LessOrEqual", cdf, g.op("Mul", uniform, total))  # (N, V)
    return g.op("Cast", _count(g, passed, keepdims=0), to=TensorProto.INT64)


def _draw_by_block(g: Graph, p: str, uniform: str, vocabulary_size: int) -> str:
    """Draw as `draw` does: first a block of ids, then one of it; (N,).

    CumSum takes 3 ns for each number, a product a tenth of that: of 64 rows of 5,000 symbols,
    CumSum alone took a quarter of a step, and two thirds as much as all products of 8 bits.
    """
    size = -(-vocabulary_size // BLOCKS)
    ids = np.arange(vocabulary_size)[:, None]
    are_up_to = (ids // size <= np.arange(BLOCKS)).astype(np.float32)  # (V, blocks)
    cdf = g.op("MatMul", p, g.weight(f"blocks_{vocabulary_size}", are_up_to))  # (N, blocks)
    last = g.constant("last_1", [-1], np.int64)
    wanted = g.op("Mul", uniform, g.op("Gather", cdf, last, axis=1))  # (N, 1)
    passed = g.op("LessOrEqual", cdf, wanted)
    block = _count(g, passed)  # (N, 1)
    before = g.op("Where", passed, cdf, g.constant("zero", 0.0, np.float32))
    left = g.op("Sub", wanted, g.op("ReduceMax", before, axes=[1]))
    first = g.op("Mul", block, g.constant(f"block_{size}", size, np.float32))
    of_block = g.op(
        "Add",
        g.op("Cast", first, to=TensorProto.INT64),
        g.constant(f"ids_{size}", np.arange(size)[None], np.int64),
    )  # (N, size)
    p = _gather_in(g, p, of_block, vocabulary_size)
    cdf = g.op("CumSum", p, g.constant("axis_1", 1, np.int64))
    # The sum of a block may be rounded to less here than in the product: still, one of it is drawn.
    total = g.op("Gather", cdf, last, axis=1)
    below = g.op("Mul", total, g.constant("below_one", 1 - 2.0**-23, np.float32))
    inside = _count(g, g.op("LessOrEqual", cdf, g.op("Min", left, below)))
    drawn = g.op("Squeeze", g.op("Add", first, inside), g.constant("axes_1", [1], np.int64))
    return g.op("Cast", drawn, to=TensorProto.INT64)


def _gather_in(g: Graph, p: str, ids: str, vocabulary_size: int) -> str:
    """Gather p of some ids of each row; 0 for those beyond the last one."""
    size, blocks = -(-vocabulary_size // BLOCKS), BLOCKS
    if size * blocks == vocabulary_size:
        return g.op("GatherElements", p, ids, axis=1)
    found = g.op("Min", ids, g.constant("last_of_V", vocabulary_size - 1, np.int64))
    exists = g.op("Equal", ids, found)
    found = g.op("GatherElements", p, found, axis=1)
    return g.op("Where", exists, found, g.constant("zero", 0.0, np.float32))


def _count(g: Graph, passed: str, keepdims: int = 1) -> str:
    """Count what is true in each row, as a float, (N, 1), or (N,) if no dimension is kept.

    Sums of floats are vectorised, sums of integers are not: 3 against 13 us for 64 rows of 66.
    Their order depends on where a row lies in memory, which is nothing to sums of whole numbers.
    """
    axes = g.constant("axes_1", [1], np.int64)
    count = g.op("Cast", passed, to=TensorProto.FLOAT)
    return g.op("ReduceSum", count, axes, **({} if keepdims else {"keepdims": 0}))
