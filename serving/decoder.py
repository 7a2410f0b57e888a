"""Runs the compiled loop of a bundle: arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError
from serving.manifest import BATCH, DECODE, GraphSpec
from serving.runtime import Device, open_session

State = dict[str, NDArray[np.float32]]
"""Recurrent state by the graph's input name, each (layers, batch, hidden)."""

FREE = -1  # in `forced`: sample this symbol
ONNX_NAME = {"int64": "tensor(int64)", "float32": "tensor(float)"}


@dataclass(frozen=True, kw_only=True)
class DecodeCall:
    """One call of the loop: T steps of N rows.

    Attributes:
        tokens: the last symbol of each row, not yet consumed, (N,).
        forced: the symbol that comes next, or FREE to sample it, (T, N).
        uniform: one number in [0, 1) a symbol, (T, N).
        steps: after how many steps a row keeps its state as it is, (N,); what comes after them
            in the row's tokens means nothing.
        temperature: (N,); see SamplingParams, as for the next three.
        top_k: (N,).
        top_p: (N,).
        min_p: (N,).
        state: before the call.
    """

    tokens: NDArray[np.int64]
    forced: NDArray[np.int64]
    uniform: NDArray[np.float32]
    steps: NDArray[np.int64]
    temperature: NDArray[np.float32]
    top_k: NDArray[np.int64]
    top_p: NDArray[np.float32]
    min_p: NDArray[np.float32]
    state: State


@dataclass(frozen=True, kw_only=True)
class DecodeResult:
    """What a call gave.

    Attributes:
        tokens: the symbols that came, (T, N).
        log_probs: of each under the model, before temperature, (T, N).
        state: after the call, by the input's name; it has consumed all of the row's
            steps but the last symbol.
    """

    tokens: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    state: State


class Decoder:
    """A bundle's decode graph, loaded.

    Args:
        bundle: whose graph.
        device: where to compute.
        threads: threads of one operator on the CPU.

    Raises:
        BundleError: the graph is not the one that the manifest describes.
        DeviceError: the device is not there.
    """

    def __init__(self, bundle: Bundle, device: Device, threads: int = 1) -> None:
        self._session = open_session(bundle.decode_graph, device, threads)
        self._check(bundle, bundle.manifest.graphs[DECODE])
        self._state = bundle.manifest.state
        self._outputs = ["tokens_out", "log_probs", *(tensor.output for tensor in self._state)]
        self.provider: str = self._session.get_providers()[0]

    def zero_state(self, batch: int) -> State:
        """Return the state before any symbol."""
        return {
            tensor.input: np.zeros(
                [batch if size == BATCH else int(size) for size in tensor.shape], tensor.dtype
            )
            for tensor in self._state
        }

    def run(self, call: DecodeCall) -> DecodeResult:
        """Make T steps."""
        feeds = {
            "tokens": call.tokens,
            "forced": call.forced,
            "uniform": call.uniform,
            "steps": call.steps,
            "temperature": call.temperature,
            "top_k": call.top_k,
            "top_p": call.top_p,
            "min_p": call.min_p,
            **call.state,
        }
        tokens, log_probs, *state = self._session.run(self._outputs, feeds)
        names = [tensor.input for tensor in self._state]
        return DecodeResult(
            tokens=tokens, log_probs=log_probs, state=dict(zip(names, state, strict=True))
        )

    def _check(self, bundle: Bundle, described: GraphSpec) -> None:
        for kind, found, specs in (
            ("inputs", self._session.get_inputs(), described.inputs),
            ("outputs", self._session.get_outputs(), described.outputs),
        ):
            actual = [(arg.name, arg.type, list(arg.shape)) for arg in found]
            expected = [(spec.name, ONNX_NAME.get(spec.dtype), spec.shape) for spec in specs]
            if actual != expected:
                raise BundleError(
                    f"{bundle.decode_graph}: its {kind} are {actual}, the manifest says {expected}"
                )
