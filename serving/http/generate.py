"""Triton's routes: `generate` and `generate_stream`, and what its clients ask before."""

import json
from importlib.metadata import version
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from serving.engine.models import Models
from serving.http.call import HttpCall
from serving.http.openai.answers import EVENTS, dumps, event
from serving.http.refusal import Refusal
from serving.rpc.health import Health
from serving.texts.fields import read_object
from serving.triton.faces import PLATFORM, Face, find
from serving.triton.inference import Answer, Inference
from serving.triton.request import TextRequest, put, read
from serving.triton.servicer import EXTENSIONS, is_ready
from serving.triton.tensors import VERSION
from unroll.errors import InputError


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
        told = {"name": PLATFORM, "version": version("unroll"), "extensions": EXTENSIONS}
        await call.answer(200, dumps(told))

    async def metadata(self, call: HttpCall, _: bytes) -> None:
        """Describe a model's inputs and outputs."""
        await _tell(call, self._find(call).metadata())

    async def config(self, call: HttpCall, _: bytes) -> None:
        """Describe how a model is run."""
        await _tell(call, self._find(call).config())

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
        parameters, name = values.pop("parameters", None) or {}, values.pop("id", None) or ""
        if not isinstance(parameters, dict):
            raise InputError("parameters", "must be a JSON object")
        if not isinstance(name, str):
            raise InputError("id", "must be a text")
        for key, value in parameters.items():
            put(values, key, value)
        request = read(face.model.name, values, is_decoupled=is_decoupled)
        face.check(request)
        return face, name, request


async def refuse(call: HttpCall, refusal: Refusal) -> None:
    """Answer with an error; a stream that has begun ends with it."""
    error: dict[str, Any] = {"error": refusal.status.message}
    if call.has_begun:
        await call.write_raw(event(error))
        await call.end()
    else:
        await call.answer(refusal.number, dumps(error), headers=refusal.headers)


def _name(call: HttpCall) -> str:
    name: str = call.scope["path_params"]["model"]
    return name


def _describe(face: Face, name: str, request: TextRequest, answer: Answer) -> dict[str, Any]:
    told = {"id": name} if name else {}
    told |= {"model_name": face.name, "model_version": VERSION}
    return told | answer.outputs(request) | answer.facts


async def _tell(call: HttpCall, message: Message) -> None:
    body = json_format.MessageToDict(message, preserving_proto_field_name=True)
    await call.answer(200, json.dumps(body).encode())
