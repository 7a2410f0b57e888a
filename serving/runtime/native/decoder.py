"""A decoder that makes loop runs without filters, automata and alternatives by the native loop."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.decoder import FREE, Decoder, LoopResult, LoopRun, State
from serving.runtime.initializers import read_initializers
from serving.runtime.native.library import LANES, load
from serving.runtime.native.packing import GROUP, pack_decoder, pack_layer, padded
from serving.runtime.native.structures import CELLS, Layer, Model, Run
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import DECODE, WEIGHTS
from unroll.errors import DeviceError

SYMBOLS_AT_MOST = 512  # among more, the graph draws by blocks
PROVED_ROWS, PROVED_STEPS = 9, 12
OUT_OF_MEMORY = "the native loop has not the memory for its rows"


class NativeDecoder(Decoder):
    """As its base, and bit for bit the same: at first, both make a loop run and are compared.

    Args:
        bundle: whose graphs.

    Raises:
        BundleError: a graph is not the one that the manifest describes.
        DeviceError: the native loop is not compiled, cannot run the bundle, or gives other bits.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, Device.CPU)
        if len(bundle.vocabulary) > SYMBOLS_AT_MOST:
            raise DeviceError(
                f"{bundle.folder}: kernels = native: chooses among {SYMBOLS_AT_MOST} symbols at "
                f"most, and the vocabulary has {len(bundle.vocabulary):,}; take --kernels onnx"
            )
        library, instruction_set = load()
        self._function = getattr(library, f"unroll_run_{instruction_set}")
        try:
            self._model, self._held = _describe(bundle, LANES[instruction_set])
        except (KeyError, ValueError, IndexError) as error:
            raise DeviceError(
                f"{bundle.folder}: kernels = native: its graph is not one that they know: {error}; "
                "export it again, or take --kernels onnx"
            ) from error
        self._prove(bundle, instruction_set)

    def run(self, run: LoopRun, state: State) -> LoopResult:
        """Make T steps from a state; threads may do so at the same time."""
        if not run.is_plain or (self.has_read and run.is_read):
            return super().run(run, state)
        return self._run(run, state)

    def _run(self, run: LoopRun, state: State) -> LoopResult:
        T, N = run.forced.shape
        tokens, log_probs = np.empty((T, N), np.int64), np.empty((T, N), np.float32)
        before = {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}
        after = {name: np.empty_like(tensor) for name, tensor in before.items()}
        given: list[NDArray[Any]] = [
            np.ascontiguousarray(run.tokens, np.int64),
            np.ascontiguousarray(run.forced, np.int64),
            np.ascontiguousarray(run.uniform, np.float32),
            np.ascontiguousarray(run.steps, np.int64),
            np.ascontiguousarray(run.temperature, np.float32),
        ]
        described = Run(
            T,
            N,
            *map(_address, given),
            _address(before["h_0"]),
            _address(before.get("c_0")),
            _address(tokens),
            _address(log_probs),
            _address(after["h_0"]),
            _address(after.get("c_0")),
        )
        if self._function(ctypes.byref(self._model), ctypes.byref(described)):
            raise DeviceError(OUT_OF_MEMORY)
        return LoopResult(tokens=tokens, log_probs=log_probs, state=after)

    def _prove(self, bundle: Bundle, instruction_set: str) -> None:
        """Compare a loop run with ONNX Runtime's.

        Raises:
            DeviceError: they differ in a bit.
        """
        run, state = _random_run(self, len(bundle.vocabulary))
        ours, theirs = self._run(run, state), Decoder.run(self, run, state)
        is_alive = np.arange(PROVED_STEPS)[:, None] < run.steps
        pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (ours.tokens[is_alive], theirs.tokens[is_alive]),
            (ours.log_probs[is_alive], theirs.log_probs[is_alive]),
            *((tensor, theirs.state[name]) for name, tensor in ours.state.items()),
        ]
        if any(one.tobytes() != other.tobytes() for one, other in pairs):
            raise DeviceError(
                f"{bundle.folder}: kernels = native: they give other bits than ONNX Runtime on "
                f"this processor ({instruction_set}), so that texts would depend on who shares the "
                "batch; take --kernels onnx"
            )


def _address(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data


def _describe(bundle: Bundle, lanes: int) -> tuple[Model, object]:
    """Pack a bundle's weights; return what the loop is handed, and what must live as long."""
    tensors = read_initializers(bundle.read(DECODE), bundle.read(WEIGHTS))
    summary, sampled = bundle.manifest.model, bundle.vocabulary.sampled_size
    members, depth, hidden = summary.members, summary.layers, summary.hidden_size
    layers = [
        pack_layer(tensors, summary.cell, index, index % depth == 0, lanes)
        for index in range(members * depth)
    ]
    decoder = pack_decoder(tensors, members, lanes)
    is_int8 = decoder.scale is not None
    described = (Layer * len(layers))(
        *(
            Layer(
                _address(layer.x_panels),
                _address(layer.h_panels),
                _address(layer.table),
                _address(layer.bias),
                _address(layer.scale),
                layer.step,
                layer.zero_point,
            )
            for layer in layers
        )
    )
    symbols = len(bundle.vocabulary)
    model = Model(
        described,
        (ctypes.c_void_p * members)(*map(_address, decoder.panels)),
        _address(decoder.bias),
        _address(decoder.scale),
        CELLS.index(summary.cell),
        is_int8,
        len(layers),
        members,
        hidden,
        padded(hidden, lanes),
        padded(hidden, GROUP) if is_int8 else hidden,
        symbols,
        padded(symbols, lanes),
        sampled,
    )
    return model, (layers, decoder)


def _random_run(decoder: Decoder, symbols: int) -> tuple[LoopRun, State]:
    """Describe a loop run of all kinds of rows, in the middle of their texts."""
    random = np.random.default_rng(22)
    T, N = PROVED_STEPS, PROVED_ROWS
    forced = np.where(random.random((T, N)) < 0.2, random.integers(0, symbols, (T, N)), FREE)
    run = LoopRun(
        tokens=random.integers(0, symbols, N),
        forced=forced,
        uniform=random.integers(0, 2**24, (T, N)).astype(np.float32) * np.float32(2.0**-24),
        steps=random.integers(1, T + 1, N),
        temperature=np.resize(np.array([1, 0, 0.7, 1.9], np.float32), N),
        top_k=np.zeros(N, np.int64),
        top_p=np.ones(N, np.float32),
        min_p=np.zeros(N, np.float32),
    )
    state = {
        name: random.uniform(-1, 1, zero.shape).astype(np.float32)
        for name, zero in decoder.zero_state(N).items()
    }
    return run, state
