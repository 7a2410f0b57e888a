"""The sampler's graph by itself, against the words of the proto in float64."""

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from export.drawing.filtered_rows import keep_likeliest_in, prepare_filtered_rows
from export.drawing.sampler import BLOCKS, draw, prepare, probabilities
from export.graph.graph import Graph, WeightFile
from serving.runtime.decoder import FREE
from serving.runtime.onnx import Device, GraphFiles, open_graph_session
from serving.runtime.sampling import SamplingParams, uniforms
from unroll.bundle.manifest import WEIGHTS

LARGEST = 1 - 2.0**-24
# Where a threshold or a random number is this near to a boundary, fp32 may fall on either side.
NEAR = 2e-6
ROWS = 130  # as many as in test_decoder


class Sampler:
    """The sampler of a vocabulary's size, both paths.

    Args:
        vocabulary_size: V.
        whole: filters of all rows and the whole vocabulary, as the unrolled graphs have them.
    """

    def __init__(self, vocabulary_size: int, *, whole: bool = False) -> None:
        self._paths = {path: self._compile(vocabulary_size, path, whole) for path in (False, True)}

    def draw(
        self,
        logits: NDArray[np.float32],
        uniform: NDArray[np.float32],
        params: SamplingParams | list[SamplingParams],
        *,
        filtered: bool = True,
    ) -> NDArray[np.int64]:
        """Draw an id for each row of logits, (N, V), with its random number, (N,).

        The parameters are each row's or all rows'.
        """
        return self.tensors(logits, uniform, params, filtered=filtered)["ids"]

    def tensors(
        self,
        logits: NDArray[np.float32],
        uniform: NDArray[np.float32],
        params: SamplingParams | list[SamplingParams],
        *,
        filtered: bool = True,
    ) -> dict[str, NDArray[Any]]:
        """Draw as `draw` does; return all that is computed on the way for each row, (N, ...)."""
        N = len(logits)
        each = params if isinstance(params, list) else [params] * N
        feeds = {
            "logits": logits,
            "uniform": uniform[None].astype(np.float32),
            "forced": np.full((1, N), FREE),
            "temperature": np.array([p.temperature for p in each], np.float32),
            "top_k": np.array([p.top_k for p in each], np.int64),
            "top_p": np.array([p.top_p for p in each], np.float32),
            "min_p": np.array([p.min_p for p in each], np.float32),
        }
        session = self._paths[filtered]
        asked = {tensor.name for tensor in session.get_inputs()}
        names = [tensor.name for tensor in session.get_outputs()]
        values = session.run(names, {name: feeds[name] for name in asked})
        return dict(zip(names, values, strict=True))

    @staticmethod
    def _compile(V: int, filtered: bool, whole: bool) -> ort.InferenceSession:
        file = WeightFile(WEIGHTS)
        g = Graph("sampler", file)
        logits = g.input("logits", np.float32, ["batch", V])
        g.input("uniform", np.float32, ["time", "batch"])
        g.input("forced", np.int64, ["time", "batch"])
        sampler, uniform = prepare(g, V, filtered=filtered and whole)
        row = g.op("Gather", uniform, g.constant("t", 0, np.int64), axis=0)
        p = probabilities(g, logits, sampler, V)
        if filtered and not whole:
            p = keep_likeliest_in(g, p, prepare_filtered_rows(g, V), V)
        g.output(draw(g, p, row, V), "ids", np.int64, ["batch"])
        model = g.model()
        inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
        model.graph.output.extend([t for t in inferred if _is_by_row(t.type.tensor_type.shape)])
        with TemporaryDirectory() as folder:
            file.write(Path(folder))
            weights = (Path(folder) / WEIGHTS).read_bytes()
        graph = GraphFiles(path=Path("sampler"), graph=model.SerializeToString(), weights=weights)
        return open_graph_session(graph, Device.CPU, threads=1)


@cache
def sampler_of(vocabulary_size: int, *, whole: bool = False) -> Sampler:
    """Compile a sampler; nothing changes it."""
    return Sampler(vocabulary_size, whole=whole)


