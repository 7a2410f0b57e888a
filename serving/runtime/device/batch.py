"""Loop runs of one batch size on a device: their inputs, outputs and graphs.

A loop run copies to the device its first symbols, random numbers, steps, slots and sampling
parameters if they are other ones than before. It is made in pieces: each begins where the one
before it ended, with the symbols and states that lie on the device. What they wrote comes back in
one copy.

On CUDA, ONNX Runtime captures a graph in its first run and makes that run several times over. As
states are read and written in one place, the first run is therefore one of no steps, which changes
nothing. Captures belong to the thread that made them. A larger batch may move buffers that ONNX
Runtime keeps for itself, to which captures of smaller ones point: the largest is captured first.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.decoder import FREE, LoopRun
from serving.runtime.device.buffer import DeviceBuffer
from serving.runtime.host import Written
from serving.runtime.onnx import Device
from unroll.bundle.manifest import StateTensor, Unrolled

GraphSessions = dict[Unrolled, ort.InferenceSession]

WINDOW = 64  # steps whose inputs lie on the device at a time
ENOUGH = 0.75  # a piece of which so much is needed beats several shorter ones
NEUTRAL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}  # for rows of padding


def pieces_of(steps: int, lengths: Sequence[int]) -> list[int]:
    """Cut steps into the lengths that there are graphs of; the last may be longer than needed.

    Args:
        steps: 1 to WINDOW.
        lengths: the longest first, 1 last.

    Returns:
        The lengths, WINDOW in sum at most.
    """
    pieces: list[int] = []
    while (left := steps - sum(pieces)) > 0:
        pieces.append(next(n for n in lengths if n <= left or n * ENOUGH < left))
    return pieces


class DeviceBatch:
    """The inputs and outputs of loop runs of at most `size` rows, at fixed places.

    Args:
        size: rows of every loop run, those of padding included.
        device: where the places are.
        graph_sessions: the graphs.
        states: of all slots, (slots, layers, hidden), by the state's input; the last slot is the
            padding's.
        tensors: the names of the states.
    """

    def __init__(
        self,
        size: int,
        device: Device,
        graph_sessions: GraphSessions,
        states: dict[str, DeviceBuffer],
        tensors: list[StateTensor],
    ) -> None:
        self._size = size
        self._graph_sessions = graph_sessions
        self._lengths = [kind.length for kind in graph_sessions if not kind.filtered]

        def place(dtype: Any, *shape: int) -> DeviceBuffer:
            return DeviceBuffer(shape, dtype, device)

        tokens = place(np.int64, size)
        tokens_out = place(np.int64, WINDOW, size)
        log_probs = place(np.float32, WINDOW, size)
        self._places = {
            "slots": place(np.int64, size),
            "start": place(np.int64, 1),
            "tokens": tokens,
            "tokens_n": tokens,
            "forced": place(np.int64, WINDOW, size),
            "uniform": place(np.float32, WINDOW, size),
            "steps": place(np.int64, size),
            "temperature": place(np.float32, size),
            "top_k": place(np.int64, size),
            "top_p": place(np.float32, size),
            "min_p": place(np.float32, size),
            "tokens_out_0": tokens_out,
            "tokens_out": tokens_out,
            "log_probs_0": log_probs,
            "log_probs": log_probs,
            **{tensor.input: states[tensor.input] for tensor in tensors},
            **{tensor.output: states[tensor.input] for tensor in tensors},
        }
        self._bindings = {
            kind: self._bind(graph_session) for kind, graph_session in graph_sessions.items()
        }
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(size))
        self._captured = threading.local()

    def begin(self, slots: list[int], padding_slot: int, run: LoopRun) -> None:
        """Bring to the device what holds for the whole loop run; the graphs must be captured."""
        self._put("slots", self._padded(np.array(slots, np.int64), padding_slot))
        for name, neutral in NEUTRAL.items():
            self._put(name, self._padded(getattr(run, name), neutral))
        self._places["tokens"].overwrite(0, self._padded(run.tokens, 0))

    def run(self, run: LoopRun, begin: int) -> Written:
        """Make the steps of a loop run from `begin` on, WINDOW of them at most."""
        T, N = min(WINDOW, len(run.forced) - begin), run.forced.shape[1]
        window = slice(begin, begin + T)
        self._put("forced", self._padded(run.forced[window], FREE))
        self._put("uniform", self._padded(run.uniform[window], 0.0))
        self._put("steps", self._padded(np.clip(run.steps - begin, 0, T), 0))
        start, filtered = 0, run.is_filtered
        for length in pieces_of(T, self._lengths):
            self._put("start", np.array([start], np.int64))
            self._run(Unrolled(length=length, filtered=filtered))
            start += length
        return Written(
            tokens=self._places["tokens_out"].get(0, T)[:, :N],
            log_probs=self._places["log_probs"].get(0, T)[:, :N],
        )

    def capture(self, *, filtered: bool) -> None:
        """Make the first loop runs on this thread, of no steps; once they are made, do nothing."""
        if hasattr(self._captured, f"filtered_{filtered}"):
            return
        for length in self._lengths:
            with CAPTURES.capturing():
                self._put("steps", np.zeros(self._size, np.int64))
                self._put("start", np.zeros(1, np.int64))
                self._run(Unrolled(length=length, filtered=filtered))
        setattr(self._captured, f"filtered_{filtered}", True)

    def _run(self, kind: Unrolled) -> None:
        self._graph_sessions[kind].run_with_iobinding(self._bindings[kind], self._options)

    def _bind(self, graph_session: ort.InferenceSession) -> Any:
        binding = graph_session.io_binding()
        for tensor in graph_session.get_inputs():
            binding.bind_ortvalue_input(tensor.name, self._places[tensor.name].value)
        for tensor in graph_session.get_outputs():
            binding.bind_ortvalue_output(tensor.name, self._places[tensor.name].value)
        return binding

    def _put(self, name: str, array: NDArray[Any]) -> None:
        self._places[name].put(array)

    def _padded(self, rows: NDArray[Any], neutral: float) -> NDArray[Any]:
        """Add rows of padding, on the last axis."""
        padded = np.full((*rows.shape[:-1], self._size), neutral, rows.dtype)
        padded[..., : rows.shape[-1]] = rows
        return padded
