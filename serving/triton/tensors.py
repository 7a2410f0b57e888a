"""From the protocol's tensors to plain values, and back."""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from serving.triton import inference_pb2 as pb
from serving.triton.request import INPUTS, put
from unroll.errors import InputError, shown

PARAMETERS_AT_MOST = 64
VERSION = "1"
_LENGTH = struct.Struct("<I")
_PACKED: dict[str, Callable[[Any], bytes]] = {
    "BYTES": lambda text: _LENGTH.pack(len(text)) + text,
    "FP32": struct.Struct("<f").pack,
    "UINT32": struct.Struct("<I").pack,
}
_CONTENTS = {
    "BYTES": "bytes_contents",
    "BOOL": "bool_contents",
    "FP32": "fp32_contents",
    "UINT32": "uint_contents",
}
Parameter = bool | int | float | str


def read_values(message: pb.ModelInferRequest) -> dict[str, Any]:
    """Return the values of a request's inputs and parameters, by name.

    Raises:
        InputError: an input or parameter is no such thing; names it.
    """
    raw, count = message.raw_input_contents, len(message.inputs)
    if raw and len(raw) != count:
        raise InputError(
            "raw_input_contents", f"must have one entry for each of {count} inputs, got {len(raw)}"
        )
    if len(message.parameters) > PARAMETERS_AT_MOST:
        raise InputError("parameters", f"must be at most {PARAMETERS_AT_MOST}")
    values: dict[str, Any] = {}
    for index, tensor in enumerate(message.inputs):
        put(values, tensor.name, _value(tensor, raw[index] if raw else None))
    for name, parameter in message.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InputError(name[:100], "must have a value of a kind that this server knows")
        put(values, name, getattr(parameter, kind))
    return values


def _value(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> bool | str:
    name, kind = tensor.name, INPUTS.get(tensor.name)
    if kind is None:
        known = ", ".join(INPUTS)
        raise InputError("inputs", f"has {shown(name)}, which is not an input; known: {known}")
    if tensor.datatype != kind:
        raise InputError(name, f"must be of datatype {kind}, got {shown(tensor.datatype)}")
    if len(tensor.shape) != 1 or tensor.shape[0] != 1:
        raise InputError(name, f"must have the shape [1], got {list(tensor.shape[:8])}")
    if tensor.parameters:
        raise InputError(name, "must have no parameters; its contents are sent in the message")
    if raw is not None:
        if tensor.HasField("contents"):
            raise InputError(name, "has contents beside raw_input_contents; send one of them")
        return _text(name, _element(name, raw)) if kind == "BYTES" else _truth(name, raw)
    contents = getattr(tensor.contents, _CONTENTS[kind])
    if len(contents) != 1:
        raise InputError(
            name,
            f"must have 1 element in {_CONTENTS[kind]}, as its shape says, got {len(contents)}",
        )
    return _text(name, contents[0]) if kind == "BYTES" else bool(contents[0])


def _element(name: str, raw: bytes) -> bytes:
    if len(raw) >= _LENGTH.size and _LENGTH.unpack_from(raw)[0] == len(raw) - _LENGTH.size:
        return raw[_LENGTH.size :]
    raise InputError(
        name, "must be one element: its length in four bytes, little-endian, and itself"
    )


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(name, f"must be in UTF-8: {error.reason} at byte {error.start}") from error


def _truth(name: str, raw: bytes) -> bool:
    if raw not in {b"\0", b"\1"}:
        raise InputError(name, f"must be one byte of 0 or 1, got {len(raw)} bytes")
    return raw == b"\1"


def fill_outputs(
    response: pb.ModelInferResponse, values: Iterable[str | float | int], *, is_raw: bool
) -> None:
    """Give each output of an answer its one element, raw or as contents."""
    for tensor, value in zip(response.outputs, values, strict=True):
        element, kind = value.encode() if isinstance(value, str) else value, tensor.datatype
        if is_raw:
            response.raw_output_contents.append(_PACKED[kind](element))
        else:
            getattr(tensor.contents, _CONTENTS[kind]).append(element)


def write_parameters(response: pb.ModelInferResponse, values: Mapping[str, Parameter]) -> None:
    """Add parameters, each as what it is."""
    for name, value in values.items():
        parameter = response.parameters[name]
        match value:
            case bool():
                parameter.bool_param = value
            case int():
                parameter.int64_param = value
            case float():
                parameter.double_param = value
            case str():
                parameter.string_param = value
