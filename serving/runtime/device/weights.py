"""A bundle's weights on a device: one copy for all graph sessions of all workers."""

from collections.abc import Iterable

import numpy as np
import onnxruntime as ort

from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.device.buffer import DeviceBuffer, part_of
from serving.runtime.initializers import Initializer, external_initializers
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import WEIGHTS

ALIGNMENT = 256  # bytes, as CUDA's own allocations have it


class DeviceWeights:
    """The weights that some graphs of a bundle read, each once.

    Args:
        bundle: whose graphs and weights.
        names: of the graphs.
        device: where the weights shall lie.

    Raises:
        BundleError: a file is not the one that the manifest describes.
    """

    def __init__(self, bundle: Bundle, names: Iterable[str], device: Device) -> None:
        self._initializers = {name: external_initializers(bundle.read(name)) for name in names}
        places: dict[tuple[int, int], int] = {}
        size = 0
        for weight in (each for some in self._initializers.values() for each in some):
            if (weight.offset, weight.length) not in places:
                places[weight.offset, weight.length] = size
                size += -(-weight.length // ALIGNMENT) * ALIGNMENT
        data, packed = np.frombuffer(bundle.read(WEIGHTS), np.uint8), np.zeros(size, np.uint8)
        for (offset, length), place in places.items():
            packed[place : place + length] = data[offset : offset + length]
        with CAPTURES.opening():
            self._buffer = DeviceBuffer((size,), np.uint8, device)
            self._buffer.overwrite(0, packed)
        self._values = {
            weight: self._value(weight, places[weight.offset, weight.length])
            for some in self._initializers.values()
            for weight in some
        }

    def give(self, name: str, options: ort.SessionOptions) -> None:
        """Let a graph session read a graph's weights here; they must outlive it."""
        for weight in self._initializers[name]:
            options.add_initializer(weight.name, self._values[weight])

    def _value(self, weight: Initializer, place: int) -> ort.OrtValue:
        return part_of(self._buffer, place, weight.dtype, weight.shape)
