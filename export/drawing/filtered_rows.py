"""The sampler's filters for the rows that have any, in the loop's graph; others are not touched."""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from export.drawing.filters import Filters, declare_filters, filter_ranked, rank
from export.drawing.threshold import Searched, keep_above
from export.graph.graph import Graph

ABOVE_ALL = 2.0  # of probabilities
SORTED_AT_MOST = 2048  # symbols of all rows


@dataclass(frozen=True, kw_only=True)
class FilteredRows:
    """The rows that have a filter, and row 0, so that the set is never empty; F in all.

    Attributes:
        rows: which rows of the batch they are, int64, (F,).
        places: the same, (F, 1).
        filters: theirs, (F, 1) each.
        is_ranked: whether a row's likeliest are sorted, (F, 1).
        any_ranked: whether any row's are.
        ranks: how many of them, (1,).
        searched: the other rows with a top_p.
    """

    rows: str
    places: str
    filters: Filters
    is_ranked: str
    any_ranked: str
    ranks: str
    searched: Searched


def prepare_filtered_rows(g: Graph, vocabulary_size: int) -> FilteredRows:
    """Declare the filters' parameters as inputs, and find the rows in which they keep not all."""
    every = declare_filters(g, vocabulary_size)
    V, one = g.constant("V", vocabulary_size, np.int64), g.constant("one", 1.0, np.float32)
    top_k = g.op("Min", every.top_k, V)
    cuts = g.op("Or", g.op("Less", top_k, V), g.op("Less", every.top_p, one))
    cuts = g.op("Or", cuts, g.op("Greater", every.min_p, g.constant("zero", 0.0, np.float32)))
    rows = _rows(g, cuts)
    filters = Filters(
        top_k=g.op("Gather", top_k, rows, axis=0),
        top_p=g.op("Gather", every.top_p, rows, axis=0),
        min_p=g.op("Gather", every.min_p, rows, axis=0),
    )
    has_top_p = g.op("Less", filters.top_p, one)
    is_ranked = g.op(
        "Or", g.op("Less", filters.top_k, V), g.op("And", has_top_p, _are_few(g, rows, V))
    )
    is_searched = g.op("And", has_top_p, g.op("Not", is_ranked))
    ranks = g.op("Where", is_ranked, filters.top_k, g.constant("one_id", 1, np.int64))
    return FilteredRows(
        rows=rows,
        places=g.op("Unsqueeze", rows, g.constant("axes_1", [1], np.int64)),
        filters=filters,
        is_ranked=is_ranked,
        any_ranked=_any(g, is_ranked),
        ranks=g.op("ReduceMax", ranks, axes=[0], keepdims=0),
        searched=Searched(
            top_p=filters.top_p, is_searched=is_searched, any_searched=_any(g, is_searched)
        ),
    )


def _rows(g: Graph, cuts: str) -> str:
    """Row 0 and those in which the filters keep not all, (F,)."""
    end = g.constant("end_1", [np.iinfo(np.int64).max], np.int64)
    axes = g.constant("axes_0", [0], np.int64)
    others = g.op("Slice", cuts, g.constant("one_1", [1], np.int64), end, axes)
    taken = g.op("Concat", g.constant("true_1_1", [[True]], np.bool_), others, axis=0)  # (N, 1)
    found = g.op("NonZero", g.op("Squeeze", taken, g.constant("axes_1", [1], np.int64)))  # (1, F)
    return g.op("Squeeze", found, axes)


def _are_few(g: Graph, rows: str, V: str) -> str:
    """Whether sorting the rows is faster than looking for their boundaries."""
    symbols = g.op("Mul", g.op("Size", rows), V)
    return g.op("LessOrEqual", symbols, g.constant("sorted_at_most", SORTED_AT_MOST, np.int64))


def _any(g: Graph, condition: str) -> str:
    """Whether a condition, (F, 1), is true of any row."""
    number = g.op("Cast", condition, to=TensorProto.FLOAT)
    return g.op("Cast", g.op("ReduceMax", number, keepdims=0), to=TensorProto.BOOL)


def keep_likeliest_in(g: Graph, p: str, filtered: FilteredRows, vocabulary_size: int) -> str:
    """Zero in p, (N, V), what the filters leave out in the rows that have any."""
    of_rows = g.op("Gather", p, filtered.rows, axis=0)  # (F, V)
    likeliest = g.op("ReduceMax", of_rows, axes=[1])
    above_all = g.constant("above_all", ABOVE_ALL, np.float32)
    probable = g.op("Mul", filtered.filters.min_p, likeliest)
    threshold = g.op("Where", filtered.is_ranked, above_all, probable)
    kept = keep_above(g, of_rows, threshold, likeliest, filtered.searched, vocabulary_size)

    def with_ranked(g: Graph) -> list[str]:
        ranked, ids = rank(g, of_rows, filtered.ranks)
        best = filter_ranked(g, ranked, filtered.filters, vocabulary_size, K=filtered.ranks)
        as_it_is = g.op("GatherElements", kept, ids, axis=1)
        best = g.op("Where", filtered.is_ranked, best, as_it_is)
        whole = g.op("ScatterElements", kept, ids, best, axis=1)
        return [g.op("ScatterND", p, filtered.places, whole)]

    def without(g: Graph) -> list[str]:
        return [g.op("ScatterND", p, filtered.places, kept)]

    return g.either(filtered.any_ranked, with_ranked, without)[0]
