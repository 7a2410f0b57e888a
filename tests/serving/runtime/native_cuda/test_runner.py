"""The native loop for CUDA, compiled for the host, computes what the CPU's graphs compute."""

import ctypes
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.models import random_checkpoint
from export.graph.arithmetic import Precision
from serving.runtime.decoder import FREE, Decoder, LoopResult, LoopRun, State
from serving.runtime.native_cuda import library, weights
from serving.runtime.native_cuda.library import Made, NativeLoop
from serving.runtime.native_cuda.packing import PackedModel, pack
from serving.runtime.native_cuda.runner import NativeRunner
from serving.runtime.native_cuda.structures import Description
from serving.runtime.native_cuda.weights import NativeWeights
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.conftest import TINY_SYMBOLS, export_briefly, tiny_checkpoint
from tests.serving.runtime.native.bundles import random_texts
from tests.serving.runtime.runs import (
    FILTERED,
    PLAIN,
    assert_same_bits,
    random_run,
    result_rows,
    rows_of,
    state_rows,
)
from training.model.model import CELLS
from training.run.checkpoint import Checkpoint
from unroll.bundle.folder import Bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import DeviceError

pytestmark = pytest.mark.slow  # the compiler takes some seconds

V = len(TINY_SYMBOLS)
CAPACITY = 70
CLOSE = {"fp32": 1e-4, "fp16": 0.02}
EMULATED = Path(__file__).parent / "emulated"
MODELS = [
    *((cell, "fp32", 37, 2, 1) for cell in CELLS),
    ("gru", "fp32", 130, 1, 1),  # more units than a block has threads
    ("gru", "fp32", 7, 3, 2),
    ("lstm", "fp32", 7, 2, 3),
    ("gru", "fp16", 37, 3, 1),
]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> NativeLoop:
    """The library, compiled for the host."""
    compiler = shutil.which("g++")
    if compiler is None:
        assert os.environ.get("REQUIRE_KERNELS") != "1"
        pytest.skip("there is no g++")
    target = tmp_path_factory.mktemp("emulated") / "loop.lib"
    command = f"{compiler} -std=c++20 -x c++ -O2 -fPIC -shared -Wall -Wextra -Werror".split()
    if "fma" in Path("/proc/cpuinfo").read_text():  # nvcc, too, makes one rounding of two
        command += ["-mfma", "-ffp-contract=fast"]
    sources = [f"-I{EMULATED}", '-DSOURCES_DIGEST=""', str(library.FOLDER / "loop.cu")]
    subprocess.run([*command, *sources, "-o", str(target)], check=True)
    return NativeLoop(ctypes.CDLL(str(target)), "")


@pytest.fixture(autouse=True)
def loaded(emulated: NativeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "load", lambda: emulated)


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: "-".join(map(str, model)))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    cell, precision, hidden, layers, members = request.param
    checkpoint = tiny_checkpoint(cell, hidden_size=hidden, layers=layers, members=members)
    return compiled(checkpoint, precision, tmp_path_factory.mktemp("native") / "bundle")


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return compiled(tiny_checkpoint("gru"), "fp32", tmp_path_factory.mktemp("native") / "bundle")


def compiled(checkpoint: Checkpoint, precision: str, folder: Path) -> Bundle:
    if precision == "fp32":
        return export_briefly(checkpoint, folder)
    texts, half = random_texts(), Precision(precision)
    return export_briefly(checkpoint, folder, device=Device.CUDA, precision=half, texts=texts)


def opened(bundle: Bundle, capacity: int = CAPACITY) -> NativeRunner:
    return NativeRunner(bundle, Decoder(bundle, Device.CPU), capacity)


def run(runner: NativeRunner, call: LoopRun, state: State, first: int = 0) -> LoopResult:
    """Run a call from a state, rows in slots from `first` on."""
    slots = range(first, first + len(call.tokens))
    for row, slot in enumerate(slots):
        runner.load(slot, {name: tensor[:, row] for name, tensor in state.items()})
    written = runner.run(list(slots), call)
    after = [runner.read(slot) for slot in slots]
    return LoopResult(
        tokens=written.tokens,
        log_probs=written.log_probs,
        state={name: np.stack([one[name] for one in after], axis=1) for name in state},
    )


