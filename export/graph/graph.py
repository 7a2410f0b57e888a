"""A small writer of ONNX graphs: nodes in order, constants once, weights in an external file."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Opset 17 and IR 8 are read by every ONNX Runtime since 1.12 (2022); nothing newer is needed.
OPSET = 17
IR_VERSION = 8
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
ALIGNMENT = 64  # bytes; a cache line, so that a mapped tensor starts on one

Shape = list[int | str]


class WeightFile:
    """The external data of all graphs of a bundle.

    Equal arrays are stored once, and a block of rows refers to the array that it is a view of.
    Arrays are not copied; they must not change before the file is written.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._arrays: list[NDArray[Any]] = []
        self._size = 0
        self._offset_of: dict[bytes, int] = {}

    def add(self, name: str, array: NDArray[Any]) -> TensorProto:
        """Store an array (or find it stored) and return the tensor that refers to it."""
        whole = array.base if isinstance(array.base, np.ndarray) else array
        if not (array.flags.c_contiguous and whole.flags.c_contiguous):
            whole = array = np.ascontiguousarray(array)
        offset = self._store(whole) + array.ctypes.data - whole.ctypes.data
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", self.name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def write(self, folder: Path) -> None:
        """Write the file into the bundle's folder, and let go of the arrays."""
        with (folder / self.name).open("wb") as file:
            for array in self._arrays:
                file.write(bytes(-file.tell() % ALIGNMENT))
                file.write(array.reshape(-1).view(np.uint8).data)
        self._arrays.clear()

    def _store(self, array: NDArray[Any]) -> int:
        digest = hashlib.sha256(array.reshape(-1).view(np.uint8).data).digest()
        if digest not in self._offset_of:
            self._size += -self._size % ALIGNMENT
            self._offset_of[digest] = self._size
            self._arrays.append(array)
            self._size += array.nbytes
        return self._offset_of[digest]


class Graph:
    """One graph under construction; a body shares constants and names with its parent.

    Node and tensor names are counted, so equal calls write equal bytes.
    """

    def __init__(self, name: str, weights: WeightFile, parent: "Graph | None" = None) -> None:
        self.name = name
        self._weights = weights
        self._root: Graph = parent._root if parent else self
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._renamed: dict[str, str] = {}  # tensors that became outputs
        self._count = 0

    def body(self, name: str) -> "Graph":
        """Start a subgraph (of a Loop or an If) that sees this graph's tensors."""
        return Graph(name, self._weights, self)

    def input(self, name: str, dtype: Any, shape: Shape | None) -> str:
        """Declare an input; a body's inputs may leave the shape open."""
        self._inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, tensor: str, name: str, dtype: Any, shape: Shape | None) -> None:
        """Declare `tensor` an output; what computes it now gives it the name `name`.

        A second output of the same tensor is a copy of it.
        """
        if tensor not in self._renamed and any(tensor in node.output for node in self._nodes):
            self._rename(tensor, name)
        else:
            tensor = self._renamed.get(tensor, tensor)
            self._nodes.append(helper.make_node("Identity", [tensor], [name], name=name))
        self._outputs.append(_value_info(name, dtype, shape))

    def _rename(self, tensor: str, name: str) -> None:
        self._renamed[tensor] = name
        for node in self._nodes:
            for names in (node.input, node.output):
                for place, known in enumerate(names):
                    if known == tensor:
                        names[place] = name

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """Place a small constant in the outermost graph, once."""
        array = np.asarray(value, dtype)
        self._root._initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Place a weight in the outermost graph, its bytes in the weight file."""
        if name not in self._root._initializers:
            self._root._initializers[name] = self._weights.add(name, array)
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; return the output's name."""
        return self.ops(kind, *inputs, count=1, **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, count: int, unused: int | None = None, **attributes: Any
    ) -> list[str]:
        """Append a node with `count` outputs; return their names.

        An `unused` one gets no name, so that nothing computes it; it must not be the last.
        """
        self._root._count += 1
        node = f"{kind}_{self._root._count}"
        inputs = tuple(self._renamed.get(name, name) for name in inputs)
        outputs = [f"{node}_out" if count == 1 else f"{node}_out{i}" for i in range(count)]
        if unused is not None:
            outputs[unused] = ""
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=node, **attributes))
        return outputs

    def either(
        self,
        condition: str,
        then: Callable[["Graph"], list[str]],
        otherwise: Callable[["Graph"], list[str]],
    ) -> list[str]:
        """Append what one of two branches gives, floats; only that one is computed."""
        count, protos = 0, []
        for name, branch in (("then", then), ("else", otherwise)):
            body = self.body(name)
            outputs = branch(body)
            for index, tensor in enumerate(outputs):
                body.output(tensor, f"{tensor}_of_{name}{index}", np.float32, None)
            protos.append(body.proto())
            count = len(outputs)
        return self.ops("If", condition, count=count, then_branch=protos[0], else_branch=protos[1])

    def proto(self) -> onnx.GraphProto:
        """Return the finished graph."""
        return helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            list(self._initializers.values()),
        )

    def model(self) -> onnx.ModelProto:
        """Return the finished model."""
        return helper.make_model(
            self.proto(),
            producer_name="unroll",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        )


def _value_info(name: str, dtype: Any, shape: Shape | None) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, shape)
