"""The native loop gives the bits of decode.onnx on each instruction set, or refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from serving.local.model import load
from serving.runtime.decoder import FREE, Decoder, LoopResult, LoopRun, State
from serving.runtime.initializers import read_initializers
from serving.runtime.kernels import Kernels
from serving.runtime.native import decoder as native
from serving.runtime.native.decoder import NativeDecoder
from serving.runtime.native.packing import PackedDecoder, Tensors, pack_decoder
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from serving.settings import ServerSettings
from tests.conftest import TINY_SYMBOLS, tiny_checkpoint
from tests.serving.running import serve
from tests.serving.runtime.native.bundles import V, compiled, needs_kernels
from tests.serving.runtime.runs import (
    BATCHES,
    FILTERED,
    PLAIN,
    assert_same_bits,
    random_run,
    result_rows,
    rows_of,
    run_in_cuts,
    state_rows,
)
from training.model.model import CELLS
from unroll.bundle.folder import Bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import DeviceError, SettingsError
from unroll.options import GenerateOptions

pytestmark = needs_kernels


ROWS = 130


MODELS = [
    *((cell, precision, 37, 2, 1) for cell in CELLS for precision in ("fp32", "int8")),
    ("gru", "fp32", 300, 1, 1),  # more inputs than are summed at once
    ("gru", "int8", 16, 2, 2),
    ("lstm", "fp32", 7, 3, 2),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: "-".join(map(str, model)))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of each cell and precision, of odd sizes."""
    cell, precision, hidden, layers, members = request.param
    checkpoint = tiny_checkpoint(cell, hidden_size=hidden, layers=layers, members=members)
    return compiled(checkpoint, precision, tmp_path_factory.mktemp("native") / "bundle")


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One bundle for what does not depend on the model."""
    return compiled(tiny_checkpoint("gru"), "fp32", tmp_path_factory.mktemp("native") / "bundle")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each run of the native loop."""
    runs: list[int] = []
    real = NativeDecoder._run

    def run(self: NativeDecoder, call: LoopRun, state: State) -> LoopResult:
        runs.append(len(call.tokens))
        return real(self, call, state)

    monkeypatch.setattr(NativeDecoder, "_run", run)
    return runs


@pytest.mark.slow
@pytest.mark.usefixtures("instruction_set")
def test_every_batch_has_the_bits_of_the_graph(bundle: Bundle, counted: list[int]) -> None:
    sampling = [PLAIN[row % len(PLAIN)] for row in range(ROWS)]
    graph, ours = Decoder(bundle, Device.CPU), NativeDecoder(bundle)
    call, state = random_run(graph, V, 5, sampling)
    call = replace(call, forced=np.where(np.arange(5)[:, None] == 2, FREE, call.forced))
    whole = graph.run(call, state)
    order = np.random.default_rng(3).permutation(ROWS)
    counted.clear()
    for size in BATCHES:
        rows = np.roll(order, size)[:size]
        result = ours.run(rows_of(call, rows), state_rows(state, rows))
        assert_same_bits(result, result_rows(whole, rows))
    assert counted == list(BATCHES)


@pytest.mark.slow
@pytest.mark.usefixtures("instruction_set")
def test_rows_that_end_keep_their_state(bundle: Bundle) -> None:
    graph, ours = Decoder(bundle, Device.CPU), NativeDecoder(bundle)
    call, state = random_run(graph, V, 12, [SamplingParams(), *PLAIN, *PLAIN])
    call = replace(call, steps=np.arange(len(call.tokens)) + 3)
    is_alive = np.arange(12)[:, None] < call.steps
    whole = graph.run(call, state)
    for cuts in ([], [1] * 12, [5, 7], [11, 1], [2, 3, 5, 2]):
        parts = run_in_cuts(ours, call, state, cuts)
        for one, other in ((whole.tokens, parts.tokens), (whole.log_probs, parts.log_probs)):
            np.testing.assert_array_equal(one[is_alive], other[is_alive])
        for name, tensor in whole.state.items():
            assert parts.state[name].tobytes() == tensor.tobytes()


@pytest.mark.slow
@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("read_at_most", [V, V - 1])
def test_symbols_that_are_given_are_read_by_the_loop_unless_they_are_of_many(
    bundle: Bundle, counted: list[int], monkeypatch: pytest.MonkeyPatch, read_at_most: int
) -> None:
    monkeypatch.setattr(native, "READ_AT_MOST", read_at_most)
    graph, ours = Decoder(bundle, Device.CPU), NativeDecoder(bundle)
    call, state = random_run(graph, V, 9, PLAIN)
    steps = np.arange(len(PLAIN)) % 9 + 1
    is_alive = np.arange(9)[:, None] < steps
    given = np.random.default_rng(5).integers(0, V, call.forced.shape)
    call = replace(call, forced=np.where(is_alive, given, FREE), steps=steps)
    assert graph.has_read
    assert call.is_read
    counted.clear()
    wanted, got = graph.run(call, state), ours.run(call, state)
    assert counted == ([len(PLAIN)] if read_at_most >= V else [])
    assert got.log_probs[is_alive].tobytes() == wanted.log_probs[is_alive].tobytes()
    for name, tensor in wanted.state.items():
        assert got.state[name].tobytes() == tensor.tobytes()


