"""The sampler's filters in ONNX operators: top_k, then top_p of the rest, then min_p."""

from dataclasses import dataclass

import numpy as np

from export.graph import Graph


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


def declare_filters(g: Graph, vocabulary_size: int) -> Filters:
    """Declare the parameters as graph inputs, (N,), and bring them into the steps' form."""
    column = g.constant("axis_last", [-1], np.int64)
    top_k = g.input("top_k", np.int64, ["batch"])
    all_kept = g.op("Equal", top_k, g.constant("zero_id", 0, np.int64))
    kept = g.op("Where", all_kept, g.constant("V", vocabulary_size, np.int64), top_k)
    return Filters(
        top_k=g.op("Unsqueeze", kept, column),
        top_p=g.op("Unsqueeze", g.input("top_p", np.float32, ["batch"]), column),
        min_p=g.op("Unsqueeze", g.input("min_p", np.float32, ["batch"]), column),
    )


def keep_likeliest(g: Graph, p: str, filters: Filters, vocabulary_size: int) -> str:
    """Zero in p, (N, V), what the filters leave out; the others keep their bits."""
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
