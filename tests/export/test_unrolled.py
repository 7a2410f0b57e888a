"""The unrolled graphs compute what the loop computes, and can be captured."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from export.compiler import export
from export.graph.arithmetic import Arithmetic
from export.graph.graph import WeightFile
from export.graph.weights import ModelWeights
from export.loop.unrolled import compile_unrolled
from serving.runtime.decoder import Decoder, LoopResult, LoopRun, State
from serving.runtime.onnx import Device, GraphFiles, open_fixed_graph_session
from tests.conftest import tiny_checkpoint
from tests.serving.runtime.runs import FILTERED, PLAIN, random_run
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import DECODES, INSPECT, READ, STEP, UNROLLED, WEIGHTS, Unrolled
from unroll.errors import ParityError

pytestmark = pytest.mark.slow

START, N, SLOTS = 3, 10, 13
CLOSE = 1e-4  # sums of a few products in another order, fed back for 8 steps
AFTER = 2  # steps of the call that come after those of the graph
KINDS = pytest.mark.parametrize("kind", UNROLLED, ids=lambda kind: kind.name)

# What the CUDA provider computes in opset 17, as ONNX Runtime's docs/OperatorKernels.md has it.
CUDA_KERNELS = {
    "float32": """
        Add Cast Concat CumSum Div Equal GRU Gather GatherElements Gemm GreaterOrEqual LSTM Less
        LessOrEqual LogSoftmax Max Mul RNN ReduceSum Relu ScatterElements Softmax Split Squeeze
        Sub TopK Transpose Unsqueeze Where
    """,
    "int64": """
        Add Concat Equal Gather Less Max Min Mul ScatterElements Split Squeeze Sub Unsqueeze Where
    """,
    "bool": "And Cast Not Or Split Squeeze Unsqueeze",
}


@pytest.fixture(params=CELLS)
def bundle(request: pytest.FixtureRequest, cuda_bundles: dict[Cell, Path]) -> Bundle:
    """A bundle of each cell."""
    return load_bundle(cuda_bundles[request.param])


def graph_of(bundle: Bundle, kind: Unrolled) -> onnx.ModelProto:
    """Read a graph."""
    return onnx.load(str(bundle.folder / kind.name), load_external_data=False)


def run_unrolled(
    bundle: Bundle, kind: Unrolled, call: LoopRun, state: State, slots: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Run a graph on the CPU; what it does not write are ones."""
    graph_session = open_fixed_graph_session(GraphFiles.of(bundle, kind.name), Device.CPU, 1)
    pools = {}
    for name, rows in state.items():
        pools[name] = np.ones((SLOTS, rows.shape[0], rows.shape[2]), rows.dtype)
        pools[name][slots] = rows.swapaxes(0, 1)
    feeds = {
        **{name: getattr(call, name) for name in ("tokens", "forced", "uniform", "steps")},
        **{name: getattr(call, name) for name in ("temperature", "top_k", "top_p", "min_p")},
        **pools,
        "slots": slots,
        "start": np.array([START]),
        "tokens_out_0": np.ones(call.forced.shape, np.int64),
        "log_probs_0": np.ones(call.forced.shape, np.float32),
    }
    inputs = {place.name for place in graph_session.get_inputs()}
    names = [place.name for place in graph_session.get_outputs()]
    values = graph_session.run(names, {name: feeds[name] for name in inputs})
    return dict(zip(names, values, strict=True))


def steps_of(
    bundle: Bundle, kind: Unrolled
) -> tuple[LoopRun, State, LoopResult, NDArray[np.bool_]]:
    """A loop run in the middle of which a graph's steps lie: what the loop makes of those.

    Returns:
        The run, in which the graph's steps are forced to what the loop chose; the state before
        them; what the loop gives; and which rows make which of the steps, (length, N).
    """
    sampling = [(PLAIN + FILTERED if kind.filtered else PLAIN)[row % 4] for row in range(N)]
    decoder = Decoder(bundle, Device.CPU)
    T = START + kind.length + AFTER
    call, state = random_run(decoder, len(bundle.vocabulary), T, sampling)
    call = replace(call, steps=np.linspace(0, T, N).astype(np.int64))
    here = slice(START, START + kind.length)
    made = np.clip(call.steps - START, 0, kind.length)
    of_here = replace(call, forced=call.forced[here], uniform=call.uniform[here], steps=made)
    return call, state, decoder.run(of_here, state), np.arange(kind.length)[:, None] < made


