"""A runner whose states stay on the GPU, and whose loop runs are made by the native loop.

States lie in slots, (slots + 1, 1 or 2, layers, hidden): h, then c of an LSTM. The last slot is the
padding's, and holds NaN. Batches have the sizes of DeviceRunner, for its reason: cuBLAS chooses by
the number of rows how to add.
"""

import ctypes
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.decoder import FREE, Decoder, LoopRun, State
from serving.runtime.device.batch import WINDOW, pieces_of
from serving.runtime.device.runner import batch_sizes
from serving.runtime.host import Written
from serving.runtime.native_cuda.library import Made
from serving.runtime.native_cuda.structures import HEAD, Places
from serving.runtime.native_cuda.weights import NativeWeights
from unroll.bundle.folder import Bundle
from unroll.errors import DeviceError

LENGTHS = (32, 8, 1)  # steps of the graphs
NEUTRAL = {"temperature": 1.0, "top_p": 1.0}  # for rows of padding; else 0
PROVED_ROWS, PROVED_STEPS = 9, 8
CLOSE = {"fp32": 1e-3, "fp16": 0.05}  # to the CPU


class NativeRunner:
    """Keeps the states on the GPU and makes loop runs there.

    Args:
        bundle: in fp32 or fp16; it need not be one exported for CUDA.
        decoder: the bundle's, on the CPU; a loop run is compared with it.
        capacity: how many slots, 1 or more.
        weights: the bundle's on the GPU; runners may share them. By default its own.

    Raises:
        BundleError: a file is not the one that the manifest describes.
        DeviceError: there is no GPU, the native loop is not compiled, cannot run the bundle, or
            computes something else than the CPU.
    """

    def __init__(
        self,
        bundle: Bundle,
        decoder: Decoder,
        capacity: int,
        weights: NativeWeights | None = None,
    ) -> None:
        self.capacity = capacity
        weights = weights or NativeWeights(bundle)
        self._names = [tensor.input for tensor in bundle.manifest.state]
        layers, _, hidden = bundle.manifest.state[0].shape
        self._shape = (len(self._names), int(layers), int(hidden))
        self._symbols = len(bundle.vocabulary)
        self._loop = weights.loop
        with CAPTURES.opening():
            self._made = Made(
                self._loop, "runner", weights.made.pointer, capacity, needs=weights.made
            )
        self._batches: dict[int, _Batch] = {}
        CAPTURES.free_apart(self, (self._batches, self._made))
        self._coming = dict.fromkeys(range(capacity + 1), self._filled(np.nan))
        self._prove(bundle, decoder)

    def load(self, slot: int, state: State | None) -> None:
        """Put a row's state into a slot, each tensor (layers, hidden); None means zero."""
        self._check(slot)
        if state is None:
            self._coming[slot] = self._filled(0.0)
        else:
            self._coming[slot] = np.stack([state[name] for name in self._names])

    def read(self, slot: int) -> State:
        """Copy a slot's state, each tensor (layers, hidden)."""
        self._check(slot)
        state = np.empty(self._shape, np.float32)
        if slot in self._coming:
            state[:] = self._coming[slot]
        else:
            with CAPTURES.using():
                self._loop.call("read", self._made.pointer, slot, _pointer(state))
        return dict(zip(self._names, state, strict=True))

    def clear(self, slot: int) -> None:
        """Fill a slot with NaN."""
        self._check(slot)
        self._coming[slot] = self._filled(np.nan)

    def run(self, slots: list[int], run: LoopRun) -> Written:
        """Make a loop run whose row i goes on with the state in slots[i]; keep their new states."""
        for slot in slots:
            self._check(slot)
        batch = self._batch(next(n for n in batch_sizes(self.capacity) if n >= len(slots)))
        with CAPTURES.using():
            self._bring()
            return batch.run(slots, run)

    def warm_up(self) -> None:
        """Capture the graphs of all batch sizes, lest a loop run wait for it."""
        for size in batch_sizes(self.capacity):
            self._batch(size)

    def _batch(self, size: int) -> "_Batch":
        if size not in self._batches:
            with CAPTURES.opening():
                self._batches[size] = _Batch(self._made, size, self.capacity, self._symbols)
        return self._batches[size]

    def _bring(self) -> None:
        """Copy to the device the states that came since the last loop run."""
        if self._coming:
            slots = np.array(list(self._coming), np.int32)
            states = np.stack(list(self._coming.values()))
            self._loop.call(
                "bring", self._made.pointer, len(slots), _pointer(slots), _pointer(states)
            )
            self._coming.clear()

    def _filled(self, value: float) -> NDArray[np.float32]:
        return np.full(self._shape, value, np.float32)

    def _check(self, slot: int) -> None:
        assert 0 <= slot < self.capacity, (slot, self.capacity)  # the padding's is nobody's

    def _prove(self, bundle: Bundle, decoder: Decoder) -> None:
        """Compare a loop run with the CPU's.

        Raises:
            DeviceError: they differ by more than rounding.
        """
        rows = min(PROVED_ROWS, self.capacity)
        run, state = _random_run(decoder, rows, self._symbols)
        for row in range(rows):
            self.load(row, {name: tensor[:, row] for name, tensor in state.items()})
        expected, written = decoder.run(run, state), self.run(list(range(rows)), run)
        after = [self.read(row) for row in range(rows)]
        pairs = [(written.log_probs, expected.log_probs)] + [
            (np.stack([one[name] for one in after], axis=1), expected.state[name])
            for name in self._names
        ]
        scales = [max(1.0, float(np.abs(theirs).max())) for _, theirs in pairs]
        differences = [
            float(np.abs(ours - theirs).max()) / scale
            for (ours, theirs), scale in zip(pairs, scales, strict=True)
        ]
        if not max(differences) <= CLOSE[bundle.manifest.model.precision]:  # NaN is not near
            raise DeviceError(
                f"{bundle.folder}: kernels = native: they are {max(differences):.2g} from what the "
                "CPU computes; take --kernels onnx"
            )
        for row in range(rows):
            self.clear(row)


