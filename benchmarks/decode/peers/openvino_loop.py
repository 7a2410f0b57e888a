"""OpenVINO: one Loop with the sampler inside, as it cannot read the Scan of decode.onnx."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.decode.peers.peer import (
    NotRunError,
    Peer,
    Tokens,
    Work,
    Writer,
    needed,
    only_on_cpu,
)
from benchmarks.decode.peers.plain_loop import compile_plain_loop
from export.graph.graph import WeightFile

# Without the precision hint, processors with bf16 would compute in it.
OPTIONS = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}


def whole_loop(work: Work) -> Writer:
    """Write with one Loop over all steps, the sampler inside."""
    only_on_cpu(work)
    with TemporaryDirectory() as folder:
        file = WeightFile("weights.bin")
        graph = compile_plain_loop(work.weights, file)
        file.write(Path(folder))
        path = Path(folder) / "loop.onnx"
        path.write_bytes(graph.SerializeToString())
        request = _open(path)
    shape = (len(work.weights.layers), work.uniform.shape[1], work.weights.hidden_size)
    zero = np.zeros(shape, np.float32)
    feeds = {
        "uniform": work.uniform,
        **{tensor.input: zero for tensor in work.bundle.manifest.state},
    }

    def write() -> Tokens:
        return np.array(request.infer(feeds, share_inputs=True, share_outputs=True)["tokens_out"])

    return write


def _open(graph: Path) -> Any:
    """Load a graph; return the request that runs it."""
    # It reports its use to its makers, from a forked process; not from a benchmark. None means that
    # the module cannot be imported, with which OpenVINO goes on.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    core = needed("openvino").Core()
    try:
        return core.compile_model(str(graph), "CPU", OPTIONS).create_infer_request()
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise NotRunError(f"OpenVINO cannot load {graph.name}: {reason}") from error


OPENVINO: Peer = {"one loop": whole_loop}
