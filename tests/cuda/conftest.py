"""Bundles that have been found to load on a CUDA device."""

import os
from pathlib import Path

import pytest

from serving.runtime.native_cuda import library
from serving.runtime.native_cuda.runner import NativeRunner
from serving.runtime.onnx import Device, GraphFiles, open_graph_session
from tests.conftest import export_briefly, tiny_checkpoint
from tests.cuda.standin import is_standin
from tests.needed import without
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import DECODE
from unroll.errors import DeviceError


@pytest.fixture(scope="session")
def cuda(cuda_bundles: dict[Cell, Path]) -> None:
    """Go on only where there is a device."""
    try:
        # Not a graph for CUDA alone: that one cannot run there must fail, not skip.
        open_graph_session(
            GraphFiles.of(load_bundle(cuda_bundles["gru"]), DECODE), Device.CUDA, threads=1
        )
    except DeviceError as error:
        without(f"there is no CUDA device: {error}", "REQUIRE_CUDA")


@pytest.fixture
def native_loop(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on only where the native loop is compiled; on stand-ins, nothing is proved at a start."""
    if not library.LIBRARY.exists():
        assert not (os.environ.get("REQUIRE_KERNELS") == "1" and library.compiler())
        pytest.skip("`make kernels` was not run, or there is no nvcc")
    if is_standin():
        monkeypatch.setattr(NativeRunner, "_prove", lambda *_: None)


@pytest.fixture(params=CELLS)
def bundle(request: pytest.FixtureRequest, cuda: None, cuda_bundles: dict[Cell, Path]) -> Bundle:
    """A tiny bundle of each cell."""
    return load_bundle(cuda_bundles[request.param])


@pytest.fixture(scope="session")
def large_bundle(cuda: None, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a size at which CUDA's libraries choose among kernels by the batch."""
    folder = tmp_path_factory.mktemp("large") / "gru"
    return export_briefly(tiny_checkpoint("gru", hidden_size=512), folder, device=Device.CUDA)
