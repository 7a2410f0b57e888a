"""The sampler in ONNX operators: inverse-CDF sampling with temperature and filters.

One uniform number u in [0, 1) a symbol: the symbol is the first in id order whose cumulative
probability exceeds u times the total (Devroye, Non-Uniform Random Variate Generation, 1986, III.2).
With u a multiple of 2^-24 below 1, u * total rounds to less than the total, so a symbol of
probability zero is never drawn.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from export.graph import Graph

# Greedy decoding is the limit of low temperature: at this factor every probability but those
# of the largest logit underflows to zero, and u = 0 takes the first of them.
GREEDY_FACTOR = 1e20


@dataclass(frozen=True, kw_only=True)
class Filters:
    """The filters' parameters as a step uses them, each (N, 1).

    Attributes:
        top_k: int64; V where all are kept.
        top_p: float.
        min_p: float.
    """

    top_k: str
    top_p: str
    min_p: str


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """The sampling parameters as a step uses them.

    Attributes:
        factor: what the logits are multiplied by, (N, 1).
        filters: None in the graph without them.
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
    filters = _prepare_filters(g, vocabulary_size) if filtered else None
    sampler = Sampler(factor=g.op("Unsqueeze", factor, column), filters=filters)
    return sampler, g.op("Unsqueeze", uniform, column)


def _prepare_filters(g: Graph, vocabulary_size: int) -> Filters:
    column = g.constant("axis_last", [-1], np.int64)
    top_k = g.input("top_k", np.int64, ["batch"])
    all_kept = g.op("Equal", top_k, g.constant("zero_id", 0, np.int64))
    kept = g.op("Where", all_kept, g.constant("V", vocabulary_size, np.int64), top_k)
    return Filters(
        top_k=g.op("Unsqueeze", kept, column),
        top_p=g.op("Unsqueeze", g.input("top_p", np.float32, ["batch"]), column),
        min_p=g.op("Unsqueeze", g.input("min_p", np.float32, ["batch"]), column),
    )


def sample(g: Graph, logits: str, uniform: str, sampler: Sampler, vocabulary_size: int) -> str:
    """Draw one id a row.

    Args:
        g: where the nodes go.
        logits: (N, V).
        uniform: (N, 1), in [0, 1), or -1 for id 0.
        sampler: the prepared parameters.
        vocabulary_size: V.

    Returns:
        Ids, (N,).
    """
    p = g.op("Softmax", g.op("Mul", logits, sampler.factor), axis=1)  # (N, V)
    if sampler.filters is not None:
        p = _filter(g, p, sampler.filters, vocabulary_size)
    cdf = g.op("CumSum", p, g.constant("axis_1", 1, np.int64))  # (N, V)
    last = g.constant("last_id", [vocabulary_size - 1], np.int64)
    total = g.op("Gather", cdf, last, axis=1)  # (N, 1)
    passed = g.op("LessOrEqual", cdf, g.op("Mul", uniform, total))  # (N, V)
    axes = g.constant("axes_1", [1], np.int64)
    # Sums of floats are vectorised, sums of integers are not: 3 against 13 us for 64 rows of 66.
    # Their order depends on where a row lies in memory, which is nothing to sums of whole numbers.
    count = g.op("ReduceSum", g.op("Cast", passed, to=TensorProto.FLOAT), axes, keepdims=0)
    return g.op("Cast", count, to=TensorProto.INT64)


def _filter(g: Graph, p: str, filters: Filters, vocabulary_size: int) -> str:
    """Zero what top_k, then top_p of the rest, then min_p leave out; the others keep their bits."""
    size = g.constant("V_1", [vocabulary_size], np.int64)
    ranked, ids = g.ops("TopK", p, size, count=2, axis=1, largest=1, sorted=1)  # (N, V)
    rank = g.constant("ranks", np.arange(vocabulary_size)[None], np.int64)  # (1, V)
    among_k = g.op("Less", rank, filters.top_k)
    zero = g.constant("zero", 0.0, np.float32)
    best_k = g.op("Where", among_k, ranked, zero)
    axis = g.constant("axis_1", 1, np.int64)
    before = g.op("CumSum", best_k, axis, exclusive=1)
    # ReduceSum's order of additions depends on where a row lies in memory; CumSum's does not.
    last = g.constant("last_id", [vocabulary_size - 1], np.int64)
    total = g.op("Add", *(g.op("Gather", tensor, last, axis=1) for tensor in (before, best_k)))
    mass = g.op("Mul", filters.top_p, total)  # (N, 1)
    one = g.constant("one", 1.0, np.float32)
    # Rounding may let `before` reach the whole mass early; top_p = 1 keeps all regardless.
    within = g.op("Or", g.op("Less", before, mass), g.op("Equal", filters.top_p, one))
    likeliest = g.op("Gather", ranked, g.constant("first_id", [0], np.int64), axis=1)  # (N, 1)
    probable = g.op("GreaterOrEqual", ranked, g.op("Mul", filters.min_p, likeliest))
    keep = g.op("And", among_k, g.op("And", within, probable))
    # The likeliest stays, whatever underflows (a tiny top_p) or is not a number (broken weights).
    first = g.op("Equal", rank, g.constant("zero_id", 0, np.int64))  # (1, V)
    kept = g.op("Where", g.op("Or", keep, first), ranked, zero)
    return g.op("ScatterElements", kept, ids, kept, axis=1)
