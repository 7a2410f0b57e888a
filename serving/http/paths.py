"""The routes behind the gate, and what the document tells of each."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, TypedDict

from google.protobuf.descriptor import MethodDescriptor

from serving.engine.models import Models
from serving.http import connect, generate
from serving.http.call import HttpCall
from serving.http.document import ERRORS, PROBES, Operation, document
from serving.http.endpoint import Handle, Refuse
from serving.http.openai import bodies
from serving.http.openai.answers import EVENTS, refuse
from serving.http.openai.completions import Completions
from serving.http.openai.models import Catalogue, read_ids, read_text
from serving.http.openai.request import read
from serving.rpc.gate import LONGEST_MESSAGE
from serving.rpc.servicer import TextGenerationServicer
from serving.runtime.onnx import runtime_name
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE

JSON_BYTES = 3  # for each byte of a message: a symbol of four bytes may be escaped in twelve


class Versions(TypedDict):
    """The versions of the server and its runtime."""

    version: str
    runtime: str


@dataclass(frozen=True, kw_only=True)
class Path:
    """One route behind the gate.

    Attributes:
        name: its path; metrics and logs call it so.
        handle: answers a call.
        most: bytes of a request's body at most: what is longer would take long to parse.
        refuse: answers with an error.
        verb: GET or POST.
        operation: what the document tells of it; None for nothing.
    """

    name: str
    handle: Handle
    most: int = LONGEST_MESSAGE
    refuse: Refuse = connect.refuse
    verb: str = "POST"
    operation: Operation | None = None


def paths(
    models: Models,
    servicer: TextGenerationServicer,
    generation: generate.Generation,
    longest: Mapping[str, int],
) -> list[Path]:
    """List the routes behind the gate.

    Args:
        models: what is served.
        servicer: answers the methods.
        generation: answers clients of Triton.
        longest: bytes of a message, by method, for those that take much.
    """
    found = [
        *_methods(servicer, longest),
        *_openai(models, servicer, JSON_BYTES * longest["Generate"]),
        *_triton(generation, JSON_BYTES * longest["ModelInfer"]),
        Path(
            name="/version",
            handle=_tell_version,
            verb="GET",
            operation=Operation(
                name="version",
                summary="Versions of the server and its runtime.",
                gives=Versions,
                refuses=connect.Failure,
            ),
        ),
    ]
    told = [(path.name, path.verb, path.operation) for path in found if path.operation is not None]
    body = json.dumps(document([*told, *PROBES])).encode()
    return [*found, Path(name="/openapi.json", handle=partial(_tell, body), verb="GET")]


def _methods(servicer: TextGenerationServicer, longest: Mapping[str, int]) -> Iterator[Path]:
    """List those of `unroll.v1`."""
    for each in pb.DESCRIPTOR.services_by_name["TextGenerationService"].methods:
        if each.client_streaming:
            continue  # HTTP/1.1 cannot
        method = connect.Method(each, getattr(servicer, each.name))
        yield Path(
            name=f"/{SERVICE}/{each.name}",
            handle=method.handle,
            most=JSON_BYTES * longest.get(each.name, LONGEST_MESSAGE),
            refuse=method.refuse,
            operation=None if each.server_streaming else _operation(each),
        )


def _operation(method: MethodDescriptor) -> Operation:
    return Operation(
        name=method.name,
        summary=f"{method.name} of {SERVICE}, in the Connect protocol.",
        takes=method.input_type,
        gives=method.output_type,
        refuses=connect.Failure,
        refusals=(*ERRORS, 415),
    )


def _openai(models: Models, servicer: TextGenerationServicer, text: int) -> Iterator[Path]:
    """List those of OpenAI and of vLLM's tokenizers; `text` is the size of a request with one."""
    catalogue, complete = Catalogue(models, servicer.texts), Completions(servicer.texts).handle
    get, post = _makers(refuse, bodies.Refused, text)
    yield post(
        "/v1/completions",
        complete,
        name="complete",
        summary="Continues prompts.",
        takes=read,
        gives=bodies.Completion,
        streams=EVENTS,
    )
    yield get(
        "/v1/models", catalogue.list, name="models", summary="All models.", gives=bodies.ModelList
    )
    yield get(
        "/v1/models/{model:path}",
        catalogue.get,
        name="model",
        summary="One model.",
        gives=bodies.Model,
    )
    for path, handle, summary, takes, gives in (
        ("tokenize", catalogue.tokenize, "Token ids of a text.", read_text, bodies.Tokenized),
        ("detokenize", catalogue.detokenize, "Text of token ids.", read_ids, bodies.Detokenized),
    ):
        yield post(f"/{path}", handle, name=path, summary=summary, takes=takes, gives=gives)
    yield get(
        "/tokenizer_info",
        catalogue.tokenizer_info,
        name="tokenizer",
        summary="What harnesses ask.",
        gives=bodies.TokenizerInfo,
    )


def _triton(generation: generate.Generation, text: int) -> Iterator[Path]:
    """List Triton's; `text` is the size of a request with one."""
    get, post = _makers(generate.refuse, generate.GenerateError, text)
    model = "/v2/models/{model}"
    for verb, handle in (
        ("generate", generation.generate),
        ("generate_stream", generation.generate_stream),
    ):
        yield post(
            f"{model}/{verb}",
            handle,
            name=verb,
            summary="Continues a text, as clients of Triton ask.",
            takes=generate.read_fields,
            gives=generate.Generated,
            streams=EVENTS if verb == "generate_stream" else "",
        )
    for path, told, summary, gives in (
        ("/v2", generation.server, "The server.", generate.ServerMetadata),
        (model, generation.metadata, "What a model takes and gives.", generate.ModelMetadata),
        (f"{model}/config", generation.config, "How a model is run.", generate.ModelConfig),
    ):
        yield get(path, told, name=told.__name__, summary=summary, gives=gives)
    yield Path(name=f"{model}/ready", handle=generation.ready, refuse=generate.refuse, verb="GET")


def _makers(
    refuse: Refuse, refuses: type, text: int
) -> tuple[Callable[..., Path], Callable[..., Path]]:
    """Return what makes a route that is only read, and one that takes up to `text` bytes.

    Both take the route's path, what handles it, and what its Operation says of it.
    """

    def get(path: str, handle: Handle, **told: Any) -> Path:
        operation = Operation(refuses=refuses, **told)
        return Path(name=path, handle=handle, refuse=refuse, verb="GET", operation=operation)

    def post(path: str, handle: Handle, **told: Any) -> Path:
        operation = Operation(refuses=refuses, **told)
        return Path(name=path, handle=handle, refuse=refuse, most=text, operation=operation)

    return get, post


async def _tell(body: bytes, call: HttpCall, _: bytes) -> None:
    await call.answer(200, body)


async def _tell_version(call: HttpCall, _: bytes) -> None:
    told: Versions = {"version": version("unroll"), "runtime": runtime_name()}
    await call.answer(200, json.dumps(told).encode())
