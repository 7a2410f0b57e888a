"""One seed gives one text: through gRPC, Connect and OpenAI's door, and in this process."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.local.model import LocalModel, load
from tests.serving.http.asking import SERVICE, ask, call
from tests.serving.http.test_connect import envelope, messages
from tests.serving.running import RunningServer, serve
from training.settings import Cell
from unroll.options import GenerateOptions
from unroll.v1 import text_generation_pb2 as pb

PROMPT, SYMBOLS, SEED = "cabbage", 300, 2**63 - 5
SAMPLING = {"temperature": 0.8, "topP": 0.9, "minP": 0.01}
OPTIONS = GenerateOptions(
    max_new_symbols=SYMBOLS, seed=SEED, temperature=0.8, top_p=0.9, min_p=0.01
)
ASKED = {"prompt": PROMPT, "maxNewSymbols": SYMBOLS, "seed": SEED, "sampling": SAMPLING}


@pytest.fixture(scope="module", params=["gru", "lstm"])
def folder(request: pytest.FixtureRequest, tiny_bundles: dict[Cell, Path]) -> Path:
    return tiny_bundles[request.param]


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[LocalModel]:
    with load(folder) as made:
        yield made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with serve(str(folder), http_port=0) as running:
        yield running


def grpc(server: RunningServer) -> str:
    with server.client() as client:
        return client.generate(PROMPT, OPTIONS).text


def grpc_streamed(server: RunningServer) -> str:
    with server.client() as client:
        return "".join(piece.text for piece in client.stream(PROMPT, OPTIONS))


def connect(server: RunningServer) -> str:
    return str(call(server, "Generate", ASKED).json["text"])


def connect_binary(server: RunningServer) -> str:
    sampling = pb.SamplingParams(temperature=0.8, top_p=0.9, min_p=0.01)
    request = pb.GenerateRequest(
        prompt=PROMPT, max_new_symbols=SYMBOLS, seed=SEED, sampling=sampling
    )
    headers = {"content-type": "application/proto"}
    answer = call(server, "Generate", request.SerializeToString(), headers=headers)
    return pb.GenerateResponse.FromString(answer.body).text


def connect_streamed(server: RunningServer) -> str:
    headers = {"content-type": "application/connect+json"}
    answer = ask(server, "POST", f"{SERVICE}StreamGenerate", envelope(ASKED), headers=headers)
    return "".join(message.get("text", "") for _, message in messages(answer.body))


def completion(server: RunningServer, **more: Any) -> bytes:
    sampling = {"temperature": 0.8, "top_p": 0.9, "min_p": 0.01}
    asked = {"prompt": PROMPT, "max_tokens": SYMBOLS, "seed": SEED} | sampling | more
    return ask(server, "POST", "/v1/completions", asked).body


def openai(server: RunningServer) -> str:
    return str(json.loads(completion(server))["choices"][0]["text"])


def openai_streamed(server: RunningServer) -> str:
    events = completion(server, stream=True).decode().split("\n\n")
    pieces = [json.loads(event[6:]) for event in events if event.startswith("data: {")]
    return "".join(piece["choices"][0]["text"] for piece in pieces)


@pytest.mark.parametrize(
    "door",
    [
        *(grpc, grpc_streamed, connect, connect_binary, connect_streamed),
        *(openai, openai_streamed),
    ],
)
def test_text_of_every_door_is_that_of_this_process(
    model: LocalModel, server: RunningServer, door: Callable[[RunningServer], str]
) -> None:
    right = model.generate(PROMPT, OPTIONS).text
    assert len(right) == SYMBOLS
    assert door(server) == right
