"""The weights of a graph and where they lie, found in the bytes of the ONNX file.

The server does without the package `onnx`, and ONNX Runtime does not tell. Of protobuf's wire
format, what a ModelProto holds on the way to them: https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Numbers of fields, and of types, in onnx.proto.
GRAPH, INITIALIZER = 7, 5
DIMS, DATA_TYPE, NAME, RAW_DATA, EXTERNAL_DATA = 1, 2, 8, 9, 13
KEY, VALUE = 1, 2
DTYPES: dict[int, Any] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
}

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5


@dataclass(frozen=True, kw_only=True)
class Initializer:
    """A weight in the external file.

    Attributes:
        name: of the tensor in the graph.
        dtype: of its numbers.
        shape: of it.
        offset: in the file, in bytes.
        length: likewise.
    """

    name: str
    dtype: Any
    shape: tuple[int, ...]
    offset: int
    length: int


def external_initializers(graph: bytes) -> list[Initializer]:
    """List the weights that an ONNX file leaves to its external file."""
    found = []
    for model in _all(graph, GRAPH):
        for tensor in _all(model, INITIALIZER):
            external = {
                next(_all(entry, KEY)): int(next(_all(entry, VALUE)))
                for entry in _all(tensor, EXTERNAL_DATA)
                if next(_all(entry, KEY)) != b"location"
            }
            if external:
                found.append(_read(tensor, external))
    return found


def read_initializers(graph: bytes, weights: bytes) -> dict[str, NDArray[Any]]:
    """Read the tensors that an ONNX file and its external file hold, by name.

    Raises:
        IndexError, KeyError, StopIteration, ValueError: a file is not whole.
    """
    tensors = {
        each.name: np.frombuffer(
            weights, each.dtype, each.length // each.dtype().nbytes, each.offset
        ).reshape(each.shape)
        for each in external_initializers(graph)
    }
    for model in _all(graph, GRAPH):
        for tensor in _all(model, INITIALIZER):
            for raw in _all(tensor, RAW_DATA):
                small = _read(tensor, {b"length": len(raw)})
                tensors[small.name] = np.frombuffer(raw, small.dtype).reshape(small.shape)
    return tensors


def _read(tensor: bytes, external: dict[bytes, int]) -> Initializer:
    fields = list(_fields(tensor))
    numbers = {number: value for number, value in fields if isinstance(value, int)}
    return Initializer(
        name=next(_all(tensor, NAME)).decode(),
        dtype=DTYPES[numbers[DATA_TYPE]],
        shape=tuple(_dims(fields)),
        offset=external.get(b"offset", 0),
        length=external[b"length"],
    )


def _dims(fields: list[tuple[int, int | bytes]]) -> Iterator[int]:
    """Read what writers of protobuf pack into one field or put into one each."""
    for number, value in fields:
        if number == DIMS and isinstance(value, int):
            yield value
        elif number == DIMS and isinstance(value, bytes):
            at = 0
            while at < len(value):
                size, at = _varint(value, at)
                yield size


def _all(message: bytes, number: int) -> Iterator[bytes]:
    return (value for n, value in _fields(message) if n == number and isinstance(value, bytes))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield each field's number and value."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
        else:
            size = {FIXED_64: 8, FIXED_32: 4}.get(kind, 0)
            if kind == BYTES:
                size, at = _varint(message, at)
            yield number, message[at : at + size]
            at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Read an integer of seven bits a byte; return it and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
