"""Weights on a device: found in the graphs, brought there once, the same numbers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.runtime.device.runner import unrolled_weights
from serving.runtime.initializers import external_initializers
from serving.runtime.onnx import Device
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import STEP, UNROLLED, WEIGHTS


@pytest.fixture(params=CELLS)
def bundle(request: pytest.FixtureRequest, cuda_bundles: dict[Cell, Path]) -> Bundle:
    """A bundle of each cell."""
    return load_bundle(cuda_bundles[request.param])


def test_initializers_are_those_that_onnx_reads(bundle: Bundle) -> None:
    for name in (STEP, *(kind.name for kind in UNROLLED)):
        graph = onnx.load_from_string(bundle.read(name)).graph
        expected = []
        for tensor in graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                external = {entry.key: entry.value for entry in tensor.external_data}
                dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
                place = int(external["offset"]), int(external["length"])
                expected.append((tensor.name, dtype, tuple(tensor.dims), *place))
        found = external_initializers(bundle.read(name))
        assert [(w.name, w.dtype, w.shape, w.offset, w.length) for w in found] == expected
        assert len(found) > 5


def test_initializers_are_found_whichever_way_shapes_are_written() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.INT8, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", WEIGHTS), ("length", "900")):
        tensor.external_data.add(key=key, value=value)
    apart = b"".join(b"\x08" + size for size in (b"\x03", b"\xac\x02"))  # dims 3 and 300
    packed = b"\x0a\x03\x03\xac\x02"
    for dims in (apart, packed):
        graph = b"\x2a" + _sized(dims + tensor.SerializeToString())
        [found] = external_initializers(b"\x3a" + _sized(graph))
        assert (found.shape, found.dtype, found.offset, found.length) == ((3, 300), np.int8, 0, 900)


def _sized(message: bytes) -> bytes:
    assert len(message) < 128
    return bytes([len(message)]) + message


def test_weights_on_the_device_are_those_of_the_file(bundle: Bundle) -> None:
    weights, seen = unrolled_weights(bundle, Device.CPU), set()
    for kind in UNROLLED:
        graph = onnx.load(str(bundle.folder / kind.name)).graph
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        for weight in weights._initializers[kind.name]:
            value = weights._values[weight]
            np.testing.assert_array_equal(
                value.numpy(), numpy_helper.to_array(tensors[weight.name])
            )
            seen.add((weight.offset, weight.length, value.data_ptr()))
    assert len(seen) == len({place[:2] for place in seen}) == len({place[2] for place in seen})
