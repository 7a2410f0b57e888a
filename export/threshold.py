"""The sampler's filters in a large vocabulary, without sorting it.

64 rows of 5,000 probabilities take 22 ms to sort and 0.1 to compare and add up. So top_p's boundary
is looked for by bisection, until no row has more than WINDOW probabilities in which it may lie;
only those are sorted. Masses are sums of whole numbers, which are exact in any order of additions:
so a row keeps in a batch what it keeps alone, however many steps the others need.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from export.filters import Filters
from export.graph import Graph

WINDOW = 32
BISECTIONS = 64  # at most; of more than WINDOW equal probabilities it finds no boundary
UNITS = 2.0**23  # of mass in a row: with rounding, sums stay below 2^24, where fp32 is exact


@dataclass(frozen=True, kw_only=True)
class Has:
    """Which filters leave out symbols of any row, bool; the passes of the others are not made."""

    top_k: str
    top_p: str


def keep_by_threshold(g: Graph, p: str, filters: Filters, has: Has, vocabulary_size: int) -> str:
    """Zero in p, (N, V), what the filters leave out; the others keep their bits.

    top_p's mass counts in units of 2^-23 of a row's.
    """
    among_k, likeliest, total = _where(
        g,
        has.top_k,
        lambda g: list(_keep_top_k(g, p, filters, vocabulary_size)),
        lambda g: _keep_all(g, p),
    )
    (kept,) = _where(
        g,
        has.top_p,
        lambda g: [_keep_top_p(g, among_k, likeliest, total, filters)],
        lambda g: [among_k],
    )
    probable = g.op("GreaterOrEqual", kept, g.op("Mul", filters.min_p, likeliest))
    return g.op("Mul", kept, g.op("Cast", probable, to=TensorProto.FLOAT))


Branch = Callable[[Graph], list[str]]


def _where(g: Graph, condition: str, then: Branch, otherwise: Branch) -> list[str]:
    """Append what one of two branches gives; only that one is computed."""
    count, protos = 0, []
    for name, branch in (("then", then), ("else", otherwise)):
        body = g.body(name)
        outputs = branch(body)
        for index, tensor in enumerate(outputs):
            body.output(tensor, f"{tensor}_of_{name}{index}", np.float32, None)
        protos.append(body.proto())
        count = len(outputs)
    return g.ops("If", condition, count=count, then_branch=protos[0], else_branch=protos[1])


def _keep_all(g: Graph, p: str) -> list[str]:
    """Return what _keep_top_k does where no row has a top_k."""
    likeliest = g.op("ReduceMax", p, axes=[1])
    one = g.constant("one", 1.0, np.float32)
    zero = g.op("Mul", likeliest, g.constant("zero", 0.0, np.float32))
    return [p, likeliest, g.op("Add", zero, one)]


def _keep_top_k(g: Graph, p: str, filters: Filters, vocabulary_size: int) -> tuple[str, str, str]:
    """Keep the k likeliest; return that, the likeliest's probability and all of theirs, (N, 1)."""
    V, one_id = g.constant("V", vocabulary_size, np.int64), g.constant("one_id", 1, np.int64)
    zero = g.constant("zero", 0.0, np.float32)
    keeps_all = g.op("Equal", filters.top_k, V)
    k = g.op("Where", keeps_all, one_id, filters.top_k)
    K = g.op("ReduceMax", k, axes=[0], keepdims=0)  # (1,)
    ranked, ids = g.ops("TopK", p, K, count=2, axis=1, largest=1, sorted=1)  # (N, K)
    ranks = g.constant("ranks", np.arange(vocabulary_size)[None], np.int64)  # (1, V)
    column = g.constant("axis_last", [-1], np.int64)
    rank = g.op("Slice", ranks, g.constant("first_id", [0], np.int64), K, column)
    best = g.op("Where", g.op("Less", rank, k), ranked, zero)
    only_best = g.op("ScatterElements", g.op("Mul", p, zero), ids, best, axis=1)
    likeliest = g.op("Gather", ranked, g.constant("first_id", [0], np.int64), axis=1)
    of_best = g.op("CumSum", best, g.constant("axis_1", 1, np.int64))
    total = g.op("Gather", of_best, g.constant("last_1", [-1], np.int64), axis=1)
    total = g.op("Where", keeps_all, g.constant("one", 1.0, np.float32), total)
    return g.op("Where", keeps_all, p, only_best), likeliest, total


