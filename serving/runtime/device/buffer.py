"""Tensors that stay at one address on a device, and their copies to and from the host."""

from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.runtime.onnx import Device

DEVICE_ID = 0
# An Identity from x to y, as an ONNX file.
IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


class DeviceBuffer:
    """A tensor on a device, zero at first. Its address never changes, so graphs may capture it.

    Args:
        shape: its shape.
        dtype: its dtype.
        device: where it lies.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, device: Device) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self.device = device
        self.value = ort.OrtValue.ortvalue_from_shape_and_type(
            list(shape), self._dtype.type, device.value, DEVICE_ID
        )
        self.value.update_inplace(np.zeros(shape, dtype))
        self._parts: dict[tuple[int, int], ort.OrtValue] = {}
        self._known: NDArray[Any] | None = None  # what put() has put there

    def put(self, array: NDArray[Any]) -> None:
        """Copy the first len(array) entries to the device, unless they are there already.

        For what no graph writes: what is there is known without looking.
        """
        if self._known is None:
            self._known = np.zeros(self._shape, self._dtype)
        known = self._known[: len(array)]
        if not np.array_equal(known, array):
            known[...] = array
            self.overwrite(0, array)

    def overwrite(self, start: int, array: NDArray[Any]) -> None:
        """Copy entries to the device, the first of them to entry `start`."""
        assert array.dtype == self._dtype, (array.dtype, self._dtype)
        assert array.shape[1:] == self._shape[1:], (array.shape, self._shape)
        self._part(start, len(array)).update_inplace(np.ascontiguousarray(array))

    def get(self, start: int, length: int) -> NDArray[Any]:
        """Copy `length` entries from `start` on to the host."""
        return np.array(self._part(start, length).numpy())  # on the CPU, numpy() copies nothing

    def _part(self, start: int, length: int) -> ort.OrtValue:
        """Name some entries; they share the buffer's memory."""
        assert 0 <= start < start + length <= self._shape[0], (start, length, self._shape)
        if length == self._shape[0]:
            return self.value
        if (start, length) not in self._parts:
            entry_bytes = self.value.tensor_size_in_bytes() // self._shape[0]
            self._parts[start, length] = part_of(
                self, start * entry_bytes, self._dtype.type, (length, *self._shape[1:])
            )
        return self._parts[start, length]


def part_of(buffer: DeviceBuffer, start: int, dtype: Any, shape: tuple[int, ...]) -> ort.OrtValue:
    """Name a part of a buffer's memory; it is no longer valid than the buffer.

    Bindings are ONNX Runtime's only way to do so.

    Args:
        buffer: whose memory.
        start: of the part, in bytes.
        dtype: of the tensor that lies there.
        shape: likewise.
    """
    binding = _some_graph_session().io_binding()
    address = buffer.value.data_ptr() + start
    binding.bind_output("y", buffer.device.value, DEVICE_ID, dtype, list(shape), address)
    return binding.get_outputs()[0]


@cache
def _some_graph_session() -> ort.InferenceSession:
    return ort.InferenceSession(IDENTITY, providers=[Device.CPU.provider])
