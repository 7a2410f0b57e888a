"""A decoder that makes loop runs by the native loop."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.decoder import FREE, Automata, Decoder, LoopResult, LoopRun, State
from serving.runtime.initializers import read_initializers
from serving.runtime.likeliest import Likeliest
from serving.runtime.native.library import LANES, load
from serving.runtime.native.packing import GROUP, Tensors, pack_decoder, pack_layer, padded
from serving.runtime.native.structures import CELLS, Layer, Model, Outcome, Run
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import DECODE, DECODE_FILTERED, WEIGHTS
from unroll.errors import DeviceError, InputError

WHOLE_AT_MOST = 512  # symbols; among more, the loop draws by block, as graphs of today do
READ_AT_MOST = 512  # symbols; a graph that reads gathers the logits of more, or leaves them out
PROVED_ROWS, PROVED_STEPS = 18, 12
GIVEN = {  # the fields of a LoopRun in the order in which the loop takes them
    "tokens": np.int64,
    "forced": np.int64,
    "uniform": np.float32,
    "steps": np.int64,
    "temperature": np.float32,
    "top_k": np.int64,
    "top_p": np.float32,
    "min_p": np.float32,
}
RULES = {"bias": np.float32, "next": np.int64, "states": np.int64}  # and of Automata
SAMPLING = (  # temperature, top_k, top_p, min_p
    (1.0, 0, 1.0, 0.0),
    (0.0, 0, 1.0, 0.0),
    (0.7, 0, 1.0, 0.0),
    (1.9, 0, 1.0, 0.0),
    (1.0, 5, 1.0, 0.0),
    (0.9, 0, 0.8, 0.0),
    (1.0, 0, 1.0, 0.1),
    (1.3, 9, 0.7, 0.02),
    (1.1, 0, 0.95, 0.01),
)


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
        library, instruction_set = load()
        self._function = getattr(library, f"unroll_run_{instruction_set}")
        try:
            tensors = read_initializers(bundle.read(DECODE), bundle.read(WEIGHTS))
            if (symbols := self._sampled_size) > WHOLE_AT_MOST:
                tensors[f"blocks_{symbols}"]  # graphs of before draw among all at once
            self._model, self._held = _describe(bundle, tensors, LANES[instruction_set])
            filtered = read_initializers(bundle.read(DECODE_FILTERED), bundle.read(WEIGHTS))
            self._has_filters = "above_all" in filtered  # those of before sum up in another order
        except (KeyError, ValueError, IndexError) as error:
            raise DeviceError(
                f"{bundle.folder}: kernels = native: its graph is not one that they know: {error}; "
                "export it again, or take --kernels onnx"
            ) from error
        self._prove(bundle, instruction_set)

    def run(self, run: LoopRun, state: State) -> LoopResult:
        """Make T steps from a state; threads may do so at the same time."""
        is_left = not self._has_filters and run.is_filtered
        if self._vocabulary_size > READ_AT_MOST and self.has_read:
            is_plain = run.automata is None and not len(run.asking)
            is_left = is_left or (is_plain and run.is_read)
        return super().run(run, state) if is_left else self._run(run, state)

    def _run(self, run: LoopRun, state: State) -> LoopResult:
        (T, N), asking = run.forced.shape, len(run.asking)
        tokens, log_probs = np.empty((T, N), np.int64), np.empty((T, N), np.float32)
        states = None if run.automata is None else np.empty((T, N), np.int64)
        ids = np.zeros((T, asking, run.alternatives), np.int64)
        told = np.zeros(ids.shape, np.float32)
        before = {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}
        after = {name: np.empty_like(tensor) for name, tensor in before.items()}
        given, rules = _arrays(run, GIVEN), _arrays(run.automata, RULES)
        asking_rows = np.ascontiguousarray(run.asking, np.int64)
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
            0 if run.automata is None else len(run.automata.bias),
            *map(_address, rules),
            _address(states),
            asking if run.alternatives else 0,
            run.alternatives,
            _address(asking_rows),
            _address(ids),
            _address(told),
        )
        _check(
            self._function(ctypes.byref(self._model), ctypes.byref(described)),
            run,
            self._vocabulary_size,
        )
        return LoopResult(
            tokens=tokens,
            log_probs=log_probs,
            state=after,
            likeliest=[Likeliest(ids[:, row], told[:, row]) for row in range(asking)],
            automata=states,
        )

    def _prove(self, bundle: Bundle, instruction_set: str) -> None:
        """Compare a loop run with ONNX Runtime's.

        Raises:
            DeviceError: they differ in a bit.
        """
        run, state = _random_run(self, self._vocabulary_size, self._has_filters)
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


def _check(outcome: int, run: LoopRun, symbols: int) -> None:
    """Check what the loop returned.

    Raises:
        InputError: a symbol or an automaton's state does not exist.
        DeviceError: it has not the memory that it needs.
    """
    if outcome == Outcome.NO_SUCH_SYMBOL:
        given = {"tokens": run.tokens, "forced": run.forced}
        for name, ids in given.items():
            if (wrong := ids[(ids >= symbols) | ((ids < 0) & (name == "tokens"))]).size:
                raise InputError(name, f"must be below {symbols}, the symbols, got {wrong[0]}")
        raise InputError("uniform", f"must be 0 or more and less than 1, got {run.uniform.max()}")
    if outcome == Outcome.NO_SUCH_STATE and run.automata is not None:
        known = len(run.automata.bias)
        raise InputError("automata", f"states and what follows them must be 0 to {known - 1}")
    if outcome != Outcome.DONE:
        raise DeviceError(f"the native loop has not the memory for {len(run.tokens)} rows")


def _arrays(
    of: LoopRun | Automata | None, kinds: dict[str, type[Any]]
) -> list[NDArray[Any] | None]:
    """Bring fields into the types that the loop reads; all None where there is nothing."""
    if of is None:
        return [None] * len(kinds)
    return [np.ascontiguousarray(getattr(of, name), kind) for name, kind in kinds.items()]


def _address(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data


def _describe(bundle: Bundle, tensors: Tensors, lanes: int) -> tuple[Model, object]:
    """Pack a bundle's weights; return what the loop is handed, and what must live as long."""
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


def _random_run(decoder: Decoder, symbols: int, is_filtered: bool) -> tuple[LoopRun, State]:
    """Describe a loop run of all kinds of rows, in the middle of their texts."""
    random = np.random.default_rng(22)
    T, N = PROVED_STEPS, PROVED_ROWS
    forced = np.where(random.random((T, N)) < 0.2, random.integers(0, symbols, (T, N)), FREE)
    sampling = np.array(SAMPLING if is_filtered else SAMPLING[:4], np.float32)
    temperature, top_k, top_p, min_p = np.resize(sampling, (N, 4)).T
    run = LoopRun(
        tokens=random.integers(0, symbols, N),
        forced=forced,
        uniform=random.integers(0, 2**24, (T, N)).astype(np.float32) * np.float32(2.0**-24),
        steps=random.integers(1, T + 1, N),
        temperature=temperature,
        top_k=top_k.astype(np.int64),
        top_p=top_p,
        min_p=min_p,
    )
    state = {
        name: random.uniform(-1, 1, zero.shape).astype(np.float32)
        for name, zero in decoder.zero_state(N).items()
    }
    return run, state