def assert_near(result: LoopResult, expected: LoopResult, call: LoopRun, close: float) -> None:
    """Compare what came in the steps that rows make, and where they ended."""
    is_made = np.arange(len(call.forced))[:, None] < call.steps
    np.testing.assert_array_equal(result.tokens[is_made], expected.tokens[is_made])
    np.testing.assert_allclose(
        result.log_probs[is_made], expected.log_probs[is_made], rtol=close, atol=close
    )
    for name, tensor in expected.state.items():
        scale = max(1.0, float(np.abs(tensor).max()))
        np.testing.assert_allclose(result.state[name] / scale, tensor / scale, atol=close)


@pytest.mark.parametrize("steps", [1, 77])
def test_rows_of_every_kind_are_near_the_cpu(bundle: Bundle, steps: int) -> None:
    precision = bundle.manifest.model.precision
    decoder = Decoder(bundle, Device.CPU)
    sampling = [(PLAIN + FILTERED)[row % 9] for row in range(20)]
    call, state = random_run(decoder, V, steps, sampling)
    call = replace(call, steps=np.random.default_rng(3).integers(0, steps + 1, 20))
    if precision == "fp16":  # whose rounding tips choices
        call.forced[:] = np.maximum(call.forced, 0)
    expected = decoder.run(call, state)
    assert_near(run(opened(bundle), call, state, 3), expected, call, CLOSE[precision])


SAMPLINGS = [
    SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    for temperature in (0, 0.5, 1.4)
    for top_k in (0, 1, 4, V, V + 5)
    for top_p in (1e-9, 0.3, 0.9, 1)
    for min_p in (0, 0.1, 1)
]


