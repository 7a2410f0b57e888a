"""Triton's routes: `generate` and `generate_stream`, and what its clients ask before."""

from importlib.metadata import version
from typing import NotRequired, TypedDict, cast

from serving.engine.models import Models
from serving.http.call import HttpCall
from serving.http.openai.answers import EVENTS, dumps, event
from serving.http.refusal import Refusal
from serving.rpc.health import Health
from serving.texts.given.fields import Fields, read_object
from serving.triton import inference_pb2 as pb
from serving.triton.faces import PLATFORM, Face, find
from serving.triton.inference import Answer, Inference
from serving.triton.request import TextRequest, check_id, fields_of, put, read
from serving.triton.servicer import EXTENSIONS, is_ready
from serving.triton.tensors import VERSION
from unroll.errors import InputError


class Generated(TypedDict):
    """A text, or a piece of it; the last piece has position, seed and fingerprint."""

    id: NotRequired[str]
    model_name: str
    model_version: str
    text_output: str
    finish_reason: NotRequired[str]
    cumulative_logprob: NotRequired[float]
    num_output_tokens: NotRequired[int]
    position: NotRequired[int]
    seed: NotRequired[int]
    fingerprint: NotRequired[str]


class ServerMetadata(TypedDict):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class Tensor(TypedDict):
    """An input or output."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ConfiguredTensor(TypedDict):
    """An input or output, in a model's configuration."""

    name: str
    data_type: str
    dims: list[int]
    optional: NotRequired[bool]


class ModelConfig(TypedDict):
    """How a model is run."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    model_transaction_policy: dict[str, bool]
    sequence_batching: NotRequired[dict[str, int]]


class GenerateError(TypedDict):
    """An error."""

    error: str


class Generation:
    """Answers Triton's clients over HTTP.

    Args:
        models: what is served.
        health: of the server.
        inference: answers requests for texts.
    """

    def __init__(self, models: Models, health: Health, inference: Inference) -> None:
        self._models = models
        self._health = health
        self._inference = inference

    async def generate(self, call: HttpCall, body: bytes) -> None:
        """Answer with a whole text."""
        face, name, request = self._read(call, body, is_decoupled=False)
        answer = await self._inference.whole(call, request)
        await call.answer(200, dumps(_describe(face, name, request, answer)))

    async def generate_stream(self, call: HttpCall, body: bytes) -> None:
        """Answer with a text's pieces as events."""
        face, name, request = self._read(call, body, is_decoupled=True)
        call.stream_headers = [("content-type", EVENTS), ("cache-control", "no-cache")]
        call.encode = event

        async def send(answer: Answer) -> None:
            await call.write(_describe(face, name, request, answer))

        if request.is_streamed:
            await self._inference.stream(call, request, send)
        else:
            await send(await self._inference.whole(call, request))
        await call.end()

    async def server(self, call: HttpCall, _: bytes) -> None:
        """Describe the server."""
        told: ServerMetadata = {
            "name": PLATFORM,
            "version": version("unroll"),
            "extensions": list(EXTENSIONS),
        }
        await call.answer(200, dumps(told))

    async def metadata(self, call: HttpCall, _: bytes) -> None:
        """Describe a model's inputs and outputs."""
        message = self._find(call).metadata()
        told: ModelMetadata = {
            "name": message.name,
            "versions": list(message.versions),
            "platform": message.platform,
            "inputs": [_tensor(each) for each in message.inputs],
            "outputs": [_tensor(each) for each in message.outputs],
        }
        await call.answer(200, dumps(told))

    async def config(self, call: HttpCall, _: bytes) -> None:
        """Describe how a model is run."""
        message = self._find(call).config()
        told: ModelConfig = {
            "name": message.name,
            "platform": message.platform,
            "backend": message.backend,
            "max_batch_size": message.max_batch_size,
            "input": [_configured(each) | {"optional": each.optional} for each in message.input],
            "output": [_configured(each) for each in message.output],
            "model_transaction_policy": {"decoupled": message.model_transaction_policy.decoupled},
        }
        if message.HasField("sequence_batching"):
            idle = message.sequence_batching.max_sequence_idle_microseconds
            told["sequence_batching"] = {"max_sequence_idle_microseconds": idle}
        await call.answer(200, dumps(told))

    async def ready(self, call: HttpCall, _: bytes) -> None:
        """Answer with 200 if a model can be used, else with 400."""
        is_up = is_ready(self._models, self._health, _name(call))
        await call.answer(200 if is_up else 400, b"")

    def _find(self, call: HttpCall) -> Face:
        face = find(self._models, _name(call))
        call.model = face.model.name
        return face

    def _read(
        self, call: HttpCall, body: bytes, *, is_decoupled: bool
    ) -> tuple[Face, str, TextRequest]:
        """Read a request; `parameters` may hold any of its fields."""
        face, values = find(self._models, _name(call)), read_object("request", body)
        own = Fields(values)
        name, parameters = _own(own)
        rest = {key: value for key, value in values.items() if key not in own.known}
        for key, value in parameters.items():
            put(rest, key, value)
        request = read(face.model.name, fields_of(rest), is_decoupled=is_decoupled)
        face.check(request)
        return face, name, request


def read_fields(fields: Fields) -> None:
    """Read all fields that a request may have, for the document."""
    _own(fields)
    fields.text("sampling_parameters")
    read("", fields, is_decoupled=True)


async def refuse(call: HttpCall, refusal: Refusal) -> None:
    """Answer with an error; a stream that has begun ends with it."""
    error: GenerateError = {"error": refusal.status.message}
    if call.has_begun:
        await call.write_raw(event(error))
        await call.end()
    else:
        await call.answer(refusal.number, dumps(error), headers=refusal.headers)


def _own(fields: Fields) -> tuple[str, dict[str, object]]:
    """Read the fields that HTTP has beside those of all doors: id and parameters."""
    name, parameters = fields.text("id"), fields.get("parameters", {"type": "object"})
    if parameters is not None and not isinstance(parameters, dict):
        raise InputError("parameters", "must be a JSON object")
    return check_id(name), parameters or {}


def _name(call: HttpCall) -> str:
    name: str = call.scope["path_params"]["model"]
    return name


def _describe(face: Face, name: str, request: TextRequest, answer: Answer) -> Generated:
    told = {"id": name} if name else {}
    told |= {"model_name": face.name, "model_version": VERSION}
    return cast(Generated, told | answer.outputs(request) | answer.facts)


def _tensor(message: pb.ModelMetadataResponse.TensorMetadata) -> Tensor:
    return {"name": message.name, "datatype": message.datatype, "shape": list(message.shape)}


def _configured(message: pb.ModelInput | pb.ModelOutput) -> ConfiguredTensor:
    kind = pb.DataType.Name(message.data_type)
    return {"name": message.name, "data_type": kind, "dims": list(message.dims)}
