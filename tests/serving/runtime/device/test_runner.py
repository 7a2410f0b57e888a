"""A runner with its states on a device is a runner: same texts, whatever comes in what order."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.decoder import Decoder, State
from serving.runtime.device import runner as device
from serving.runtime.device.batch import WINDOW, pieces_of
from serving.runtime.device.buffer import DeviceBuffer
from serving.runtime.device.runner import DeviceRunner, batch_sizes
from serving.runtime.host import HostRunner
from serving.runtime.onnx import Device
from tests.serving.engine.harness import Reader, alone, request, running
from tests.serving.running import PATIENCE
from tests.serving.runtime.runs import FILTERED, PLAIN, random_run
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import MANIFEST, UNROLLED
from unroll.errors import BundleError

pytestmark = pytest.mark.slow

CAPACITY = 5


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have batches of 1, 2, 4 and 5, as a larger runner has some of 64, 128, ..."""
    monkeypatch.setattr(device, "SMALLEST", 1)


CLOSE = 1e-4  # sums of a few products in another order, fed back for some 130 steps


@pytest.fixture(params=CELLS)
def bundle(request: pytest.FixtureRequest, cuda_bundles: dict[Cell, Path]) -> Bundle:
    """A bundle of each cell."""
    return load_bundle(cuda_bundles[request.param])


