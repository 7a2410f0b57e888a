"""What no decode loop on CUDA can beat: a step's products as one captured graph, and nothing else.

Products of one input are one product there, as wide as all of them: how a loop cuts them is its own
affair. Each step has an input of its own, so that no optimiser makes two steps' products one.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.decode.limits import PRODUCTS, products_of
from export.graph.graph import IR_VERSION, OPSET
from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.device.buffer import DeviceBuffer
from serving.runtime.onnx import Device, GraphFiles, open_fixed_graph_session
from unroll.bundle.folder import Bundle


def captured_products(
    bundle: Bundle, batch: int, steps: int, device: Device
) -> Callable[[], object]:
    """Load the products of a bundle; the result makes them `steps` times for `batch` rows."""
    graph = _compile(wide_weights(bundle), steps)
    files = GraphFiles(path=bundle.folder, graph=graph.SerializeToString())
    graph_session = open_fixed_graph_session(files, device, 1)
    binding = graph_session.io_binding()
    held = []
    for bind, tensors in (
        (binding.bind_ortvalue_input, graph_session.get_inputs()),
        (binding.bind_ortvalue_output, graph_session.get_outputs()),
    ):
        for tensor in tensors:
            dtype = np.float16 if tensor.type == "tensor(float16)" else np.float32
            held.append(DeviceBuffer((batch, tensor.shape[1]), dtype, device))
            bind(tensor.name, held[-1].value)
    with CAPTURES.capturing():
        graph_session.run_with_iobinding(binding)

    def make(held: list[DeviceBuffer] = held) -> None:
        graph_session.run_with_iobinding(binding)

    return make


def wide_weights(bundle: Bundle) -> list[NDArray[Any]]:
    """Join the weights of a step's products that read the same input, each (outputs, inputs)."""
    products = products_of(bundle)
    arrays = {
        tensor.name: numpy_helper.to_array(tensor, str(bundle.folder))
        for tensor in products.weights
    }
    of_input: dict[str, list[NDArray[Any]]] = defaultdict(list)
    for node in products.nodes:
        of_input[node.input[0]].append(arrays[node.input[PRODUCTS[node.op_type]]])
    return [np.concatenate(weights) for weights in of_input.values()]


def _compile(weights: list[NDArray[Any]], steps: int) -> onnx.ModelProto:
    nodes, inputs, outputs = [], [], []
    for step in range(steps):
        for index, weight in enumerate(weights):
            kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
            columns, depth = weight.shape
            x, y = f"x{index}_{step}", f"y{index}_{step}"
            nodes.append(helper.make_node("Gemm", [x, f"W{index}"], [y], transB=1))
            inputs.append(helper.make_tensor_value_info(x, kind, ["batch", depth]))
            outputs.append(helper.make_tensor_value_info(y, kind, ["batch", columns]))
    initializers = [numpy_helper.from_array(w, f"W{index}") for index, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "products", inputs, outputs, initializers)
    return helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
