"""A runner whose states stay on the device.

    states   (slots + 1, layers, hidden); rows of padding share the last one, which holds NaN
    batches  of 64, 128, 256, ... rows and of all slots; a loop run takes the smallest that it fits
             in

CUDA's libraries choose how they add by the number of rows, so the last bits of a row may differ
between batches of different sizes. Up to 64 slots there is one size, and who else is in the batch
does not change a bit.

A graph gathers the states of a run's rows from their slots and scatters them back, so rows stay
where they are without a copy. For a row of padding no step is made: what it reads is what it
writes. States that come and go are brought to the device by the next loop run: whoever schedules
never waits for the device.
"""

import numpy as np

from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.decoder import LoopRun, State
from serving.runtime.device.batch import WINDOW, DeviceBatch, GraphSessions
from serving.runtime.device.buffer import DeviceBuffer
from serving.runtime.device.weights import DeviceWeights
from serving.runtime.host import Written
from serving.runtime.onnx import Device, open_bundle_graphs, open_fixed_graph_session, require
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import StateTensor, unrolled_among
from unroll.errors import BundleError

SMALLEST = 64  # rows; fewer would hardly be faster


def batch_sizes(capacity: int) -> list[int]:
    """Rows of the loop runs that graphs are captured for: 64, 128, ... and the capacity."""
    sizes = [min(SMALLEST, capacity)]
    while sizes[-1] < capacity:
        sizes.append(min(2 * sizes[-1], capacity))
    return sizes


class DeviceRunner:
    """Keeps the states on a device and runs the unrolled graphs there.

    Args:
        bundle: one exported for CUDA.
        device: where to compute. On the CPU it is as near to HostRunner as sums in another
            order are.
        capacity: how many slots, 1 or more.
        threads: threads of one operator on the CPU.
        weights: those of the unrolled graphs on that device; runners may share them. By default
            its own.

    Raises:
        BundleError: the bundle was not exported for CUDA, or its graphs are not those that its
            manifest describes.
        DeviceError: the device is not there, or cannot run every node.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device,
        capacity: int,
        threads: int = 1,
        weights: DeviceWeights | None = None,
    ) -> None:
        self.capacity = capacity
        self._device = device
        self._weights = weights or unrolled_weights(bundle, device)
        self._graph_sessions = _open_graph_sessions(bundle, device, threads, self._weights)
        self.provider: str = next(iter(self._graph_sessions.values())).get_providers()[0]
        self._tensors = bundle.manifest.state
        self._batches: dict[int, DeviceBatch] = {}
        with CAPTURES.opening():
            self._states = {
                tensor.input: DeviceBuffer(
                    (capacity + 1, *_row_shape(tensor)), tensor.dtype, device
                )
                for tensor in self._tensors
            }
            self._coming = {slot: self._filled(np.nan) for slot in range(capacity + 1)}
            self._bring()

    def load(self, slot: int, state: State | None) -> None:
        """Put a row's state into a slot, each tensor (layers, hidden); None means zero."""
        self._check(slot)
        self._coming[slot] = self._filled(0.0) if state is None else _copied(state)

    def read(self, slot: int) -> State:
        """Copy a slot's state, each tensor (layers, hidden)."""
        self._check(slot)
        if slot in self._coming:
            return _copied(self._coming[slot])
        with CAPTURES.using():
            return {name: buffer.get(slot, 1)[0] for name, buffer in self._states.items()}

    def clear(self, slot: int) -> None:
        """Fill a slot with NaN."""
        self._check(slot)
        self._coming[slot] = self._filled(np.nan)

    def run(self, slots: list[int], run: LoopRun) -> Written:
        """Make a loop run whose row i goes on with the state in slots[i]; keep their new states."""
        for slot in slots:
            self._check(slot)
        size = next(size for size in batch_sizes(self.capacity) if size >= len(slots))
        for captured in (self.capacity, size):  # the largest first
            self._batch(captured).capture(filtered=run.is_filtered)
        batch = self._batch(size)
        with CAPTURES.using():
            self._bring()
            batch.begin(slots, self.capacity, run)
            parts = [batch.run(run, begin) for begin in range(0, len(run.forced), WINDOW)]
        return Written(
            tokens=np.concatenate([part.tokens for part in parts]),
            log_probs=np.concatenate([part.log_probs for part in parts]),
        )

    def warm_up(self) -> None:
        """Capture the graphs of all batch sizes for this thread, lest a loop run wait for it."""
        for size in reversed(batch_sizes(self.capacity)):
            for filtered in (False, True):
                self._batch(size).capture(filtered=filtered)

    def _batch(self, size: int) -> DeviceBatch:
        if size not in self._batches:
            with CAPTURES.opening():
                self._batches[size] = DeviceBatch(
                    size, self._device, self._graph_sessions, self._states, self._tensors
                )
        return self._batches[size]

    def _bring(self) -> None:
        """Copy to the device the states that came since the last loop run."""
        for slot, state in self._coming.items():
            for name, buffer in self._states.items():
                buffer.overwrite(slot, state[name][None])
        self._coming.clear()

    def _filled(self, value: float) -> State:
        return {
            tensor.input: np.full(_row_shape(tensor), value, tensor.dtype)
            for tensor in self._tensors
        }

    def _check(self, slot: int) -> None:
        assert 0 <= slot < self.capacity, (slot, self.capacity)  # the padding's is nobody's


def unrolled_weights(bundle: Bundle, device: Device) -> DeviceWeights:
    """Bring to a device the weights that the unrolled graphs of a bundle read.

    Raises:
        BundleError: the bundle was not exported for CUDA, or a file is not the one that its
            manifest describes.
        DeviceError: this ONNX Runtime was not built for the device.
    """
    require(device)
    kinds = unrolled_among(bundle.manifest.graphs)
    if not kinds:
        raise BundleError(
            f"{bundle.folder}: it has no unrolled graphs: the bundle was not exported for "
            "cuda; export the checkpoint with --device cuda (make export DEVICE=cuda)"
        )
    return DeviceWeights(bundle, [kind.name for kind in kinds], device)


def _open_graph_sessions(
    bundle: Bundle, device: Device, threads: int, weights: DeviceWeights
) -> GraphSessions:
    kinds = unrolled_among(bundle.manifest.graphs)
    opened = open_bundle_graphs(
        bundle,
        [kind.name for kind in kinds],
        lambda files: open_fixed_graph_session(files, device, threads, weights.give),
    )
    return dict(zip(kinds, opened, strict=True))


def _copied(state: State) -> State:
    return {name: tensor.copy() for name, tensor in state.items()}


def _row_shape(tensor: StateTensor) -> tuple[int, int]:
    layers, _, hidden = tensor.shape
    return int(layers), int(hidden)