def assert_close(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Compare, relative to the greatest magnitude, NaN for NaN."""
    scale = float(np.nanmax(np.abs(expected), initial=1.0))
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=CLOSE)


def pool(runner: DeviceRunner) -> dict[str, NDArray[np.float32]]:
    """Look at all slots, that of padding included, each tensor (slots + 1, layers, hidden)."""
    runner._bring()
    return {name: np.array(buffer.value.numpy()) for name, buffer in runner._states.items()}


class RunnerMachine(RuleBasedStateMachine):
    """A runner on a device beside one on the host."""

    def __init__(self, bundle: Bundle, runner: DeviceRunner) -> None:
        super().__init__()
        self.vocabulary_size = len(bundle.vocabulary)
        self.decoder = Decoder(bundle, Device.CPU)
        self.host = HostRunner(self.decoder, CAPACITY)
        self.device = runner
        for slot in range(CAPACITY):
            self.device.clear(slot)

    @rule(slot=st.integers(0, CAPACITY - 1), seed=st.none() | st.integers(0, 99))
    def load(self, slot: int, seed: int | None) -> None:
        """A sequence comes."""
        state: State | None = None
        if seed is not None:
            random = np.random.default_rng(seed)
            state = {
                name: random.uniform(-1, 1, zero[:, 0].shape).astype(np.float32)
                for name, zero in self.decoder.zero_state(1).items()
            }
        self.host.load(slot, state)
        self.device.load(slot, state)

    @rule(slot=st.integers(0, CAPACITY - 1))
    def clear(self, slot: int) -> None:
        """A sequence goes."""
        self.host.clear(slot)
        self.device.clear(slot)

    @rule(
        slots=st.permutations(range(CAPACITY)),
        rows=st.integers(1, CAPACITY),
        steps=st.integers(1, 40) | st.integers(WINDOW - 2, 2 * WINDOW + 2),
        shorter=st.lists(st.integers(0, 140), min_size=CAPACITY, max_size=CAPACITY),
        sampling=st.sampled_from([PLAIN, FILTERED, PLAIN + FILTERED]),
    )
    def run(
        self, slots: list[int], rows: int, steps: int, shorter: list[int], sampling: Any
    ) -> None:
        """A call, in which some rows end early and some would go on."""
        for slot in slots[:rows]:  # an operator may make a number of NaN, as ReLU does
            if np.isnan(self.host.read(slot)["h_0"]).any():
                self.load(slot, None)
        chosen = [sampling[row % len(sampling)] for row in range(rows)]
        call, _ = random_run(self.decoder, self.vocabulary_size, steps, chosen)
        call.steps[:] = shorter[:rows]
        expected = self.host.run(slots[:rows], call)
        written = self.device.run(slots[:rows], replace(call, forced=expected.tokens))
        is_alive = np.arange(steps)[:, None] < call.steps
        np.testing.assert_array_equal(written.tokens, expected.tokens)
        assert_close(written.log_probs[is_alive], expected.log_probs[is_alive])

    @invariant()
    def states_are_equal(self) -> None:
        """Slots that hold no sequence hold NaN, on either side, and so does that of padding."""
        for slot in range(CAPACITY):
            expected = self.host.read(slot)
            for name, tensor in self.device.read(slot).items():
                assert_close(tensor, expected[name])
        for slot in range(CAPACITY):  # else small differences would grow from call to call
            if not np.isnan(self.host.read(slot)["h_0"]).any():
                self.device.load(slot, self.host.read(slot))
        for tensor in pool(self.device).values():
            assert np.isnan(tensor[CAPACITY]).all()


def test_device_runner_gives_what_the_host_runner_gives(bundle: Bundle) -> None:
    runner = DeviceRunner(bundle, Device.CPU, CAPACITY)

    class Machine(RunnerMachine):
        def __init__(self) -> None:
            super().__init__(bundle, runner)

    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=15, stateful_step_count=12, deadline=None),
    )


def loaded(bundle: Bundle) -> DeviceRunner:
    """A runner with a state in each slot but the last."""
    runner = DeviceRunner(bundle, Device.CPU, CAPACITY)
    _, states = random_run(
        Decoder(bundle, Device.CPU), len(bundle.vocabulary), 1, PLAIN[: CAPACITY - 1]
    )
    for slot in range(CAPACITY - 1):
        runner.load(slot, {name: tensor[:, slot] for name, tensor in states.items()})
    return runner


def test_first_runs_change_no_state_however_often_they_are_made(bundle: Bundle) -> None:
    runner = loaded(bundle)
    before = pool(runner)
    runner.warm_up()
    for batch in runner._batches.values():
        for kind in UNROLLED:  # what ONNX Runtime does when it captures
            for _ in range(3):
                batch._run(kind)
    for name, tensor in pool(runner).items():
        np.testing.assert_array_equal(tensor, before[name], err_msg=name)
    assert sorted(runner._batches) == batch_sizes(CAPACITY)


def test_largest_batch_is_captured_first(bundle: Bundle) -> None:
    runner = loaded(bundle)
    call, _ = random_run(Decoder(bundle, Device.CPU), len(bundle.vocabulary), 1, PLAIN[:1])
    runner.run([0], call)
    assert list(runner._batches) == [CAPACITY, 1]
    another = loaded(bundle)
    another.warm_up()
    assert list(another._batches) == batch_sizes(CAPACITY)[::-1]


def test_each_thread_makes_its_own_first_runs(bundle: Bundle) -> None:
    call, _ = random_run(Decoder(bundle, Device.CPU), len(bundle.vocabulary), 3, PLAIN[:2])
    here, there = loaded(bundle), loaded(bundle)
    there.run([0, 1], call)
    here.run([0, 1], call)
    runs: list[bool] = []

    def go_on() -> None:
        batch = there._batches[2]
        runs.append(hasattr(batch._captured, "filtered_False"))
        there.run([0, 1], call)
        runs.append(hasattr(batch._captured, "filtered_False"))

    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join()
    here.run([0, 1], call)
    assert runs == [False, True]
    for name, tensor in pool(here).items():
        np.testing.assert_array_equal(pool(there)[name], tensor)


def test_states_come_and_go_while_a_graph_is_captured(bundle: Bundle) -> None:
    runner = loaded(bundle)
    runner._bring()
    read: list[State] = []

    def schedule() -> None:
        runner.load(0, None)
        runner.clear(1)
        read.extend(runner.read(slot) for slot in (0, 1))

    with CAPTURES.capturing():
        thread = threading.Thread(target=schedule, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert len(read) == 2
    after = pool(runner)
    for name in after:
        assert not read[0][name].any()
        assert not after[name][0].any()
        assert np.isnan(read[1][name]).all()
        assert np.isnan(after[name][1]).all()


def test_no_state_is_copied_while_rows_come_and_go(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = loaded(bundle)
    call, _ = random_run(Decoder(bundle, Device.CPU), len(bundle.vocabulary), 11, PLAIN[:2])
    copied: list[DeviceBuffer] = []
    for name in ("overwrite", "get"):
        really = getattr(DeviceBuffer, name)

        def watched(buffer: DeviceBuffer, *arguments: Any, really: Any = really) -> Any:
            copied.append(buffer)
            return really(buffer, *arguments)

        monkeypatch.setattr(DeviceBuffer, name, watched)
    runner.run([0, 1], call)
    copied.clear()
    runner.run([3, 0], call)
    places = runner._batches[2]._places
    names = [next(name for name in places if places[name] is buffer) for buffer in copied]
    # 11 steps are pieces of 8, 1, 1 and 1; forced symbols, random numbers and sampling
    # parameters are those of the call before.
    assert names == ["slots", "tokens", *["start"] * 4, "tokens_out_0", "log_probs_0"]


def test_engine_on_a_device_gives_each_request_what_it_has_alone(bundle: Bundle) -> None:
    decoder, readers = Decoder(bundle, Device.CPU), []
    engine = Engine(
        bundle,
        decoder,
        EngineOptions(slots=3),
        new_runner=lambda slots: DeviceRunner(bundle, Device.CPU, slots),
    )
    asked = [
        request(
            bundle.vocabulary, "bad cab"[:length], 5 + 30 * length, seed=length, sampling=params
        )
        for length, params in enumerate((*PLAIN, *FILTERED)[:7])
    ]
    with running(engine):
        for one in asked:
            readers.append(Reader())
            engine.submit(one, readers[-1])
        outcomes = [reader.wait() for reader in readers]
    for outcome, one in zip(outcomes, asked, strict=True):
        expected = alone(decoder, bundle.vocabulary, one)
        assert (outcome.text, outcome.finish) == (expected.text, expected.finish)
        assert_close(np.array(outcome.log_probs), np.array(expected.log_probs))


LENGTHS = [8, 1]


@pytest.mark.parametrize("steps", range(1, WINDOW + 1))
def test_pieces_make_all_steps_and_only_the_last_makes_more(steps: int) -> None:
    pieces = pieces_of(steps, LENGTHS)
    assert set(pieces) <= set(LENGTHS)
    assert sum(pieces[:-1]) < steps <= sum(pieces) <= WINDOW
    assert sum(pieces) - steps < 8


@pytest.mark.parametrize(
    ("steps", "pieces"),
    [(1, [1]), (6, [1] * 6), (7, [8]), (24, [8] * 3), (25, [8, 8, 8, 1]), (64, [8] * 8)],
)
def test_pieces_are_few(steps: int, pieces: list[int]) -> None:
    assert pieces_of(steps, LENGTHS) == pieces


@pytest.mark.parametrize(
    ("capacity", "sizes"),
    [(1, [1]), (64, [64]), (65, [64, 65]), (256, [64, 128, 256]), (300, [64, 128, 256, 300])],
)
def test_batches_are_of_64_rows_or_more_and_of_one_size_where_that_is_all(
    capacity: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert batch_sizes(capacity) == sizes


def test_bundle_for_the_cpu_is_refused_with_what_to_do(tiny_bundles: dict[Cell, Path]) -> None:
    with pytest.raises(BundleError, match=r"not exported for cuda; .*--device cuda"):
        DeviceRunner(load_bundle(tiny_bundles["gru"]), Device.CPU, CAPACITY)


def damaged(folder: Path, tmp_path: Path, change: Any) -> Path:
    """Copy a bundle and change its manifest."""
    copy = Path(shutil.copytree(folder, tmp_path / "bundle"))
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return copy


def test_bundle_with_some_of_the_unrolled_graphs_is_refused(
    cuda_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    folder = damaged(
        cuda_bundles["gru"], tmp_path, lambda m: m["graphs"].pop("unrolled-8-filtered.onnx")
    )
    with pytest.raises(BundleError, match=r"and, if it was exported for CUDA, all of"):
        load_bundle(folder)


def test_unrolled_graph_other_than_the_manifest_says_is_refused(
    cuda_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    def swap(manifest: Any) -> None:
        manifest["graphs"]["unrolled-8.onnx"]["inputs"].reverse()

    folder = damaged(cuda_bundles["gru"], tmp_path, swap)
    with pytest.raises(BundleError, match=r"unrolled-8\.onnx: its inputs are"):
        DeviceRunner(load_bundle(folder), Device.CPU, CAPACITY)


def test_state_of_an_unrolled_graph_is_by_slots(
    cuda_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    def by_layers(manifest: Any) -> None:
        for spec in manifest["graphs"]["unrolled-8.onnx"]["inputs"]:
            if spec["name"] == "h_0":
                spec["shape"] = [3, "batch", 7]

    folder = damaged(cuda_bundles["gru"], tmp_path, by_layers)
    with pytest.raises(BundleError, match=r"'h_0' of float32 \['slots', 3, 7\]"):
        load_bundle(folder)
