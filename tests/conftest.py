"""Shared fixtures: real tiny bundles, one a cell, compiled from random weights."""

import gc

gc.disable()  # until all is imported and collected: none of it is garbage, and there is much of it

import os
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import torch

from export.compiler import export
from export.proof.parity import prove
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from tests.graph_sessions import opened_once
from tests.needed import without
from tests.serving.running import RunningServer, serve
from tests.shared import SharedFolders
from training.log.metrics import Metrics
from training.model.model import CELLS, CharRNN, ModelSettings
from training.run.checkpoint import Checkpoint
from training.settings import Cell, TrainingSettings
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.client.client import Client

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

# The same inputs each time, on a slow machine, too; `make fuzz` tries others.
hypothesis.settings.register_profile(
    "steady",
    deadline=None,
    derandomize="UNROLL_FUZZ_INPUTS" not in os.environ,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")

torch.set_num_threads(1)  # on a busy machine, two spend their time waiting for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that two processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Let searches for cycles pass over torch and thousands of tests, which stay to the end."""
    gc.freeze()
    gc.enable()


TINY_SYMBOLS = "\n abcdefgh£"  # V = 11


def tiny_checkpoint(
    cell: Cell,
    *,
    hidden_size: int = 7,
    layers: int = 3,
    members: int = 1,
    symbols: str = TINY_SYMBOLS,
) -> Checkpoint:
    """Make a checkpoint of random weights, large enough that texts are neither flat nor stuck.

    V = 11, E = 5, H = 7 and L = 3 are pairwise distinct, so that a swapped axis cannot pass.
    """
    settings = ModelSettings(
        cell=cell,
        vocabulary_size=len(symbols),
        embedding_size=5,
        hidden_size=hidden_size,
        layers=layers,
        members=members,
    )
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, cell)) + hidden_size)
        model = CharRNN(settings)
        with torch.no_grad():
            model.decoder.weight.mul_(5)
    return Checkpoint(
        model_settings=settings,
        training_settings=TrainingSettings(cell=cell, epochs=1),
        vocabulary=Vocabulary(symbols, "\n"),
        corpus_name="tiny",
        corpus_sha256="0" * 64,
        metrics=Metrics(update=0, epoch=0, training_loss=2.5, validation_loss=2.375, seconds=0.0),
        weights=model.state_dict(),
    )


def export_briefly(checkpoint: Checkpoint, folder: Path, **options: Any) -> Bundle:
    """Export what is proved elsewhere: here, the long text of the proof is shorter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.compiler.prove", partial(prove, long=500))
        return export(checkpoint, folder, **options)


@pytest.fixture(scope="session", autouse=True)
def _graph_sessions() -> Iterator[None]:
    with opened_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_pictures() -> Iterator[None]:
    """Let trainings within this process draw no curves: a picture takes longer than they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.__main__.plot_losses", lambda log, picture: None)
        yield


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    """Give back the signals that a test's server took; a process that is started inherits them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> SharedFolders:
    """What this process makes for the others of the session, and they for it."""
    own = tmp_path_factory.getbasetemp()
    return SharedFolders(own if worker_id == "master" else own.parent)


def _bundles(shared: SharedFolders, name: str, device: Device) -> dict[Cell, Path]:
    def make(folder: Path) -> None:
        for cell in CELLS:
            export(tiny_checkpoint(cell), folder / cell, device=device)

    folder = shared.folder(name, make)
    return {cell: folder / cell for cell in CELLS}


@pytest.fixture(scope="session")
def tiny_bundles(shared: SharedFolders) -> dict[Cell, Path]:
    """One bundle a cell."""
    return _bundles(shared, "bundles", Device.CPU)


@pytest.fixture(scope="session")
def cuda_bundles(shared: SharedFolders) -> dict[Cell, Path]:
    """One bundle a cell, exported for CUDA; they serve on the CPU as well."""
    return _bundles(shared, "cuda_bundles", Device.CUDA)


@pytest.fixture(scope="session")
def shared_server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"small={tiny_bundles['gru']}", str(tiny_bundles["lstm"])) as running:
        yield running


@pytest.fixture(scope="session")
def client(shared_server: RunningServer) -> Iterator[Client]:
    with shared_server.client() as made:
        yield made


@pytest.fixture(scope="module", params=["gru", "lstm"])
def bundle(request: pytest.FixtureRequest, tiny_bundles: dict[Cell, Path]) -> Bundle:
    """A bundle with one state tensor and one with two."""
    return load_bundle(tiny_bundles[request.param])


@pytest.fixture(scope="module")
def decoder(bundle: Bundle) -> Decoder:
    """The bundle's loop."""
    return Decoder(bundle, Device.CPU)


@pytest.fixture(scope="module")  # its event loop would be in the way of other tests'
def browser() -> Iterator["Browser"]:
    """A headless Chromium that is installed on this machine."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        without("no Chromium is installed: apt-get install chromium", "REQUIRE_CHROMIUM")
    with sync_playwright() as playwright:
        # Its sandbox cannot be had as root or in most containers; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        yield browser
        browser.close()