@pytest.mark.slow
@pytest.mark.usefixtures("instruction_set")
def test_closed_gates_leave_zeros_of_one_sign(bundle: Bundle) -> None:
    graph, ours = Decoder(bundle, Device.CPU), NativeDecoder(bundle)
    call, state = random_run(graph, V, 1, [SamplingParams()] * ROWS)
    state = {name: 300 * tensor for name, tensor in state.items()}  # closes half of the gates
    given, wanted = ours.run(call, state), graph.run(call, state)
    for name, tensor in wanted.state.items():
        assert given.state[name].tobytes() == tensor.tobytes()
    if (summary := bundle.manifest.model).cell == "lstm" and summary.precision == "fp32":
        assert (wanted.state["h_0"] == 0).any(), "nothing would show a wrong sign"


def test_rows_of_every_kind_are_made_by_the_loop(small_bundle: Bundle, counted: list[int]) -> None:
    ours = NativeDecoder(small_bundle)
    call, state = random_run(ours, V, 6, [*PLAIN, *FILTERED])
    call = replace(call, forced=np.full_like(call.forced, FREE))
    counted.clear()
    together = ours.run(call, state)
    alone = ours.run(rows_of(call, [0]), state_rows(state, [0]))
    assert counted == [len(call.tokens), 1]
    assert_same_bits(alone, result_rows(together, [0]))


def test_filters_of_a_bundle_of_before_are_those_of_its_graph(
    small_bundle: Bundle, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_before(graph: bytes, weights: bytes) -> Tensors:
        tensors = read_initializers(graph, weights)
        tensors.pop("above_all", None)
        return tensors

    monkeypatch.setattr(native, "read_initializers", of_before)
    ours = NativeDecoder(small_bundle)
    call, state = random_run(ours, V, 6, [*PLAIN, *FILTERED])
    counted.clear()
    ours.run(call, state)
    assert not counted
    ours.run(rows_of(call, [0]), state_rows(state, [0]))
    assert counted == [1]


def test_long_text_has_the_bits_of_the_graph(small_bundle: Bundle) -> None:
    graph, ours = Decoder(small_bundle, Device.CPU), NativeDecoder(small_bundle)
    call, state = random_run(graph, V, 3000, [SamplingParams()])
    assert_same_bits(ours.run(call, state), graph.run(call, state))


@pytest.mark.usefixtures("instruction_set")
def test_symbol_that_is_only_read_is_never_drawn(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gru", layers=1)
    checkpoint.weights["decoder.bias"][-1] = 20.0  # by far the likeliest
    unknown = Vocabulary(TINY_SYMBOLS, "\n", unknown_symbol=TINY_SYMBOLS[-1])
    bundle = compiled(replace(checkpoint, vocabulary=unknown), "fp32", tmp_path / "bundle")
    graph, ours = Decoder(bundle, Device.CPU), NativeDecoder(bundle)
    call, state = random_run(graph, V, 20, [*PLAIN])
    result = ours.run(call, state)
    assert (result.tokens[call.forced == FREE] < V - 1).all()
    assert_same_bits(result, graph.run(call, state))


def test_other_bits_are_refused(small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_little(tensors: Tensors, members: int, lanes: int) -> PackedDecoder:
        packed = pack_decoder(tensors, members, lanes)
        return replace(packed, bias=np.nextafter(packed.bias, np.inf, dtype=np.float32))

    monkeypatch.setattr(native, "pack_decoder", off_by_little)
    with pytest.raises(DeviceError, match=r"other bits than ONNX Runtime .*; take --kernels onnx"):
        NativeDecoder(small_bundle)


def test_unknown_graph_is_refused(small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_one(graph: bytes, weights: bytes) -> Tensors:
        tensors = read_initializers(graph, weights)
        del tensors["layer0.z.table"]
        return tensors

    monkeypatch.setattr(native, "read_initializers", without_one)
    with pytest.raises(DeviceError, match=r"'layer0\.z\.table'; export it again"):
        NativeDecoder(small_bundle)


def test_large_vocabulary_of_a_graph_of_before_is_refused(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "WHOLE_AT_MOST", V - 1)
    with pytest.raises(DeviceError, match=f"'blocks_{V}'; export it again"):
        NativeDecoder(small_bundle)


@pytest.mark.slow
def test_server_with_native_kernels_writes_the_same_texts(
    small_bundle: Bundle, counted: list[int]
) -> None:
    texts, options = [], GenerateOptions(max_new_symbols=300, seed=4)
    for kernels in Kernels:
        with (
            serve(str(small_bundle.folder), kernels=kernels) as running,
            running.client() as client,
        ):
            counted.clear()  # what the proof at the start ran
            texts.append(client.generate("a", options).text)
        assert bool(counted) == (kernels is Kernels.NATIVE)
    assert texts[0] == texts[1]


def test_model_in_this_process_with_native_kernels_writes_the_same_text(
    small_bundle: Bundle, counted: list[int]
) -> None:
    options = GenerateOptions(max_new_symbols=50, seed=3)
    texts = set()
    kinds: tuple[Literal["onnx", "native"], ...] = ("onnx", "native")
    for kernels in kinds:
        with load(small_bundle.folder, kernels=kernels) as model:
            counted.clear()  # what the proof at the start ran
            texts.add(model.generate("", options).text)
        assert bool(counted) == (kernels == "native")
    assert len(texts) == 1


def test_native_kernels_are_refused_beside_several_threads() -> None:
    settings = ServerSettings(model=("x",), kernels=Kernels.NATIVE, threads=2)
    with pytest.raises(SettingsError, match=r"^kernels = native: .*take --threads 1, and --wor"):
        settings.validate()
