"""The device runner on CUDA: all of it on the device, captured, and the same text every time."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from serving.runtime.decoder import FREE, Decoder, LoopResult, LoopRun, State
from serving.runtime.device import runner as device
from serving.runtime.device.batch import DeviceBatch
from serving.runtime.device.runner import SMALLEST, DeviceRunner, batch_sizes
from serving.runtime.host import Runner
from serving.runtime.kernels import Kernels
from serving.runtime.native_cuda.runner import NativeRunner
from serving.runtime.onnx import Device, GraphFiles, open_fixed_graph_session, open_graph_session
from tests.cuda.standin import is_standin
from tests.serving.running import serve
from tests.serving.runtime.runs import (
    FILTERED,
    PLAIN,
    assert_same_bits,
    random_run,
    result_rows,
    rows_of,
    state_rows,
)
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import DECODE, UNROLLED
from unroll.errors import BundleError
from unroll.options import GenerateOptions

pytestmark = pytest.mark.cuda

CAPACITY = 20
SIZES = [1, 2, 4, 8, 16, 20]  # of batches
# fp32 with TF32 off: sums of 512 products in other orders than the CPU's, fed back for some steps.
CLOSE = 1e-4
INFO, ERROR = 1, 3


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have these sizes, as a larger runner has some of 64 and more."""
    monkeypatch.setattr(device, "SMALLEST", 1)
    assert batch_sizes(CAPACITY) == SIZES


NewRunner = Callable[[Bundle, int], Runner]


@pytest.fixture(params=Kernels, ids=lambda kernels: kernels.value)
def new_runner(request: pytest.FixtureRequest, cuda: None) -> NewRunner:
    """What makes a runner, by ONNX Runtime or by the native loop."""
    if request.param is Kernels.ONNX:
        return lambda bundle, capacity: DeviceRunner(bundle, Device.CUDA, capacity)
    request.getfixturevalue("native_loop")
    return lambda bundle, capacity: NativeRunner(bundle, Decoder(bundle, Device.CPU), capacity)


def run(runner: Runner, call: LoopRun, state: State) -> LoopResult:
    """Run a call from a state, rows in the first slots."""
    rows = range(len(call.tokens))
    for row in rows:
        runner.load(row, {name: tensor[:, row] for name, tensor in state.items()})
    written = runner.run(list(rows), call)
    after = [runner.read(row) for row in rows]
    return LoopResult(
        tokens=written.tokens,
        log_probs=written.log_probs,
        state={name: np.stack([one[name] for one in after], axis=1) for name in state},
    )


def a_run(bundle: Bundle, rows: int, steps: int) -> tuple[LoopRun, State]:
    """Rows of all kinds in the middle of their texts."""
    sampling = [(PLAIN + FILTERED)[row % 9] for row in range(rows)]
    decoder = Decoder(bundle, Device.CPU)
    return random_run(decoder, len(bundle.vocabulary), steps, sampling)


@pytest.fixture
def told() -> Iterator[None]:
    """Have ONNX Runtime tell when it captures and replays."""
    ort.set_default_logger_severity(INFO)
    yield
    ort.set_default_logger_severity(ERROR)


@pytest.mark.usefixtures("told")
def test_calls_replay_captured_graphs(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    runner = DeviceRunner(bundle, Device.CUDA, CAPACITY)
    call, state = a_run(bundle, 3, 41)
    run(runner, call, state)
    capfd.readouterr()
    runner.run([0, 1, 2], call)
    said = capfd.readouterr().err
    assert said.count("Replaying CUDA graph") == 6  # five pieces of 8 and one of 1
    assert "Capturing" not in said


def test_tf32_is_off_and_capture_is_on(bundle: Bundle) -> None:
    for graph_session, captures in (
        (open_graph_session(GraphFiles.of(bundle, DECODE), Device.CUDA, 1), "0"),
        (open_fixed_graph_session(GraphFiles.of(bundle, UNROLLED[0].name), Device.CUDA, 1), "1"),
    ):
        assert graph_session.get_providers()[0] == Device.CUDA.provider
        options = graph_session.get_provider_options()[Device.CUDA.provider]
        assert (options["use_tf32"], options["enable_cuda_graph"]) == ("0", captures)


def test_graph_with_nodes_on_the_host_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="cannot load it"):
        open_fixed_graph_session(GraphFiles.of(bundle, DECODE), Device.CUDA, 1)


def test_device_is_near_the_cpu(
    bundle: Bundle, large_bundle: Bundle, new_runner: NewRunner
) -> None:
    for one in (bundle, large_bundle):
        call, state = a_run(one, 7, 29)
        call.forced[:] = np.maximum(call.forced, 0)  # no choice that rounding could tip
        expected = Decoder(one, Device.CPU).run(call, state)
        result = run(new_runner(one, CAPACITY), call, state)
        np.testing.assert_array_equal(result.tokens, expected.tokens)
        np.testing.assert_allclose(result.log_probs, expected.log_probs, rtol=CLOSE, atol=CLOSE)
        for name, tensor in expected.state.items():
            scale = max(1.0, float(np.abs(tensor).max()))
            np.testing.assert_allclose(result.state[name] / scale, tensor / scale, atol=CLOSE)


