"""What must hold on CUDA and needs no arithmetic: captures, memory, placement."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.decode.captured_products import captured_products, wide_weights
from benchmarks.harness.models import random_checkpoint
from export.graph.arithmetic import Precision
from serving.engine.models import Models
from serving.engine.options import EngineOptions
from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.decoder import FREE, Decoder, LoopRun
from serving.runtime.device import runner as device
from serving.runtime.device.runner import DeviceRunner, batch_sizes, unrolled_weights
from serving.runtime.initializers import external_initializers
from serving.runtime.kernels import Kernels
from serving.runtime.native_cuda.runner import LENGTHS, NativeRunner
from serving.runtime.native_cuda.weights import NativeWeights
from serving.runtime.onnx import Device
from tests.conftest import export_briefly, tiny_checkpoint
from tests.cuda.standin import StandIn, find_standin
from tests.serving.engine.harness import Reader, request
from tests.serving.running import PATIENCE, wait_for
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import UNROLLED, Unrolled

pytestmark = pytest.mark.cuda

CAPACITY = 20
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def standin() -> StandIn:
    return find_standin()


@pytest.fixture(autouse=True)
def nothing_breaks_a_capture(standin: StandIn) -> Iterator[None]:
    """Fail a test in which a call ended a capture, whatever else it found."""
    before = standin.violations()
    yield
    assert standin.violations() == before


@pytest.fixture(scope="module")
def deep_bundle(standin: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A GRU of three layers."""
    folder = tmp_path_factory.mktemp("large") / "gru"
    return export_briefly(random_checkpoint("gru-96x3", 66), folder, device=Device.CUDA)


def plain_run(rows: int, steps: int) -> LoopRun:
    return LoopRun.plain(
        np.zeros(rows, np.int64),
        np.full((steps, rows), FREE),
        np.full((steps, rows), np.float32(0)),
    )


def test_call_that_allocates_during_a_capture_is_seen(standin: StandIn) -> None:
    seen = subprocess.run(
        [sys.executable, "-c", BREAKS_A_CAPTURE], capture_output=True, text=True, check=True
    )
    assert seen.stdout.split() == ["0", "1"]


BREAKS_A_CAPTURE = """
import ctypes
from tests.cuda.standin import find_standin
standin, cuda = find_standin(), ctypes.CDLL("libcudart.so.13")
stream, place = ctypes.c_void_p(), ctypes.c_void_p()
cuda.cudaStreamCreate(ctypes.byref(stream))
assert cuda.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(7)) == 0
print(standin.violations())
cuda.cudaStreamBeginCapture(stream, 0)
assert cuda.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(7)) != 0
print(standin.violations())
assert cuda.cudaStreamEndCapture(stream, ctypes.byref(place)) != 0
"""