def _is_by_row(shape: onnx.TensorShapeProto) -> bool:
    return bool(shape.dim) and shape.dim[0].dim_param == "batch"


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Compute the distribution of one row, (V,), in float64."""
    scaled = logits.astype(np.float64) / temperature
    e = np.exp(scaled - scaled.max())
    p: NDArray[np.float64] = e / e.sum()
    return p


def kept(p: NDArray[np.float64], top_k: int, top_p: float, min_p: float) -> NDArray[np.int64]:
    """Filter one row as the proto says; return the ids that are left, in id order."""
    ids = np.argsort(-p, kind="stable")[: top_k or None]
    smallest_set = ids
    if top_p < 1:
        sums = np.cumsum(p[ids])
        smallest_set = ids[: int((sums < top_p * sums[-1]).argmin()) + 1]
    return np.sort(smallest_set[p[smallest_set] >= min_p * p[ids[0]]])


def drawn(p: NDArray[np.float64], ids: NDArray[np.int64], u: float) -> int:
    """Invert the cumulative distribution of the ids that are left."""
    sums = np.cumsum(p[ids])
    return int(ids[min(int(np.searchsorted(sums, u * sums[-1], side="right")), len(ids) - 1)])


def answers(logits: NDArray[np.float32], u: float, params: SamplingParams) -> set[int]:
    """Return what may be drawn: one id, or some where a boundary is too near to call."""
    p = softmax(logits, float(np.float32(params.temperature)))
    near, exact = (-NEAR, 0.0, NEAR), (0.0,)
    found = set()
    for a, b in itertools.product(
        near if params.top_p < 1 else exact, near if params.min_p > 0 else exact
    ):
        ids = kept(p, params.top_k, params.top_p + a, min(1.0, params.min_p * (1 + b)))
        found |= {drawn(p, ids, u + c) for c in near}
    return found


FILTERS = [
    SamplingParams(),
    SamplingParams(temperature=0.001),
    SamplingParams(temperature=0.3),
    SamplingParams(temperature=5),
    SamplingParams(top_k=1),
    SamplingParams(top_k=2),
    SamplingParams(top_k=5, temperature=2),
    SamplingParams(top_k=1000),
    SamplingParams(top_p=0.01),
    SamplingParams(top_p=0.5),
    SamplingParams(top_p=0.95, temperature=3),
    SamplingParams(min_p=0.03),
    SamplingParams(min_p=0.5),
    SamplingParams(min_p=1),
    SamplingParams(top_k=6, top_p=0.8),
    SamplingParams(top_p=0.9, min_p=0.2),
    SamplingParams(top_k=6, min_p=0.2, temperature=1.5),
    SamplingParams(top_k=7, top_p=0.9, min_p=0.1, temperature=2),
]


@pytest.mark.slow
@pytest.mark.parametrize("V", [2, 11, 66, 300, 777])
@pytest.mark.parametrize("params", FILTERS, ids=str)
def test_drawn_ids_are_those_of_the_words(V: int, params: SamplingParams) -> None:
    N = 150
    random = np.random.default_rng(V)
    logits = random.normal(0, 2, (N, V)).astype(np.float32)
    uniform = uniforms(V, 0, N)
    allowed = [answers(logits[row], float(uniform[row]), params) for row in range(N)]
    for whole in (False, True):
        ids = sampler_of(V, whole=whole).draw(logits, uniform, params)
        assert [(row, i) for row, i in enumerate(ids) if i not in allowed[row]] == []
    assert sum(len(those) == 1 for those in allowed) > 0.98 * N


def test_top_p_judges_what_top_k_left() -> None:
    # Of 0.4, 0.3, 0.2, 0.1 top_k keeps 0.4 and 0.3; 0.55 of their 0.7 is less than 0.4 alone.
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
    rows, uniform = np.repeat(logits, 64, 0), uniforms(1, 0, 64)
    both = sampler_of(4).draw(rows, uniform, SamplingParams(top_k=2, top_p=0.55))
    assert set(both.tolist()) == {1}
    only_p = sampler_of(4).draw(rows, uniform, SamplingParams(top_p=0.55))
    assert set(only_p.tolist()) == {1, 3}


@pytest.mark.slow
@pytest.mark.parametrize("V", [11, 1000])
def test_rows_draw_the_same_whatever_the_others_filters_are(V: int) -> None:
    random = np.random.default_rng(V)
    logits = random.normal(0, 3, (ROWS, V)).astype(np.float32)
    uniform = uniforms(V, 0, ROWS)
    params = [FILTERS[row % len(FILTERS)] for row in range(ROWS)]
    by_row = sampler_of(V)
    together = by_row.draw(logits, uniform, params)
    for row in range(ROWS):
        alone = by_row.draw(logits[[row]], uniform[[row]], params[row])
        assert together[row] == alone[0], params[row]
    np.testing.assert_array_equal(together, sampler_of(V, whole=True).draw(logits, uniform, params))


@pytest.mark.parametrize("V", [11, 777])
def test_path_without_filters_draws_what_the_path_with_them_does(V: int) -> None:
    logits = np.random.default_rng(5).normal(0, 3, (1000, V)).astype(np.float32)
    sampler, uniform = sampler_of(V), uniforms(5, 0, 1000)
    for params in (SamplingParams(), SamplingParams(temperature=0)):
        plain = sampler.draw(logits, uniform, params, filtered=False)
        np.testing.assert_array_equal(sampler.draw(logits, uniform, params), plain)


@pytest.mark.parametrize("V", [11, 777, 1024])
@pytest.mark.parametrize("filtered", [False, True])
def test_greedy_takes_the_lowest_id_of_equals(filtered: bool, V: int) -> None:
    logits = np.random.default_rng(7).integers(-3, 4, (500, V)).astype(np.float32)
    assert sum((row == row.max()).sum() > 1 for row in logits) > 250
    uniform = np.full(500, LARGEST, np.float32)
    greedy = SamplingParams(temperature=0)
    ids = sampler_of(V).draw(logits, uniform, greedy, filtered=filtered)
    np.testing.assert_array_equal(ids, logits.argmax(1))


def test_greedy_tells_neighbouring_floats_apart() -> None:
    logits = np.ones((11, 11), np.float32)
    np.fill_diagonal(logits, np.nextafter(np.float32(1), np.float32(2)))
    ids = sampler_of(11).draw(logits, np.zeros(11, np.float32), SamplingParams(temperature=0))
    np.testing.assert_array_equal(ids, np.arange(11))


def test_top_k_of_equals_keeps_the_lowest_ids() -> None:
    logits, uniform = np.zeros((4096, 11), np.float32), uniforms(2, 0, 4096)
    ids = sampler_of(11).draw(logits, uniform, SamplingParams(top_k=3))
    assert set(ids.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize(("V", "kept"), [(66, 33), (777, 389)])
def test_top_p_of_equals_keeps_the_lowest_ids(V: int, kept: int, rows: int) -> None:
    # The largest random number draws the last one; no bisection tells equals apart.
    logits, uniform = np.zeros((rows, V), np.float32), np.full(rows, LARGEST, np.float32)
    ids = Sampler(V).draw(logits, uniform, SamplingParams(top_p=0.5))
    np.testing.assert_array_equal(ids, kept - 1)


@pytest.mark.parametrize("filtered", [False, True])
def test_of_a_large_vocabulary_the_ends_of_blocks_are_drawn_as_often_as_others(
    filtered: bool,
) -> None:
    V, N = 777, 4000
    size = -(-V // BLOCKS)
    possible = [0, size - 1, size, 5 * size, 7 * size - 1, V - 1]
    logits = np.full((N, V), -np.inf, np.float32)
    logits[:, possible] = 1
    uniform = uniforms(3, 0, N)
    uniform[:2] = 0, LARGEST
    ids = sampler_of(V).draw(logits, uniform, SamplingParams(top_k=700), filtered=filtered)
    expected = np.array(possible)[(uniform.astype(np.float64) * len(possible)).astype(int)]
    assert (ids != expected).mean() < 0.001  # where rounding decides


@pytest.mark.parametrize("u", [0.0, LARGEST])
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("V", [66, 520, 777])
def test_symbol_of_probability_zero_is_never_drawn(u: float, filtered: bool, V: int) -> None:
    N = 2000
    random = np.random.default_rng(11)
    logits = random.normal(0, 2, (N, V)).astype(np.float32)
    impossible = random.random((N, V)) < 0.5
    impossible[:, [0, V - 1]] = True
    impossible[:, V // 2] = False
    logits[impossible] = -1e4
    uniform = np.full(N, u, np.float32)
    for params in (
        SamplingParams(),
        SamplingParams(temperature=3.7),
        SamplingParams(temperature=0),
    ):
        ids = sampler_of(V).draw(logits, uniform, params, filtered=filtered)
        assert not impossible[np.arange(N), ids].any()


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(top_k=1, top_p=1e-45),
        SamplingParams(top_p=1e-300),
        SamplingParams(top_k=3, top_p=1e-38, min_p=1),
    ],
    ids=str,
)
def test_narrowest_filter_leaves_the_likeliest_symbol(params: SamplingParams) -> None:
    logits = np.random.default_rng(13).normal(0, 1, (64, 11)).astype(np.float32)
    ids = sampler_of(11).draw(logits, np.full(64, LARGEST, np.float32), params)
    np.testing.assert_array_equal(ids, logits.argmax(1))


def batches(rows: int) -> Iterator[NDArray[np.int64]]:
    """Yield a batch of each size from 1 to all rows, in an order of its own."""
    order = np.random.default_rng(3).permutation(rows)
    for size in range(1, rows + 1):
        yield np.roll(order, size)[:size]


@pytest.mark.parametrize("V", [11, 31, 66])
def test_top_p_at_a_boundary_keeps_in_a_batch_what_it_keeps_alone(V: int) -> None:
    # Logits fall, so the largest random number draws the last symbol that was kept. With top_p at
    # the sum of the first few symbols, one rounding more or less decides which that is.
    random = np.random.default_rng(V)
    logits = -np.sort(-random.normal(0, 1, (ROWS, V)).astype(np.float32), axis=1)
    firsts = random.integers(1, V - 1, ROWS)
    sums = [softmax(row, 1)[:first].sum() for row, first in zip(logits, firsts, strict=True)]
    params = [SamplingParams(top_p=float(total)) for total in sums]
    sampler, uniform = sampler_of(V), np.full(ROWS, LARGEST, np.float32)
    alone = [sampler.draw(logits[[r]], uniform[:1], params[r])[0] for r in range(ROWS)]
    assert all(abs(i + 1 - first) <= 1 for i, first in zip(alone, firsts, strict=True))
    for rows in batches(ROWS):
        ids = sampler.draw(logits[rows], uniform[rows], [params[r] for r in rows])
        np.testing.assert_array_equal(ids, [alone[r] for r in rows])


@pytest.mark.slow
@pytest.mark.parametrize("V", [11, 31, 66, 777])
def test_all_that_leads_to_an_id_has_in_a_batch_the_bits_it_has_alone(V: int) -> None:
    random = np.random.default_rng(V)
    logits = random.normal(0, 2, (ROWS, V)).astype(np.float32)
    logits[::3] = logits[::3].round()  # some are equal
    sampler, uniform = sampler_of(V), uniforms(V, 0, ROWS)
    params = [FILTERS[row % len(FILTERS)] for row in range(ROWS)]
    alone = [sampler.tensors(logits[[r]], uniform[[r]], params[r]) for r in range(ROWS)]
    for rows in batches(ROWS):
        together = sampler.tensors(logits[rows], uniform[rows], [params[r] for r in rows])
        for name, tensor in together.items():
            expected = np.concatenate([alone[r][name] for r in rows])
            assert tensor.tobytes() == expected.tobytes(), (name, len(rows))


# A right sampler exceeds the 0.999 quantile of chi-square once in a thousand choices of seeds;
# the seeds are fixed. Degrees of freedom: symbols - 1. Quantiles from the usual tables.
CHI_SQUARE_999 = {10: 29.588, 4: 18.467}


def chi_square(ids: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    """Measure how far counts are from their expectations, every one of which is 5 or more."""
    expected = p * len(ids)
    assert expected.min() >= 5
    counts = np.bincount(ids, minlength=len(p))
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.8, 1.0, 2.0])
@pytest.mark.parametrize("over", ["positions", "seeds"])
def test_frequencies_follow_the_softmax(over: str, temperature: float) -> None:
    N = 5000 if over == "seeds" else 100_000
    logits = np.linspace(-2, 1.5, 11, dtype=np.float32)
    uniform = (
        np.concatenate([uniforms(seed, 17, 1) for seed in range(N)])
        if over == "seeds"
        else uniforms(42, 0, N)
    )
    params = SamplingParams(temperature=temperature)
    ids = sampler_of(11).draw(np.tile(logits, (N, 1)), uniform, params, filtered=False)
    assert chi_square(ids, softmax(logits, temperature)) < CHI_SQUARE_999[10]


def test_frequencies_of_what_a_filter_left_follow_the_renormalised_softmax() -> None:
    N, k = 50_000, 5
    logits = np.linspace(-2, 1.5, 11, dtype=np.float32)
    ids = sampler_of(11).draw(np.tile(logits, (N, 1)), uniforms(43, 0, N), SamplingParams(top_k=k))
    assert ids.min() == 11 - k
    p = softmax(logits, 1)[-k:]
    assert chi_square(ids - (11 - k), p / p.sum()) < CHI_SQUARE_999[k - 1]