@pytest.mark.parametrize("rows", SIZES)
def test_row_is_the_same_wherever_it_stands_in_batches_of_a_size(
    large_bundle: Bundle, rows: int, new_runner: NewRunner
) -> None:
    runner = new_runner(large_bundle, CAPACITY)
    call, state = a_run(large_bundle, rows, 40)
    whole = run(runner, call, state)
    for turn in (1, rows // 2, rows - 1):
        order = np.roll(np.arange(rows), turn)
        turned = run(runner, rows_of(call, order), state_rows(state, order))
        assert_same_bits(turned, result_rows(whole, order))


def test_neighbours_and_padding_change_no_bit(large_bundle: Bundle, new_runner: NewRunner) -> None:
    runner = new_runner(large_bundle, CAPACITY)
    call, state = a_run(large_bundle, 16, 40)
    whole = run(runner, call, state)
    for rows in ([3, 0, 9, 14, 11, 12, 13, 5, 1], list(range(4, 15))):  # 9 and 11 in a batch of 16
        some = run(runner, rows_of(call, rows), state_rows(state, rows))
        assert_same_bits(some, result_rows(whole, rows))


def test_text_is_the_same_in_batches_of_every_size(
    large_bundle: Bundle, new_runner: NewRunner
) -> None:
    runner = new_runner(large_bundle, CAPACITY)
    call, state = a_run(large_bundle, CAPACITY, 200)
    call = replace(call, forced=np.full_like(call.forced, FREE))
    whole = run(runner, call, state)
    for rows in SIZES:
        some = run(runner, rows_of(call, slice(rows)), state_rows(state, slice(rows)))
        np.testing.assert_array_equal(some.tokens, whole.tokens[:, :rows])
        np.testing.assert_allclose(some.log_probs, whole.log_probs[:, :rows], atol=CLOSE)


def test_up_to_64_slots_the_number_of_rows_changes_no_bit(
    large_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, new_runner: NewRunner
) -> None:
    monkeypatch.setattr(device, "SMALLEST", SMALLEST)
    runner = new_runner(large_bundle, 64)
    call, state = a_run(large_bundle, 64, 40)
    whole = run(runner, call, state)
    for rows in ([3], [63, 0, 9], list(range(33))):
        some = run(runner, rows_of(call, rows), state_rows(state, rows))
        assert_same_bits(some, result_rows(whole, rows))


def test_cuts_and_repeats_change_no_bit(bundle: Bundle, new_runner: NewRunner) -> None:
    runner = new_runner(bundle, CAPACITY)
    T = 75
    call, state = a_run(bundle, 5, T)
    whole = run(runner, call, state)
    assert_same_bits(run(runner, call, state), whole)
    for cut in (1, 7, 40, 64):
        for row in range(5):
            runner.load(row, {name: tensor[:, row] for name, tensor in state.items()})
        tokens = call.tokens
        for t in range(0, T, cut):
            forced, uniform = call.forced[t : t + cut], call.uniform[t : t + cut]
            part = replace(
                call, tokens=tokens, forced=forced, uniform=uniform, steps=call.steps - t
            )
            written = runner.run(list(range(5)), part)
            tokens = written.tokens[-1]
            np.testing.assert_array_equal(written.tokens, whole.tokens[t : t + cut])
            np.testing.assert_array_equal(written.log_probs, whole.log_probs[t : t + cut])
        for row in range(5):
            for name, tensor in runner.read(row).items():
                np.testing.assert_array_equal(tensor, whole.state[name][:, row])


def test_other_slots_stay_as_they_are(bundle: Bundle, new_runner: NewRunner) -> None:
    runner = new_runner(bundle, CAPACITY)
    call, state = a_run(bundle, 3, 9)
    run(runner, call, state)
    runner.load(17, {name: tensor[:, 0] for name, tensor in state.items()})
    runner.run([2, 0, 1], call)
    if is_standin() and isinstance(runner, NativeRunner):
        pytest.skip("kernels put its states into their slots")
    for name, tensor in runner.read(17).items():
        np.testing.assert_array_equal(tensor, state[name][:, 0])
    for slot in (3, 16, 18, 19):
        assert all(np.isnan(tensor).all() for tensor in runner.read(slot).values())
    runner.clear(17)
    assert all(np.isnan(tensor).all() for tensor in runner.read(17).values())


def test_first_runs_change_no_state(bundle: Bundle, new_runner: NewRunner) -> None:
    runner = new_runner(bundle, CAPACITY)
    call, state = a_run(bundle, 3, 9)
    before = run(runner, call, state).state
    runner.warm_up()
    for row in range(3):
        for name, tensor in runner.read(row).items():
            np.testing.assert_array_equal(tensor, before[name][:, row])
    if isinstance(runner, DeviceRunner):
        batch: DeviceBatch = runner._batches[CAPACITY]
        assert hasattr(batch._captured, "filtered_True")


def test_what_is_drawn_is_near_the_cpu(large_bundle: Bundle, new_runner: NewRunner) -> None:
    call, state = a_run(large_bundle, 18, 12)
    call = replace(call, forced=np.full_like(call.forced, FREE), steps=np.arange(18) % 13)
    expected = Decoder(large_bundle, Device.CPU).run(call, state)
    result = run(new_runner(large_bundle, CAPACITY), call, state)
    is_made = np.arange(12)[:, None] < call.steps
    np.testing.assert_array_equal(result.tokens[is_made], expected.tokens[is_made])


@pytest.mark.parametrize("kernels", Kernels)
def test_server_writes_on_the_device(
    bundle: Bundle, kernels: Kernels, request: pytest.FixtureRequest
) -> None:
    kind: type[Runner] = DeviceRunner
    if kernels is Kernels.NATIVE:
        request.getfixturevalue("native_loop")
        kind = NativeRunner
    options = GenerateOptions(max_new_symbols=50, seed=7)
    with (
        serve(str(bundle.folder), device=Device.CUDA, kernels=kernels) as running,
        running.client() as client,
    ):
        first, again = (client.generate("abc", options).text for _ in range(2))
        assert first == again
        assert len(first) == 50
        slots = running.server.models.get("").engine.slots
        assert all(isinstance(each.runner, kind) for each in slots)
        assert client.get_model().execution_provider == Device.CUDA.provider