def _keep_top_p(g: Graph, p: str, likeliest: str, total: str, filters: Filters) -> str:
    """Keep the smallest set of the likeliest whose mass is top_p of all, ties by id."""
    zero, one = g.constant("zero", 0.0, np.float32), g.constant("one", 1.0, np.float32)
    axes = g.constant("axes_1", [1], np.int64)
    unit = g.op("Div", total, g.constant("units", UNITS, np.float32))  # (N, 1)
    units = g.op("Floor", g.op("Div", p, unit))  # (N, V)
    half = g.constant("half", 0.5, np.float32)
    mass = g.op("Mul", filters.top_p, g.op("ReduceSum", units, axes))
    mass = g.op("Max", mass, half)  # the likeliest stays
    keeps_all = g.op("Equal", filters.top_p, one)
    # Whatever is below a unit has no mass: it is below every boundary.
    low = g.op("Where", keeps_all, zero, g.op("Mul", unit, half))
    high = g.op("Where", keeps_all, zero, g.op("Add", likeliest, likeliest))
    all_of_them = g.op("ReduceSum", g.op("Cast", g.op("GreaterOrEqual", p, low), to=1), axes)
    nothing = g.op("Mul", total, zero)  # (N, 1)
    in_low = g.op("Where", keeps_all, zero, all_of_them)
    low, high, _, _, above = g.ops(
        "Loop",
        g.constant("bisections", BISECTIONS, np.int64),
        _is_wide(g, in_low, nothing),
        low,
        high,
        in_low,
        nothing,
        nothing,
        count=5,
        body=_bisect(g, p, units, mass, keeps_all),
    )
    is_above = g.op("GreaterOrEqual", p, high)
    kept = g.op("Mul", p, g.op("Cast", is_above, to=TensorProto.FLOAT))
    near = g.op("And", g.op("GreaterOrEqual", p, low), g.op("Not", is_above))
    in_window = g.op("ReduceSum", g.op("Cast", near, to=1), axes)
    K = g.op("Max", g.op("ReduceMax", in_window, axes=[0], keepdims=0), one)
    K = g.op("Cast", g.op("Squeeze", K), to=TensorProto.INT64)
    K = g.op("Unsqueeze", K, g.constant("axes_0", [0], np.int64))
    ranked, ids = g.ops("TopK", g.op("Where", near, p, zero), K, count=2, axis=1)  # (N, K)
    of_ranked = g.op("GatherElements", units, ids, axis=1)
    axis = g.constant("axis_1", 1, np.int64)
    before = g.op("Add", above, g.op("CumSum", of_ranked, axis, exclusive=1))
    stays = g.op("And", g.op("Less", before, mass), g.op("GatherElements", near, ids, axis=1))
    stays = g.op("And", stays, g.op("Greater", ranked, zero))
    as_it_is = g.op("GatherElements", kept, ids, axis=1)
    return g.op("ScatterElements", kept, ids, g.op("Where", stays, ranked, as_it_is), axis=1)


def _is_wide(g: Graph, in_low: str, in_high: str) -> str:
    """Whether in some row more than WINDOW lie between the two thresholds."""
    window = g.op("ReduceMax", g.op("Sub", in_low, in_high), keepdims=0)
    return g.op("Greater", window, g.constant("window", WINDOW, np.float32))


def _bisect(outer: Graph, p: str, units: str, mass: str, keeps_all: str) -> onnx.GraphProto:
    """Halve, in octaves, the range in which each row's boundary lies.

    From `low` up there is the mass that is wanted or more, from `high` up there is less; `in_low`
    and `in_high` are how many symbols these are, and `above` the mass from `high` up.
    """
    g = outer.body("bisect")
    g.input("bisection", np.int64, [])
    g.input("is_wide", np.bool_, [])
    low, high, in_low, in_high, above = (
        g.input(f"{name}_before", np.float32, ["rows", 1])
        for name in ("low", "high", "in_low", "in_high", "above")
    )
    axes = g.constant("axes_1", [1], np.int64)
    middle = g.op("Mul", g.op("Sqrt", low), g.op("Sqrt", high))
    # 1 or 0: a product with it is one pass, Where is three.
    are_in = g.op("Cast", g.op("GreaterOrEqual", p, middle), to=TensorProto.FLOAT)
    count = g.op("ReduceSum", are_in, axes)
    sum_ = g.op("ReduceSum", g.op("Mul", are_in, units), axes)
    is_enough = g.op("GreaterOrEqual", sum_, mass)
    lower = g.op("And", is_enough, g.op("Not", keeps_all))
    higher = g.op("Not", g.op("Or", is_enough, keeps_all))
    after = {
        "low": g.op("Where", lower, middle, low),
        "high": g.op("Where", higher, middle, high),
        "in_low": g.op("Where", lower, count, in_low),
        "in_high": g.op("Where", higher, count, in_high),
        "above": g.op("Where", higher, sum_, above),
    }
    go_on = _is_wide(g, after["in_low"], after["in_high"])
    g.output(go_on, "go_on", np.bool_, [])
    for name, tensor in after.items():
        g.output(tensor, name, np.float32, ["rows", 1])
    return g.proto()