@KINDS
def test_unrolled_steps_give_what_the_loop_gives(bundle: Bundle, kind: Unrolled) -> None:
    call, state, expected, is_alive = steps_of(bundle, kind)
    slots = np.random.default_rng(kind.length).permutation(SLOTS)[:N]
    here = slice(START, START + kind.length)
    call.forced[here] = expected.tokens
    result = run_unrolled(bundle, kind, call, state, slots)

    np.testing.assert_array_equal(result["tokens_out"][here], expected.tokens)
    np.testing.assert_array_equal(result["tokens_n"], expected.tokens[-1])
    np.testing.assert_allclose(
        result["log_probs"][here][is_alive], expected.log_probs[is_alive], atol=CLOSE
    )
    for name in ("tokens_out", "log_probs"):
        assert (np.delete(result[name], np.r_[here], axis=0) == 1).all()
    for tensor in bundle.manifest.state:
        pool = result[tensor.output]
        rows, after = pool[slots].swapaxes(0, 1), expected.state[tensor.input]
        scale = max(1.0, float(np.abs(after).max()))
        np.testing.assert_allclose(rows / scale, after / scale, atol=CLOSE, err_msg=tensor.output)
        assert (np.delete(pool, slots, axis=0) == 1).all()
        ended = ~is_alive[0]
        assert ended.any()
        np.testing.assert_array_equal(rows[:, ended], state[tensor.input][:, ended])
    assert np.isfinite(expected.log_probs).all()


@KINDS
def test_unrolled_steps_draw_what_the_loop_draws(bundle: Bundle, kind: Unrolled) -> None:
    call, state, expected, is_alive = steps_of(bundle, kind)
    result = run_unrolled(bundle, kind, call, state, np.arange(N))
    drawn = result["tokens_out"][START : START + kind.length]
    # Rounding may tip a draw, after which the row goes on otherwise.
    rows_apart = ((drawn != expected.tokens) & is_alive).any(axis=0)
    assert rows_apart.sum() <= 1


def ancestors(graph: onnx.GraphProto, output: str) -> Iterator[onnx.NodeProto]:
    """The node that writes an output, and each that must have run before it."""
    needed = {output}
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            yield node


@KINDS
def test_what_reads_an_input_comes_before_what_writes_in_its_place(
    bundle: Bundle, kind: Unrolled
) -> None:
    graph = graph_of(bundle, kind).graph
    places = [("tokens", "tokens_n"), ("tokens_out_0", "tokens_out"), ("log_probs_0", "log_probs")]
    places += [(tensor.input, tensor.output) for tensor in bundle.manifest.state]
    for read, written in places:
        before = {node.name for node in ancestors(graph, written)}
        readers = {node.name for node in graph.node if read in node.input}
        assert readers
        assert readers <= before, (read, written)


@KINDS
def test_every_node_has_a_cuda_kernel_of_its_type(bundle: Bundle, kind: Unrolled) -> None:
    graph = onnx.shape_inference.infer_shapes(graph_of(bundle, kind), strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types |= {value.name: value.type.tensor_type.elem_type for value in graph.output}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        which = 1 if node.op_type == "Where" else 0  # Where's first input is its condition
        dtype = onnx.helper.tensor_dtype_to_np_dtype(types[node.input[which]]).name
        assert node.op_type in CUDA_KERNELS[dtype].split(), (node.op_type, dtype)
        if node.op_type == "RNN":  # with another activation, it goes to the CPU
            [activations] = [a.strings for a in node.attribute if a.name == "activations"]
            assert list(activations) == [b"Tanh"]


@KINDS
def test_graph_passes_the_full_check_and_declares_no_input_that_it_ignores(
    bundle: Bundle, kind: Unrolled
) -> None:
    onnx.checker.check_model(str(bundle.folder / kind.name), full_check=True)
    graph = graph_of(bundle, kind).graph
    read = {name for node in graph.node for name in node.input}
    assert {value.name for value in graph.input} <= read
    assert {tensor.name for tensor in graph.initializer} <= read
    assert ("top_k" in read) == kind.filtered


def test_report_says_that_they_were_compared(bundle: Bundle) -> None:
    rungs = {rung.name: rung for rung in bundle.manifest.parity.rungs}
    for name in ("unrolled: plain", "unrolled: filters"):
        assert 0 < rungs[name].difference <= rungs[name].limit == 1e-4
        assert rungs[f"{name}, own symbols"].difference == 0


def test_unrolled_graph_of_other_weights_is_found_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_other_weights(
        model: ModelWeights, arithmetic: Arithmetic, file: WeightFile
    ) -> dict[str, onnx.ModelProto]:
        bias = model.decoder_bias.copy()
        bias[3] += 0.25
        return compile_unrolled(replace(model, decoder_bias=bias), arithmetic, file)

    monkeypatch.setattr("export.compiler.compile_unrolled", of_other_weights)
    with pytest.raises(ParityError, match=r"unrolled: plain: .*unrolled: filters: .*limit 0"):
        export(tiny_checkpoint("gru", layers=1), tmp_path / "bundle", device=Device.CUDA)
    assert list(tmp_path.iterdir()) == []


def test_unrolled_graphs_change_neither_weights_nor_fingerprint(
    bundle: Bundle, tiny_bundles: dict[Cell, Path]
) -> None:
    cell: Cell = bundle.manifest.model.cell  # type: ignore[assignment]
    without = load_bundle(tiny_bundles[cell]).manifest
    assert bundle.manifest.fingerprint == without.fingerprint
    assert {*bundle.manifest.files} - {*without.files} == {kind.name for kind in UNROLLED}
    for name in (STEP, INSPECT, READ, *DECODES, WEIGHTS):
        assert bundle.manifest.files[name] == without.files[name]
