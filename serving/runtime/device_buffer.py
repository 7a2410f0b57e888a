"""Tensors that stay at one address on a device, and their copies to and from the host."""

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.runtime.onnx import Device

DEVICE_ID = 0


class DeviceBuffer:
    """A tensor on a device, zero at first. Its address never changes, so graphs may capture it.

    Args:
        shape: its shape.
        dtype: its dtype.
        device: where it lies.
        graph_session: any; its bindings are ONNX Runtime's only way to name a part of a tensor.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        device: Device,
        graph_session: ort.InferenceSession,
    ) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._device = device
        self._graph_session = graph_session
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
            binding = self._graph_session.io_binding()
            binding.bind_output(
                self._graph_session.get_outputs()[0].name,
                self._device.value,
                DEVICE_ID,
                self._dtype.type,
                [length, *self._shape[1:]],
                self.value.data_ptr() + start * entry_bytes,
            )
            self._parts[start, length] = binding.get_outputs()[0]
        return self._parts[start, length]
