"""OpenVINO: one Loop with the sampler inside, or step.onnx, one step a call.

(It cannot read the Scan of decode.onnx.)
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decode.peers.peer import (
    START,
    NotRunError,
    Peer,
    Tokens,
    Work,
    Writer,
    draw,
    needed,
    only_on_cpu,
)
from benchmarks.decode.peers.plain_loop import compile_plain_loop
from export.graph import WeightFile
from unroll.bundle.manifest import STEP

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
    feeds = {"uniform": work.uniform, **_zero_state(work)}

    def write() -> Tokens:
        return np.array(request.infer(feeds, share_inputs=True, share_outputs=True)["tokens_out"])

    return write


def one_step_a_call(work: Work) -> Writer:
    """Write with step.onnx of fixed shapes and the sampler in numpy."""
    only_on_cpu(work)
    T, N = work.uniform.shape
    tensors = work.bundle.manifest.state
    zero = _zero_state(work)
    shapes = {"tokens": [1, N], **{name: list(tensor.shape) for name, tensor in zero.items()}}
    request = _open(work.bundle.folder / STEP, shapes)

    def write() -> Tokens:
        token = np.full((1, N), START)
        state = zero
        tokens = []
        for t in range(T):
            results = request.infer(
                {"tokens": token, **state}, share_inputs=True, share_outputs=True
            )
            state = {tensor.input: np.array(results[tensor.output]) for tensor in tensors}
            token = draw(results["logits"][0], work.uniform[t])[None]
            tokens.append(token)
        return np.concatenate(tokens)

    return write


def _open(graph: Path, shapes: dict[str, list[int]] | None = None) -> Any:
    """Load a graph, with fixed shapes if any are given; return the request that runs it."""
    # It reports its use to its makers, from a forked process; not from a benchmark. None means that
    # the module cannot be imported, with which OpenVINO goes on.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    core = needed("openvino").Core()
    try:
        model = core.read_model(str(graph))
        if shapes is not None:
            model.reshape(shapes)
        return core.compile_model(model, "CPU", OPTIONS).create_infer_request()
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise NotRunError(f"OpenVINO cannot load {graph.name}: {reason}") from error


def _zero_state(work: Work) -> dict[str, NDArray[np.float32]]:
    shape = (len(work.weights.layers), work.uniform.shape[1], work.weights.hidden_size)
    return {tensor.input: np.zeros(shape, np.float32) for tensor in work.bundle.manifest.state}


OPENVINO = Peer(
    name="openvino",
    setups={"one loop": whole_loop, "step.onnx, one step a call": one_step_a_call},
)
