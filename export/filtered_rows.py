"""The sampler's filters for the rows that have any, in the loop's graph; others are not touched."""

from dataclasses import dataclass

import numpy as np

from export.filters import Filters, declare_filters, keep_likeliest
from export.graph import Graph
from export.sampler import Drawn, draw
from export.threshold import Has, keep_by_threshold

SMALL = 256  # up to so many symbols are sorted faster than a threshold is found


@dataclass(frozen=True, kw_only=True)
class FilteredRows:
    """The rows that have a filter, and one more that makes the set never empty.

    Attributes:
        rows: which rows of the batch they are, (F + 1,) int64; the last is row 0.
        filters: theirs, (F + 1, 1) each; the last row's keep one symbol.
        has: which filters leave out symbols of any row.
    """

    rows: str
    filters: Filters
    has: Has


def prepare_filtered_rows(g: Graph, vocabulary_size: int) -> FilteredRows:
    """Declare the filters' parameters as inputs, and find the rows in which they keep not all."""
    filters = declare_filters(g, vocabulary_size)
    V, one = g.constant("V", vocabulary_size, np.int64), g.constant("one", 1.0, np.float32)
    top_k = g.op("Min", filters.top_k, V)
    cuts = g.op("Or", g.op("Less", top_k, V), g.op("Less", filters.top_p, one))
    cuts = g.op("Or", cuts, g.op("Greater", filters.min_p, g.constant("zero", 0.0, np.float32)))
    first_axis = g.constant("axes_0", [0], np.int64)
    found = g.op("NonZero", g.op("Squeeze", cuts, g.constant("axes_1", [1], np.int64)))  # (1, F)
    rows = g.op("Squeeze", found, first_axis)

    def of_rows(parameter: str, name: str, last: float, dtype: type[np.generic]) -> str:
        some = g.op("Gather", parameter, rows, axis=0)
        return g.op("Concat", some, g.constant(name, [[last]], dtype), axis=0)

    return FilteredRows(
        rows=g.op("Concat", rows, g.constant("first_id", [0], np.int64), axis=0),
        filters=Filters(
            top_k=of_rows(top_k, "last_top_k", 1, np.int64),
            top_p=of_rows(filters.top_p, "last_top_p", 1, np.float32),
            min_p=of_rows(filters.min_p, "last_min_p", 0, np.float32),
        ),
        has=Has(
            top_k=g.op("Less", g.op("ReduceMin", top_k, keepdims=0), V),
            top_p=g.op("Less", g.op("ReduceMin", filters.top_p, keepdims=0), one),
        ),
    )


def redraw(
    g: Graph, drawn: Drawn, uniform: str, filtered: FilteredRows, vocabulary_size: int
) -> str:
    """Draw again in the rows that have a filter.

    Args:
        g: where the nodes go.
        drawn: without filters.
        uniform: (N, 1), in [0, 1), or -1 for id 0.
        filtered: the rows.
        vocabulary_size: V.

    Returns:
        The ids with those rows' replaced, (N,).
    """
    p, u = (g.op("Gather", tensor, filtered.rows, axis=0) for tensor in (drawn.p, uniform))
    if vocabulary_size <= SMALL:
        p = keep_likeliest(g, p, filtered.filters, vocabulary_size)
    else:
        p = keep_by_threshold(g, p, filtered.filters, filtered.has, vocabulary_size)
    ids = draw(g, p, u, vocabulary_size).ids
    but_last = (g.constant("first_id", [0], np.int64), g.constant("minus_one_1", [-1], np.int64))
    rows, ids = (g.op("Slice", tensor, *but_last) for tensor in (filtered.rows, ids))
    return g.op("ScatterElements", drawn.ids, rows, ids, axis=0)
