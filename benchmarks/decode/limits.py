"""What no decode loop can beat: reading the weights, and the step's products in the same runtime.

The products are cut out of the bundle's own decode graph, so they have its shapes, its precision
and its layout, and run in a Loop of as many steps, so that a call's overhead is spread as in the
loop. What feeds them there (activations, table rows) is a fixed input here. On CUDA, see
captured_products.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.harness.timing import timed
from export.graph.graph import IR_VERSION, OPSET
from serving.runtime.onnx import Device, GraphFiles, open_graph_session
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import DECODE

# The place of the weights among a product's inputs.
PRODUCTS = {"Gemm": 1, "QGemm": 3}


@dataclass(frozen=True, kw_only=True)
class Products:
    """The matrix products of one step.

    Attributes:
        nodes: in the graph's order.
        weights: the initializers that they read.
        inputs: elem type and width of each tensor that comes from elsewhere in the graph.
    """

    nodes: list[onnx.NodeProto]
    weights: list[TensorProto]
    inputs: dict[str, tuple[int, int]]

    @property
    def weight_bytes(self) -> int:
        """Bytes that a step must read at least."""
        return sum(numpy_helper.to_array(weight).nbytes for weight in self.weights)


def products_of(bundle: Bundle) -> Products:
    """Cut the matrix products of one step out of a bundle's decode graph."""
    graph = onnx.load(str(bundle.folder / DECODE)).graph
    body = next(node.attribute[0].g for node in graph.node if node.op_type == "Scan")
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in body.node if node.op_type in PRODUCTS]
    made = {name for node in nodes for name in node.output}
    weights: dict[str, TensorProto] = {}
    inputs: dict[str, tuple[int, int]] = {}
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in initializers:
                weights[name] = initializers[name]
            elif name and name not in made:
                inputs[name] = _input(node, place, initializers)
    return Products(nodes=nodes, weights=list(weights.values()), inputs=inputs)


def _input(
    node: onnx.NodeProto, place: int, initializers: dict[str, TensorProto]
) -> tuple[int, int]:
    """Elem type and width of a product's input: its left side (place 0) or an addend."""
    weight = initializers[node.input[PRODUCTS[node.op_type]]]
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    columns, depth = weight.dims if transposed else reversed(weight.dims)
    if node.op_type == "Gemm":
        return weight.data_type, columns if place else depth
    return (TensorProto.INT32, columns) if place else (TensorProto.UINT8, depth)


def products_alone(bundle: Bundle, batch: int, steps: int) -> Callable[[], object]:
    """Load the products of a bundle on the CPU; the result makes them so often for so many rows."""
    products = products_of(bundle)
    files = GraphFiles(path=bundle.folder, graph=_compile(products).SerializeToString())
    graph_session = open_graph_session(files, Device.CPU, 1)
    feeds: dict[str, NDArray[Any]] = {"trips": np.array(steps)}
    random = np.random.default_rng(25)
    for name, (kind, width) in products.inputs.items():
        values = random.uniform(-1, 1, (batch, width))
        feeds[name] = _as_type(values, kind)
    return lambda: graph_session.run(None, feeds)


def _as_type(values: NDArray[np.float64], kind: int) -> NDArray[Any]:
    """Bring numbers in (-1, 1) into the range of a type."""
    if kind == TensorProto.FLOAT:
        return values.astype(np.float32)
    if kind == TensorProto.INT32:
        return (values * 1000).astype(np.int32)
    return (values * 127 + 128).astype(np.uint8)


def _compile(products: Products) -> onnx.ModelProto:
    """Write a Loop of the products; their results go nowhere, which no optimiser minds."""
    body = helper.make_graph(
        [
            *products.nodes,
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Identity", ["done"], ["still_done"]),
        ],
        "products",
        [_scalar("t", TensorProto.INT64), _scalar("go_on"), _scalar("done")],
        [_scalar("goes_on"), _scalar("still_done")],
    )
    true = numpy_helper.from_array(np.array(True), "true")
    graph = helper.make_graph(
        [helper.make_node("Loop", ["trips", "", "true"], ["all_done"], body=body)],
        "limit",
        [
            _scalar("trips", TensorProto.INT64),
            *(
                helper.make_tensor_value_info(name, kind, ["batch", width])
                for name, (kind, width) in products.inputs.items()
            ),
        ],
        [_scalar("all_done")],
        [*products.weights, true],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets)


def _scalar(name: str, kind: int = TensorProto.BOOL) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [])


class Reader:
    """Reads a block of memory as fast as one thread can.

    No way of reading was the fastest for every size (Zen 4: the greatest of integers 72 GB/s from
    a block of 3 MB and 40 of 16 MB, a sum 56 and 43), so the faster of two is taken.

    Args:
        size: in bytes, 8 or more; a block that fits the caches is read from there.
    """

    def __init__(self, size: int) -> None:
        floats = torch.zeros(max(1, size // 8) * 2)
        integers = floats.numpy().view(np.int64)
        self.size = integers.nbytes
        ways: list[Callable[[], object]] = [integers.max, floats.sum]
        self.read: Callable[[], object] = min(ways, key=_best_microseconds)

    def gigabytes_per_second(self) -> float:
        """Measure the rate: the best of some repeats."""
        return self.size / _best_microseconds(self.read) / 1e3


def _best_microseconds(way: Callable[[], object]) -> float:
    return min(timed(way) for _ in range(7))
