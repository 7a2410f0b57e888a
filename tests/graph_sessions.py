"""Graph sessions that the tests of a process share: ONNX Runtime takes 9 ms to open one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import onnxruntime as ort
import pytest

from export.proof import parity
from serving.runtime import decoder, inspector, probe
from serving.runtime.onnx import Device, GraphFiles, open_graph_session
from unroll.errors import BundleError

KEPT = 256  # some megabytes each


@contextmanager
def opened_once() -> Iterator[None]:
    """Open equal graphs with equal weights once: a run of a graph session leaves it as it was."""
    with pytest.MonkeyPatch.context() as patch:
        for user in (decoder, inspector, probe, parity):
            patch.setattr(user, "open_graph_session", _open)
        yield
    _open_on_cpu.cache_clear()


def _open(files: GraphFiles, device: Device, threads: int) -> ort.InferenceSession:
    if device is Device.CPU and threads == 1:
        with suppress(BundleError):  # which does not name the file
            return _open_on_cpu(files.graph, files.weights)
    return open_graph_session(files, device, threads)


@lru_cache(maxsize=KEPT)
def _open_on_cpu(graph: bytes, weights: bytes) -> ort.InferenceSession:
    files = GraphFiles(path=Path(), graph=graph, weights=weights)
    return open_graph_session(files, Device.CPU, threads=1)
