"""All graphs are valid ONNX, are what the manifest says, and agree with each other and torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from serving.runtime.decoder import FREE, Decoder, LoopRun
from serving.runtime.onnx import Device, GraphFiles, open_graph_session
from serving.runtime.sampling import SamplingParams, uniforms
from tests.conftest import TINY_SYMBOLS, tiny_checkpoint
from tests.serving.runtime.runs import random_run
from training.model.model import CELLS, CharRNN
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import BATCH, DECODES, INSPECT, READ, STEP, TIME, WEIGHTS, TensorSpec

SYMBOLS = 2000
# fp32 in two orders of summation; a random number this near to a boundary is a tie (see
# export/proof/reference.py), so the runs that are compared are chosen without one.
TIE = 1e-5


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> Cell:
    """Each cell."""
    chosen: Cell = request.param
    return chosen


@pytest.fixture
def bundle(cell: Cell, tiny_bundles: dict[Cell, Path]) -> Bundle:
    """A bundle of each cell."""
    return load_bundle(tiny_bundles[cell])


@pytest.mark.parametrize("name", [STEP, INSPECT, READ, *DECODES])
def test_graph_passes_the_full_check(bundle: Bundle, name: str) -> None:
    onnx.checker.check_model(str(bundle.folder / name), full_check=True)


def test_weights_lie_in_the_file_and_nothing_beyond_it(bundle: Bundle) -> None:
    size = (bundle.folder / WEIGHTS).stat().st_size
    for name in (STEP, INSPECT, READ, *DECODES):
        graph = onnx.load(str(bundle.folder / name), load_external_data=False).graph
        outside = [t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        assert outside
        for tensor in outside:
            at = {entry.key: entry.value for entry in tensor.external_data}
            assert at["location"] == WEIGHTS
            assert int(at["length"]) == 4 * int(np.prod(tensor.dims))
            assert int(at["offset"]) % 4 == 0
            assert int(at["offset"]) + int(at["length"]) <= size


def shape_of(spec: TensorSpec, T: int, N: int) -> tuple[int, ...]:
    """Put numbers in the place of names."""
    sampled = len(TINY_SYMBOLS)
    numbers = {TIME: T, BATCH: N, "asking": N, "count": 2, "states": 3, "transitions": 3 * sampled}
    numbers["asked"] = T * N
    return tuple(size if isinstance(size, int) else numbers[size] for size in spec.shape)


@pytest.mark.parametrize("name", [STEP, INSPECT, READ, *DECODES])
@pytest.mark.parametrize(("T", "N"), [(1, 1), (2, 3), (13, 5)])
def test_inputs_and_outputs_are_what_the_manifest_says(
    bundle: Bundle, name: str, T: int, N: int
) -> None:
    spec = bundle.manifest.graphs[name]
    feeds = {i.name: np.zeros(shape_of(i, T, N), i.dtype) for i in spec.inputs}
    feeds |= {key: np.ones(N, np.float32) for key in ("temperature", "top_p") if key in feeds}
    if "alternative_count" in feeds:
        feeds["alternative_count"] = np.array([2])
    graph_session = open_graph_session(GraphFiles.of(bundle, name), Device.CPU, 1)
    assert [i.name for i in graph_session.get_inputs()] == [i.name for i in spec.inputs]
    assert [o.name for o in graph_session.get_outputs()] == [o.name for o in spec.outputs]
    for output, value in zip(spec.outputs, graph_session.run(None, feeds), strict=True):
        assert (output.name, value.shape) == (output.name, shape_of(output, T, N))
        assert (output.name, value.dtype.name) == (output.name, output.dtype)


def test_step_and_decode_agree(bundle: Bundle) -> None:
    T, N, V = 13, 5, len(bundle.vocabulary)
    decoder = Decoder(bundle, Device.CPU)
    call, before = random_run(decoder, V, T, [SamplingParams()] * N)
    result = decoder.run(call, before)
    consumed = np.concatenate([call.tokens[None], result.tokens[:-1]])
    graph_session = open_graph_session(GraphFiles.of(bundle, STEP), Device.CPU, 1)
    outputs = ["logits", *(tensor.output for tensor in bundle.manifest.state)]
    logits, *state = graph_session.run(outputs, {"tokens": consumed, **before})
    z = logits.astype(np.float64)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))  # logits are far from overflow
    of_chosen = np.take_along_axis(log_p, result.tokens[..., None], 2)[..., 0]
    # Some fp32 roundings of values up to about 30, fed back through 13 steps.
    np.testing.assert_allclose(result.log_probs, of_chosen, rtol=1e-5, atol=1e-4)
    for tensor, value in zip(bundle.manifest.state, state, strict=True):
        np.testing.assert_allclose(result.state[tensor.input], value, rtol=1e-5, atol=1e-5)


@dataclass(frozen=True)
class Written:
    """What a plain loop wrote, and how near any choice was to another."""

    tokens: list[int]
    nearest: float


def plain_loop(model: CharRNN, start: int, uniform: NDArray[np.float32] | None) -> Written:
    """Write with torch, one symbol at a time; greedily without random numbers."""
    token, state, tokens, nearest = start, model.zero_state(1), [], 1.0
    for t in range(SYMBOLS):
        logits, state = model(torch.tensor([[token]]), state)
        p = torch.softmax(logits[0, 0].double(), -1).numpy()
        if uniform is None:
            token = int(p.argmax())
            nearest = min(nearest, float(p[token] - np.delete(p, token).max()))
        else:
            cdf = p.cumsum() / p.sum()
            token = int((cdf <= uniform[t]).sum())
            nearest = min(nearest, float(np.abs(cdf[:-1] - uniform[t]).min()))
        tokens.append(token)
    return Written(tokens, nearest)


def compiled_loop(
    bundle: Bundle, uniform: NDArray[np.float32], temperature: float
) -> NDArray[np.int64]:
    """Write with the decode graph, in one call."""
    decoder = Decoder(bundle, Device.CPU)
    start, forced = np.array([bundle.vocabulary.start_id]), np.full((SYMBOLS, 1), FREE)
    call = LoopRun.plain(start, forced, uniform[:, None], temperature)
    return decoder.run(call, decoder.zero_state(1)).tokens[:, 0]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: two spend most of their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(cell: Cell) -> CharRNN:
    """The torch model that the bundle was compiled from."""
    return tiny_checkpoint(cell).model()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@torch.inference_mode()
def test_torch_with_the_same_random_numbers_writes_the_same_text(
    bundle: Bundle, model: CharRNN
) -> None:
    start = bundle.vocabulary.start_id
    for seed in range(20):
        uniform = uniforms(seed, 0, SYMBOLS)
        written = plain_loop(model, start, uniform)
        if written.nearest > TIE:
            break
    assert written.nearest > TIE
    compiled = compiled_loop(bundle, uniform, 1.0)
    np.testing.assert_array_equal(compiled, written.tokens)
    assert len(set(written.tokens)) == len(bundle.vocabulary)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@torch.inference_mode()
def test_torch_writes_the_same_text_greedily(bundle: Bundle, model: CharRNN) -> None:
    written = plain_loop(model, bundle.vocabulary.start_id, None)
    assert written.nearest > TIE
    compiled = compiled_loop(bundle, uniforms(1, 0, SYMBOLS), 0.0)
    np.testing.assert_array_equal(compiled, written.tokens)