class Traffic:
    """Requests to models, one after another on a thread each, until they are told to stop."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._stop = threading.Event()
        self.written = dict.fromkeys((model.name for model in models), 0)
        self._threads = [threading.Thread(target=self._write, args=[n]) for n in self.written]

    def _write(self, name: str) -> None:
        while not self._stop.is_set():
            model, reader = self._models.get(name), Reader()
            model.engine.submit(request(model.bundle.vocabulary, "abc", 50, seed=1), reader)
            reader.wait()
            self.written[name] += 1

    @contextmanager
    def going(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(PATIENCE)


@contextmanager
def served(folders: dict[str, Path], **options: Any) -> Iterator[Models]:
    sources = [f"{name}={folder}" for name, folder in folders.items()]
    models = Models.load(
        sources, EngineOptions(device=Device.CUDA, slots=CAPACITY, **options), keep_retired=0
    )
    models.start()
    try:
        yield models
    finally:
        models.close()


def test_models_are_reloaded_under_load(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "SMALLEST", 1)  # more captures
    folders = {name: tmp_path / name for name in ("a", "b")}

    def put(hidden_size: int) -> None:
        for folder in folders.values():
            export_briefly(
                tiny_checkpoint("gru", hidden_size=hidden_size), folder, device=Device.CUDA
            )

    put(7)
    captures = standin.captures()
    with served(folders, workers=2) as models:
        traffic = Traffic(models)
        with traffic.going():
            for hidden_size in (8,):
                wait_for(lambda: all(traffic.written.values()))
                put(hidden_size)
                old = {model.name: model.fingerprint for model in models}
                for dropped in models.reload():
                    dropped.engine.close(drain_seconds=PATIENCE)
                traffic.written = dict.fromkeys(traffic.written, 0)
                assert all(old[model.name] != model.fingerprint for model in models)
            wait_for(lambda: all(traffic.written.values()))
        assert not models.has_failed
    kinds = len(batch_sizes(CAPACITY)) * len(UNROLLED)
    assert standin.captures() - captures > 2 * 2 * kinds  # of two models, loaded and reloaded


def test_loop_runs_of_one_model_go_on_while_another_captures_all_its_sizes(
    cuda_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "SMALLEST", 1)
    running = DeviceRunner(load_bundle(cuda_bundles["gru"]), Device.CUDA, 3)
    running.warm_up()
    runs, is_over = [0], threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            running.run([0, 1, 2], plain_run(3, 9))
            runs[0] += 1

    thread = threading.Thread(target=go_on)
    thread.start()
    wait_for(lambda: runs[0] > 0)
    other = DeviceRunner(load_bundle(cuda_bundles["lstm"]), Device.CUDA, CAPACITY)
    before, captures = runs[0], CAPTURES._made
    other.warm_up()
    made, between = CAPTURES._made - captures, runs[0] - before
    is_over.set()
    thread.join(PATIENCE)
    assert made == len(batch_sizes(CAPACITY)) * len(UNROLLED)
    assert between >= made // 2


def test_graphs_do_not_bring_weights_of_their_own(standin: StandIn, tmp_path: Path) -> None:
    bundle = export_briefly(
        random_checkpoint("rnn_relu-320x3", 66), tmp_path / "rnn", device=Device.CUDA
    )
    read = {
        (weight.offset, weight.length)
        for kind in UNROLLED
        for weight in external_initializers(bundle.read(kind.name))
    }
    once = sum(length for _, length in read)
    assert once > 2 * MEGABYTE
    before = standin.device_bytes()
    weights = unrolled_weights(bundle, Device.CUDA)
    one = DeviceRunner(bundle, Device.CUDA, CAPACITY, weights=weights)
    assert standin.device_bytes() - before < 2 * once
    before = standin.device_bytes()
    another = DeviceRunner(bundle, Device.CUDA, CAPACITY, weights=weights)
    assert standin.device_bytes() - before < 0.5 * once
    del one, another


def test_dropped_models_memory_is_free_again(standin: StandIn, deep_bundle: Bundle) -> None:
    def open_and_drop() -> int:
        runner = DeviceRunner(deep_bundle, Device.CUDA, CAPACITY)
        runner.run([0], plain_run(1, 9))
        return standin.device_bytes()

    first = open_and_drop()
    for _ in range(3):
        assert open_and_drop() < 1.2 * first


@pytest.mark.parametrize("precision", [Precision.FP32])
def test_step_of_a_gru_of_three_layers_takes_25_kernels_at_most(
    standin: StandIn, deep_bundle: Bundle, precision: Precision
) -> None:
    runner = DeviceRunner(deep_bundle, Device.CUDA, CAPACITY)
    batch = runner._batch(CAPACITY)
    nodes = {}
    for length in {kind.length for kind in UNROLLED}:
        with CAPTURES.capturing():
            batch._run(Unrolled(length=length, filtered=False))
        captured = standin.last_capture()
        assert captured.count("cudnnRNNForward") == 3 * length
        nodes[length] = len(captured)
    longest, shortest = max(nodes), min(nodes)
    assert (nodes[longest] - nodes[shortest]) / (longest - shortest) <= 25


@pytest.mark.usefixtures("native_loop")
def test_native_step_of_a_gru_of_three_layers_takes_8_kernels(
    standin: StandIn, deep_bundle: Bundle
) -> None:
    runner = native_runner(deep_bundle)
    captures = standin.captures()
    runner._batch(CAPACITY)
    assert standin.captures() - captures == len(LENGTHS)
    assert LENGTHS[-1] == 1
    nodes = standin.last_capture()
    assert len(nodes) == 3 + 2 + 3  # products of h in one, and of x; the decoder's; kernels
    assert sum("Gemm" in node for node in nodes) == 4


def native_runner(bundle: Bundle, weights: NativeWeights | None = None) -> NativeRunner:
    return NativeRunner(bundle, Decoder(bundle, Device.CPU), CAPACITY, weights)


@pytest.mark.usefixtures("native_loop")
def test_native_loop_runs_go_on_while_others_capture(deep_bundle: Bundle) -> None:
    running, other = native_runner(deep_bundle), native_runner(deep_bundle)
    running.warm_up()
    runs, is_over = [0], threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            running.run([0, 1, 2], plain_run(3, 9))
            runs[0] += 1

    thread = threading.Thread(target=go_on)
    thread.start()
    with CAPTURES.opening():  # as whoever captures has it
        before = runs[0]
        wait_for(lambda: runs[0] > before)
    other.warm_up()
    is_over.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.usefixtures("native_loop")
def test_native_runners_share_weights_and_free_what_they_held(
    standin: StandIn, deep_bundle: Bundle
) -> None:
    def held() -> int:
        gc.collect()
        with CAPTURES.opening():  # what was dropped is freed
            return standin.device_bytes()

    before = held()
    weights = NativeWeights(deep_bundle)
    once = held() - before
    assert once < 4.2 * deep_bundle.manifest.model.parameters  # bytes of each
    one = native_runner(deep_bundle, weights)
    each = held() - before - once
    other = native_runner(deep_bundle, weights)
    assert held() - before == once + 2 * each
    one.warm_up()
    del one, other, weights
    assert held() == before


@pytest.mark.usefixtures("native_loop")
def test_native_models_are_reloaded_under_load_beside_captures_of_the_other_kind(
    cuda_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "SMALLEST", 1)
    with served({"gru": cuda_bundles["gru"]}, workers=2, kernels=Kernels.NATIVE) as models:
        traffic = Traffic(models)
        with traffic.going():
            DeviceRunner(load_bundle(cuda_bundles["lstm"]), Device.CUDA, CAPACITY).warm_up()
            traffic.written = dict.fromkeys(traffic.written, 0)
            native_runner(load_bundle(cuda_bundles["lstm"])).warm_up()
            wait_for(lambda: all(traffic.written.values()))
        assert not models.has_failed


def test_products_of_the_benchmark_are_captured_and_nothing_else(
    standin: StandIn, deep_bundle: Bundle
) -> None:
    steps = 4
    make = captured_products(deep_bundle, 5, steps, Device.CUDA)
    assert len(standin.last_capture()) == steps * len(wide_weights(deep_bundle)) == steps * 6
    launches = standin.launches()
    make()
    assert standin.launches() == launches + 1


def test_opening_graphs_says_nothing(
    cuda_bundles: dict[Cell, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with served({"gru": cuda_bundles["gru"]}):
        pass
    assert capfd.readouterr() == ("", "")


def test_library_that_is_missing_is_named_with_what_brings_it(
    standin: StandIn, cuda_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    folder = Path(os.environ["LD_LIBRARY_PATH"].split(":")[0])
    for missing, advice in (
        ("libcuda.so.1", "NVIDIA's driver is missing"),
        (
            "libcublas.so.13",
            "`pip install -c constraints.txt '.[gpu]'` in a clone of unroll brings them",
        ),
        (
            "libcudnn.so.9",
            "`pip install -c constraints.txt '.[gpu]'` in a clone of unroll brings them",
        ),
    ):
        here = tmp_path / missing
        here.mkdir()
        for library in folder.glob("lib*"):
            if library.name != missing:
                (here / library.name).symlink_to(library)
        done = subprocess.run(
            [sys.executable, "-m", "serving", "--device=cuda", f"--model={cuda_bundles['gru']}"],
            env=os.environ | {"LD_LIBRARY_PATH": str(here)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert f"{missing} cannot be loaded" in done.stderr
        assert advice in done.stderr
        assert len(done.stderr.splitlines()) == 1
