"""The likeliest symbols at each step of some rows of the loop, in its graph."""

from dataclasses import dataclass

import numpy as np

from export.graph.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Alternatives:
    """The likeliest symbols, the likeliest first; of equals, the lowest id.

    Attributes:
        ids: int64, (T, asking rows, count).
        log_probs: of each, float, likewise.
    """

    ids: str
    log_probs: str


def find_alternatives(g: Graph, logits: str, all_log_probs: str) -> Alternatives:
    """Declare which rows ask and for how many, and find them.

    They are ranked by logits: two that differ in the last bit may be equally probable, and greedy
    takes the first.

    Args:
        g: where the nodes go.
        logits: (T, N, V).
        all_log_probs: of all symbols, likewise.
    """
    rows = g.input("alternative_rows", np.int64, ["asking"])
    count = g.input("alternative_count", np.int64, [1])
    some = g.op("Gather", logits, rows, axis=1)  # (T, asking, V)
    _, ids = g.ops("TopK", some, count, count=2, axis=2, largest=1, sorted=1)
    some = g.op("Gather", all_log_probs, rows, axis=1)
    return Alternatives(ids=ids, log_probs=g.op("GatherElements", some, ids, axis=2))
