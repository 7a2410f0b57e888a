"""The sampler's filters in ONNX operators: top_k, then top_p of the rest, then min_p."""

from dataclasses import dataclass

import numpy as np

from export.graph.graph import Graph

LEAST = float(np.nextafter(np.float32(2.0**-24), np.float32(1)))  # what is less has no mass


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
    ranked, ids = rank(g, p, g.constant("V_1", [vocabulary_size], np.int64))
    return g.op(
        "ScatterElements", p, ids, filter_ranked(g, ranked, filters, vocabulary_size), axis=1
    )


def rank(g: Graph, p: str, K: str) -> tuple[str, str]:
    """Return the K likeliest of each row of p, (N, V), and their ids, both (N, K); K is (1,)."""
    ranked, ids = g.ops("TopK", p, K, count=2, axis=1, largest=1, sorted=1)
    return ranked, ids


def filter_ranked(
    g: Graph, ranked: str, filters: Filters, vocabulary_size: int, K: str | None = None
) -> str:
    """Zero what the filters leave out of each row's likeliest, (N, K), the likeliest first.

    K is (1,), by default the vocabulary's size. A row whose top_k is above K is judged as if there
    were no more than K symbols.
    """
    zero = g.constant("zero", 0.0, np.float32)
    first, last = g.constant("first_id", [0], np.int64), g.constant("last_1", [-1], np.int64)
    place = g.constant("ranks", np.arange(vocabulary_size)[None], np.int64)  # (1, V)
    if K is not None:
        place = g.op("Slice", place, first, K, g.constant("axes_1", [1], np.int64))  # (1, K)
    among_k = g.op("Less", place, filters.top_k)
    # Whole units where all are looked at, as where the boundary is found without ranks.
    has_top_k = g.op("Less", filters.top_k, g.constant("V", vocabulary_size, np.int64))
    best_k = g.op("Where", among_k, g.op("Where", has_top_k, ranked, units_of(g, ranked)), zero)
    before = g.op("CumSum", best_k, g.constant("axis_1", 1, np.int64), exclusive=1)
    # ReduceSum's order of additions depends on where a row lies in memory; CumSum's does not.
    total = g.op("Add", *(g.op("Gather", tensor, last, axis=1) for tensor in (before, best_k)))
    one = g.constant("one", 1.0, np.float32)
    # Rounding may let `before` reach the whole mass early; top_p = 1 keeps all regardless.
    within = g.op("Less", before, wanted_mass(g, filters.top_p, total))
    within = g.op("Or", within, g.op("Equal", filters.top_p, one))
    likeliest = g.op("Gather", ranked, first, axis=1)  # (N, 1)
    probable = g.op("GreaterOrEqual", ranked, g.op("Mul", filters.min_p, likeliest))
    keep = g.op("And", among_k, g.op("And", within, probable))
    # The likeliest stays, whatever underflows (a tiny top_p) or is not a number (broken weights).
    is_first = g.op("Equal", place, g.constant("zero_id", 0, np.int64))  # (1, K)
    return g.op("Where", g.op("Or", keep, is_first), ranked, zero)


def units_of(g: Graph, p: str) -> str:
    """Round to multiples of 2^-23, which is what a sum with 1 leaves.

    Sums of these below 2 are exact in any order of additions.
    """
    one = g.constant("one", 1.0, np.float32)
    return g.op("Sub", g.op("Add", p, one), one)


def wanted_mass(g: Graph, top_p: str, total: str) -> str:
    """The mass that top_p keeps at least, (N, 1); above 0, so that the likeliest stays."""
    return g.op("Max", g.op("Mul", top_p, total), g.constant("least", LEAST, np.float32))
