"""Bare calls of Triton's service, with the messages of its own pool."""

import queue
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from serving.triton import inference_pb2 as pb
from serving.triton.request import INPUTS
from serving.triton.tensors import write_parameters
from tests.serving.running import PATIENCE

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
PATH = f"/{SERVICE.full_name}/"
Metadata = tuple[tuple[str, str], ...]


def raw_bytes(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<I", len(data)) + data


def infer_request(
    model: str,
    prompt: str,
    *,
    is_raw: bool = True,
    outputs: tuple[str, ...] = (),
    request_id: str = "",
    inputs: Mapping[str, bool | str] | None = None,
    **parameters: Any,
) -> pb.ModelInferRequest:
    """Ask without the prompt in the answer, unless `inputs` say else."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    values = {"text_input": prompt, "exclude_input_in_output": True, **(inputs or {})}
    for name, value in values.items():
        tensor = request.inputs.add(name=name, datatype=INPUTS[name], shape=[1])
        if is_raw:
            data = raw_bytes(value) if isinstance(value, str) else bytes([value])
            request.raw_input_contents.append(data)
        elif isinstance(value, str):
            tensor.contents.bytes_contents.append(value.encode())
        else:
            tensor.contents.bool_contents.append(value)
    for name in outputs:
        request.outputs.add(name=name)
    holder = pb.ModelInferResponse()
    write_parameters(holder, parameters)
    for name, parameter in holder.parameters.items():
        request.parameters[name].CopyFrom(parameter)
    return request


def call(channel: grpc.Channel, name: str, request: Any, metadata: Metadata = ()) -> Any:
    """Call a method of one request and one answer."""
    answer = GetMessageClass(SERVICE.methods_by_name[name].output_type)
    made = channel.unary_unary(
        PATH + name, request_serializer=bytes, response_deserializer=answer.FromString
    )
    return made(request.SerializeToString(), timeout=PATIENCE, metadata=metadata)


def outputs_of(response: pb.ModelInferResponse) -> dict[str, str | float | int]:
    """Return an answer's outputs, raw or not, as plain values."""
    found: dict[str, str | float | int] = {}
    for index, tensor in enumerate(response.outputs):
        assert list(tensor.shape) == [1]
        contents = tensor.contents
        raw = response.raw_output_contents[index] if response.raw_output_contents else None
        match tensor.datatype:
            case "BYTES":
                data = contents.bytes_contents[0] if raw is None else raw[4:]
                assert raw is None or raw == raw_bytes(data)
                found[tensor.name] = data.decode()
            case "FP32":
                found[tensor.name] = (
                    contents.fp32_contents[0] if raw is None else struct.unpack("<f", raw)[0]
                )
            case "UINT32":
                found[tensor.name] = (
                    contents.uint_contents[0] if raw is None else struct.unpack("<I", raw)[0]
                )
    return found


def parameters_of(response: pb.ModelInferResponse) -> dict[str, Any]:
    return {
        name: getattr(each, each.WhichOneof("parameter_choice") or "")
        for name, each in response.parameters.items()
    }


class Conversation:
    """One call of ModelStreamInfer: requests are put, answers read.

    Args:
        channel: to the server.
        metadata: of the call.
    """

    def __init__(self, channel: grpc.Channel, metadata: Metadata = ()) -> None:
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        made = channel.stream_stream(
            f"{PATH}ModelStreamInfer",
            request_serializer=bytes,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        self.call = made(iter(self._requests.get, None), timeout=PATIENCE, metadata=metadata)

    def put(self, *requests: pb.ModelInferRequest) -> None:
        for request in requests:
            self._requests.put(request.SerializeToString())

    def read(self) -> pb.ModelStreamInferResponse:
        answer: pb.ModelStreamInferResponse = next(self.call)
        return answer

    def read_final(self) -> list[pb.ModelInferResponse]:
        """Read the answers up to the one that is final."""
        answers: list[pb.ModelInferResponse] = []
        while not answers or not parameters_of(answers[-1])["triton_final_response"]:
            answer = self.read()
            assert not answer.error_message, answer.error_message
            answers.append(answer.infer_response)
        return answers

    def end(self) -> None:
        """Send no more requests."""
        self._requests.put(None)


@contextmanager
def conversation(channel: grpc.Channel, metadata: Metadata = ()) -> Iterator[Conversation]:
    made = Conversation(channel, metadata)
    try:
        yield made
    finally:
        made.end()
        made.call.cancel()
