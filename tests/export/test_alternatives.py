"""The graph of the likeliest symbols by itself, against a stable sort."""

import numpy as np
import onnxruntime as ort
import pytest
from numpy.testing import assert_array_equal

from export.drawing.alternatives import find_alternatives
from export.graph.graph import Graph, WeightFile

T, N = 5, 7


def graph_session(vocabulary_size: int) -> ort.InferenceSession:
    """Compile the graph alone."""
    g = Graph("alternatives", WeightFile("weights.bin"))
    shape: list[int | str] = ["time", "batch", vocabulary_size]
    logits, log_probs = g.input("logits", np.float32, shape), g.input("all", np.float32, shape)
    found = find_alternatives(g, logits, log_probs)
    g.output(found.ids, "ids", np.int64, None)
    g.output(found.log_probs, "log_probs", np.float32, None)
    return ort.InferenceSession(g.model().SerializeToString())


@pytest.mark.parametrize("vocabulary_size", [11, 98, 3000])
@pytest.mark.parametrize("different", [1, 3, 10**6])
def test_alternatives_are_ranked_by_logit_and_of_equals_by_id(
    vocabulary_size: int, different: int
) -> None:
    random = np.random.default_rng(vocabulary_size)
    logits = random.integers(0, different, (T, N, vocabulary_size)).astype(np.float32)
    log_probs = random.normal(size=logits.shape).astype(np.float32)
    ranked = np.argsort(-logits, axis=2, kind="stable")
    session = graph_session(vocabulary_size)
    for rows in ([0], [6, 2], range(N)):
        for count in (1, 2, 5, 11):
            asked = {
                "alternative_rows": np.array(rows),
                "alternative_count": np.array([count]),
            }
            ids, found = session.run(None, {"logits": logits, "all": log_probs, **asked})
            expected = ranked[:, list(rows), :count]
            assert_array_equal(ids, expected)
            assert_array_equal(found, np.take_along_axis(log_probs[:, list(rows)], expected, 2))


@pytest.mark.parametrize(("rows", "count"), [([], 5), ([1, 2], 0), ([], 0)])
def test_nobody_asks_or_for_none(rows: list[int], count: int) -> None:
    logits = np.zeros((T, N, 11), np.float32)
    asked = {
        "alternative_rows": np.array(rows, np.int64),
        "alternative_count": np.array([count]),
    }
    for found in graph_session(11).run(None, {"logits": logits, "all": logits, **asked}):
        assert found.shape == (T, len(rows), count)
