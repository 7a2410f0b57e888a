"""OpenVINO: one Loop with the sampler inside, as it cannot read the Scan of decode.onnx."""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decode.peers.peer import (
    NotRunError,
    Peer,
    Work,
    Writer,
    needed,
    only_on_cpu,
)
from benchmarks.decode.peers.plain_loop import compile_plain_loop
from export.graph.graph import WeightFile

# Without the precision hint, processors with bf16 would compute in it.
OPTIONS: dict[str, Any] = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}

Feeds = dict[str, NDArray[Any]]
Loop = Callable[[Feeds, int], Feeds]


def whole_loop(work: Work) -> Writer:
    """Write with one Loop over all steps, the sampler inside."""
    run = open_loop(work, {})
    return lambda: run({"uniform": work.uniform}, work.uniform.shape[1])["tokens_out"]


def open_loop(
    work: Work, options: dict[str, Any], *, is_int8: bool = False, is_forced: bool = False
) -> Loop:
    """Load the loop, of plain_loop's kinds; the result runs it from the zero state of so many rows.

    Raises:
        NotRunError: OpenVINO cannot.
    """
    only_on_cpu(work)
    with TemporaryDirectory() as folder:
        file = WeightFile("weights.bin")
        graph = compile_plain_loop(work.weights, file, is_int8=is_int8, is_forced=is_forced)
        file.write(Path(folder))
        path = Path(folder) / "loop.onnx"
        path.write_bytes(graph.SerializeToString())
        request = _open(path, options)

    def run(feeds: Feeds, rows: int) -> Feeds:
        shape = (len(work.weights.layers), rows, work.weights.hidden_size)
        zero = np.zeros(shape, np.float32)
        state = {tensor.input: zero for tensor in work.bundle.manifest.state}
        found = request.infer({**feeds, **state}, share_inputs=True, share_outputs=True)
        return {output.any_name: np.array(tensor) for output, tensor in found.items()}

    return run


def _open(graph: Path, options: dict[str, Any]) -> Any:
    """Load a graph; return the request that runs it."""
    # It reports its use to its makers, from a forked process; not from a benchmark. None means that
    # the module cannot be imported, with which OpenVINO goes on.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    core = needed("openvino").Core()
    try:
        return core.compile_model(str(graph), "CPU", OPTIONS | options).create_infer_request()
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise NotRunError(f"OpenVINO cannot load {graph.name}: {reason}") from error


OPENVINO: Peer = {"one loop": whole_loop}