@pytest.mark.parametrize("are_equal", [False, True])
def test_filters_leave_what_the_cpu_leaves(are_equal: bool, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gru")
    if are_equal:  # all symbols are as likely: the lowest ids stay
        for part in ("weight", "bias"):
            checkpoint.weights[f"decoder.{part}"].zero_()
    bundle = export_briefly(checkpoint, tmp_path / "bundle")
    decoder = Decoder(bundle, Device.CPU)
    call, state = random_run(decoder, V, 30, SAMPLINGS)
    call = replace(call, forced=np.full_like(call.forced, FREE))
    result = run(opened(bundle, len(SAMPLINGS)), call, state)
    assert_near(result, decoder.run(call, state), call, CLOSE["fp32"])


def test_larger_vocabulary_is_drawn_from_as_on_the_cpu(tmp_path: Path) -> None:
    bundle = export_briefly(random_checkpoint("gru-24x2", 700), tmp_path / "bundle")
    decoder = Decoder(bundle, Device.CPU)
    call, state = random_run(decoder, 700, 12, PLAIN + FILTERED)
    assert_near(run(opened(bundle), call, state), decoder.run(call, state), call, CLOSE["fp32"])


def test_neighbours_and_slots_change_no_bit(small_bundle: Bundle) -> None:
    runner = opened(small_bundle)
    call, state = random_run(Decoder(small_bundle, Device.CPU), V, 40, (PLAIN + FILTERED) * 2)
    whole = run(runner, call, state)
    for rows in ([3], [17, 0, 9], list(range(4, 15))):
        some = run(runner, rows_of(call, rows), state_rows(state, rows), 11)
        assert_same_bits(some, result_rows(whole, rows))


def test_cuts_change_no_bit(small_bundle: Bundle) -> None:
    runner = opened(small_bundle)
    call, state = random_run(Decoder(small_bundle, Device.CPU), V, 75, PLAIN + FILTERED)
    whole = run(runner, call, state)
    for cut in (1, 7, 40, 64):
        for row in range(9):
            runner.load(row, {name: tensor[:, row] for name, tensor in state.items()})
        tokens, parts = call.tokens, []
        for t in range(0, 75, cut):
            forced, uniform = call.forced[t : t + cut], call.uniform[t : t + cut]
            steps = np.maximum(call.steps - t, 0)
            part = replace(call, tokens=tokens, forced=forced, uniform=uniform, steps=steps)
            parts.append(runner.run(list(range(9)), part))
            tokens = parts[-1].tokens[-1]
        np.testing.assert_array_equal(np.concatenate([p.tokens for p in parts]), whole.tokens)
        np.testing.assert_array_equal(np.concatenate([p.log_probs for p in parts]), whole.log_probs)
        for row in range(9):
            for name, tensor in runner.read(row).items():
                np.testing.assert_array_equal(tensor, whole.state[name][:, row])


def test_other_slots_stay_as_they_are(small_bundle: Bundle) -> None:
    runner = opened(small_bundle)
    call, state = random_run(Decoder(small_bundle, Device.CPU), V, 9, PLAIN)
    runner.load(67, {name: tensor[:, 0] for name, tensor in state.items()})
    runner.load(68, None)
    run(runner, call, state)
    runner.warm_up()
    for name, tensor in runner.read(67).items():
        np.testing.assert_array_equal(tensor, state[name][:, 0])
    assert all((tensor == 0).all() for tensor in runner.read(68).values())
    for slot in (4, 66, 69):
        assert all(np.isnan(tensor).all() for tensor in runner.read(slot).values())


def test_runners_may_share_weights_and_outlive_each_other(small_bundle: Bundle) -> None:
    shared, decoder = NativeWeights(small_bundle), Decoder(small_bundle, Device.CPU)
    call, state = random_run(decoder, V, 9, PLAIN)
    one, other = (NativeRunner(small_bundle, decoder, 5, shared) for _ in range(2))
    first = run(one, call, state)
    del one, shared
    assert_same_bits(run(other, call, state), first)


def test_something_else_than_the_cpu_computes_is_refused(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(*args: object) -> PackedModel:
        packed = pack(*args)  # type: ignore[arg-type]
        return replace(packed, bias=packed.bias + np.float32(0.1))

    monkeypatch.setattr(weights, "pack", off)
    with pytest.raises(DeviceError, match=r"from what the CPU computes; take --kernels onnx"):
        opened(small_bundle)


def test_int8_is_refused(tmp_path: Path) -> None:
    bundle = export_briefly(
        tiny_checkpoint("gru"), tmp_path / "b", precision=Precision.INT8, texts=random_texts()
    )
    with pytest.raises(DeviceError, match="fp32 or fp16 on cuda, and this bundle is int8; export"):
        NativeWeights(bundle)


def test_vocabulary_too_large_for_shared_memory_is_refused(emulated: NativeLoop) -> None:
    description = Description(CELLS.index("gru"), False, 0, 1, 7, 0, 20_000)
    with pytest.raises(DeviceError, match=r"choosing among 20000 symbols takes .*--kernels onnx"):
        Made(emulated, "model", ctypes.byref(description), b"")


def test_symbol_that_is_only_read_is_never_drawn(tmp_path: Path) -> None:
    unknown = Vocabulary(TINY_SYMBOLS, "\n", unknown_symbol=TINY_SYMBOLS[-1])
    checkpoint = replace(tiny_checkpoint("gru"), vocabulary=unknown)
    bundle = export_briefly(checkpoint, tmp_path / "bundle")
    decoder = Decoder(bundle, Device.CPU)
    call, state = random_run(decoder, V, 40, PLAIN + FILTERED)
    result = run(opened(bundle), call, state)
    assert_near(result, decoder.run(call, state), call, CLOSE["fp32"])
    assert (result.tokens[call.forced == FREE] < V - 1).all()


def test_library_that_is_not_compiled_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "load_cuda", lambda: None)
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "loop.lib")
    with pytest.raises(DeviceError, match=r"not compiled; run `make kernels` .*NVIDIA's nvcc"):
        library.load.__wrapped__()
