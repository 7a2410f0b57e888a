"""The sampler's filters without a sort: a symbol stays if its probability reaches a threshold.

64 rows of 5,000 probabilities take 22 ms to sort and 0.1 to compare and add up. So top_p's boundary
is looked for by bisection, until no row has more than WINDOW probabilities in which it may lie;
only those are sorted. Masses are sums of multiples of 2^-23 below 2, which are exact in any order
of additions: so a row keeps in a batch what it keeps alone, however many steps the others need.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from export.drawing.filters import LEAST, rank, units_of, wanted_mass
from export.graph.graph import Graph

WINDOW = 16
BISECTIONS = 40  # at most; of more than WINDOW equal probabilities it finds no boundary


@dataclass(frozen=True, kw_only=True)
class Searched:
    """The rows whose boundary of top_p is looked for, among F rows.

    Attributes:
        top_p: (F, 1).
        is_searched: (F, 1).
        any_searched: whether any row is.
    """

    top_p: str
    is_searched: str
    any_searched: str


def keep_above(
    g: Graph, p: str, threshold: str, likeliest: str, rows: Searched, vocabulary_size: int
) -> str:
    """Zero in p, (F, V), what is less than a row's threshold, and what top_p leaves out.

    Args:
        g: where the nodes go.
        p: probabilities.
        threshold: (F, 1).
        likeliest: probability of each row's likeliest symbol, (F, 1).
        rows: those with a top_p.
        vocabulary_size: V.
    """
    return g.either(
        rows.any_searched,
        lambda g: [_keep_top_p(g, p, likeliest, threshold, rows, vocabulary_size)],
        lambda g: [_from(g, p, threshold)],
    )[0]


def _from(g: Graph, p: str, threshold: str) -> str:
    """Zero what is less than a row's threshold.

    A product with 1 or 0 is one pass over p, Where is three.
    """
    return g.op("Mul", p, _reaches(g, p, threshold))


def _reaches(g: Graph, p: str, threshold: str) -> str:
    """1 where a row's threshold is reached, 0 elsewhere, (F, V)."""
    return g.op("Cast", g.op("GreaterOrEqual", p, threshold), to=TensorProto.FLOAT)


def _keep_top_p(
    g: Graph, p: str, likeliest: str, threshold: str, rows: Searched, vocabulary_size: int
) -> str:
    """Keep the smallest set of the likeliest whose mass is top_p of all, ties by id.

    Rows that are not searched keep what reaches the threshold; of the set, searched ones do.
    """
    zero, axes = g.constant("zero", 0.0, np.float32), g.constant("axes_1", [1], np.int64)
    units = units_of(g, p)
    total = g.op("ReduceSum", units, axes)  # (F, 1)
    least = g.constant("least", LEAST, np.float32)
    mass = wanted_mass(g, rows.top_p, total)
    low, high, from_low, from_high = g.ops(
        "Loop",
        g.constant("bisections", BISECTIONS, np.int64),
        g.constant("true", True, np.bool_),
        g.op("Max", g.op("ReduceMin", p, axes=[1]), least),
        g.op("Add", likeliest, likeliest),
        total,
        g.op("Mul", total, zero),
        count=4,
        body=_bisect(g, p, units, mass, rows),
    )
    # What is `low` or more has a mass of two thirds of that or more, and loses at most half a unit.
    each = g.op("Mul", low, g.constant("two_thirds", 2 / 3, np.float32))
    each = g.op("Max", each, g.op("Sub", low, least))
    K = g.op("ReduceMax", _window(g, each, from_low, from_high, rows), axes=[0], keepdims=0)
    K = g.op("Cast", g.op("Ceil", K), to=TensorProto.INT64)  # (1,)
    bounds = (g.constant("one_id", 1, np.int64), g.constant("V", vocabulary_size, np.int64))
    K = g.op("Clip", K, *bounds)
    low, high = (
        g.op("Where", rows.is_searched, g.op("Max", bound, threshold), threshold)
        for bound in (low, high)
    )
    kept = _from(g, p, high)
    near = g.op("Sub", _from(g, p, low), kept)
    ranked, ids = rank(g, near, K)  # (F, K)
    before = g.op("CumSum", units_of(g, ranked), g.constant("axis_1", 1, np.int64), exclusive=1)
    stays = g.op("Less", g.op("Add", from_high, before), mass)
    stays = g.op("And", stays, g.op("Greater", ranked, zero))
    as_it_is = g.op("GatherElements", kept, ids, axis=1)
    return g.op("ScatterElements", kept, ids, g.op("Where", stays, ranked, as_it_is), axis=1)


def _bisect(outer: Graph, p: str, units: str, mass: str, rows: Searched) -> onnx.GraphProto:
    """Halve, in octaves, the range in which each row's boundary lies.

    From `low` up there is the mass that is wanted or more, `from_low`, and from `high` up there is
    less, `from_high`. What lies between them is not counted, which would take a third of the time:
    each has a mass of about `low` or more.
    """
    g = outer.body("bisect")
    g.input("bisection", np.int64, [])
    g.input("goes_on", np.bool_, [])
    low, high, from_low, from_high = (
        g.input(f"{name}_before", np.float32, ["rows", 1])
        for name in ("low", "high", "from_low", "from_high")
    )
    middle = g.op("Sqrt", g.op("Mul", low, high))
    above = g.op("Mul", _reaches(g, p, middle), units)
    from_middle = g.op("ReduceSum", above, g.constant("axes_1", [1], np.int64))
    is_enough = g.op("GreaterOrEqual", from_middle, mass)
    low = g.op("Where", is_enough, middle, low)
    high = g.op("Where", is_enough, high, middle)
    from_low = g.op("Where", is_enough, from_middle, from_low)
    from_high = g.op("Where", is_enough, from_high, from_middle)
    widest = g.op("ReduceMax", _window(g, low, from_low, from_high, rows), keepdims=0)
    is_wide = g.op("Greater", widest, g.constant("window", WINDOW, np.float32))
    g.output(is_wide, "is_wide", np.bool_, [])
    for tensor, name in (
        (low, "low"),
        (high, "high"),
        (from_low, "from_low"),
        (from_high, "from_high"),
    ):
        g.output(tensor, name, np.float32, ["rows", 1])
    return g.proto()


def _window(g: Graph, each: str, from_low: str, from_high: str, rows: Searched) -> str:
    """How many symbols of so much mass there are between two thresholds, (F, 1)."""
    between = g.op("Div", g.op("Sub", from_low, from_high), each)
    return g.op("Where", rows.is_searched, between, g.constant("one", 1.0, np.float32))