class _Batch:
    """Loop runs of at most `size` rows: their places and graphs.

    Args:
        runner: whose states.
        size: rows of every loop run, those of padding included.
        padding: the slot of rows of padding.
        symbols: how many there are.
    """

    def __init__(self, runner: Made, size: int, padding: int, symbols: int) -> None:
        places, lengths = Places(), np.array(LENGTHS, np.int32)
        self._loop, self._padding, self._symbols = runner.loop, padding, symbols
        self._made = Made(
            self._loop,
            "batch",
            runner.pointer,
            size,
            WINDOW,
            _pointer(lengths),
            len(lengths),
            after=(ctypes.byref(places),),
            needs=runner,
        )
        given = _at(places.input, (len(HEAD) + 2 * WINDOW) * size)
        self._head = given[: len(HEAD) * size].reshape(len(HEAD), size)
        self._steps = given[len(HEAD) * size :].reshape(WINDOW, 2, size)
        self._written = _at(places.output, 2 * WINDOW * size).reshape(WINDOW, 2, size)

    def run(self, slots: list[int], run: LoopRun) -> Written:
        """Make a loop run."""
        T, N = run.forced.shape
        self._put("slots", np.array(slots), self._padding)
        self._put("top_k", np.minimum(run.top_k, self._symbols), 0)
        for name in ("tokens", "temperature", "top_p", "min_p"):
            self._put(name, getattr(run, name), NEUTRAL.get(name, 0))
        tokens, log_probs = np.empty((T, N), np.int64), np.empty((T, N), np.float32)
        for begin in range(0, T, WINDOW):
            steps = min(WINDOW, T - begin)
            window = slice(begin, begin + steps)
            self._put("steps", np.clip(run.steps - begin, 0, steps), 0)
            self._steps[:steps, 0, :N] = run.forced[window]
            self._steps.view(np.float32)[:steps, 1, :N] = run.uniform[window]
            pieces = np.array(pieces_of(steps, LENGTHS), np.int32)
            self._loop.call(
                "run",
                self._made.pointer,
                int(begin == 0),
                int(begin + steps == T),
                steps,
                _pointer(pieces),
                len(pieces),
            )
            tokens[window] = self._written[:steps, 0, :N]
            log_probs[window] = self._written.view(np.float32)[:steps, 1, :N]
        return Written(tokens=tokens, log_probs=log_probs)

    def _put(self, name: str, values: NDArray[np.generic], neutral: float) -> None:
        """Write a number a row, and what stands for it in rows of padding."""
        row = self._head[HEAD.index(name)]
        if values.dtype.kind == "f":
            row = row.view(np.float32)
        row[: len(values)] = values
        row[len(values) :] = neutral


def _random_run(decoder: Decoder, rows: int, symbols: int) -> tuple[LoopRun, State]:
    """Describe a loop run in the middle of its texts, of symbols that are given.

    The last symbol is the likeliest one, by a temperature of 0 or by a filter: rounding might tip
    other choices, and of two that are as likely, each has the log-probability of the other.
    """
    random = np.random.default_rng(22)
    forced = random.integers(0, symbols, (PROVED_STEPS, rows))
    forced[-1] = FREE
    run = replace(
        LoopRun.plain(
            random.integers(0, symbols, rows), forced, np.zeros(forced.shape, np.float32)
        ),
        temperature=np.arange(rows, dtype=np.float32) % 3,
        top_k=np.ones(rows, np.int64),
    )
    run.top_k[::3] = 0
    state = {
        name: random.uniform(-1, 1, zero.shape).astype(np.float32)
        for name, zero in decoder.zero_state(rows).items()
    }
    return run, state


def _pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _at(address: int, count: int) -> NDArray[np.int32]:
    """Look at memory of the library; it is no longer valid than what it belongs to."""
    return np.ctypeslib.as_array((ctypes.c_int32 * count).from_address(address))
