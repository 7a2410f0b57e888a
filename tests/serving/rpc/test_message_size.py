"""A message that would take long to parse is refused by its size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from serving.rpc.gate import LONGEST_MESSAGE
from tests.serving.running import PATIENCE, RunningServer, serve
from tests.unroll.client.stub import ask, connected, refused
from training.settings import Cell
from unroll.v1 import text_generation_pb2 as pb

MANY = 3 * 2**20
REFUSED: dict[str, Callable[[], Message]] = {  # made when they are needed: they are large
    "Generate": lambda: pb.GenerateRequest(prompt="abc", stop=[""] * MANY),
    "StreamGenerate": lambda: pb.GenerateRequest(prompt="abc", stop=[""] * MANY),
    "ForkSession": lambda: pb.ForkSessionRequest(session="a", seeds=range(30_000)),
    "EndSession": lambda: pb.EndSessionRequest(session="a" * LONGEST_MESSAGE),
    "StartSession": lambda: pb.StartSessionRequest(capsule=bytes(MANY)),
    "GetModel": lambda: pb.GetModelRequest(model="a" * LONGEST_MESSAGE),
}


@pytest.mark.parametrize("method", REFUSED)
def test_message_far_longer_than_what_its_method_takes_is_not_parsed(
    shared_server: RunningServer, method: str
) -> None:
    data = REFUSED[method]().SerializeToString()
    with grpc.insecure_channel(shared_server.address) as channel:
        call: Any = channel.unary_stream(f"/unroll.v1.TextGenerationService/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(data, timeout=PATIENCE))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"has {len(data)} bytes; {method} takes " in str(caught.value.details())


def test_longest_prompt_and_score_of_the_widest_symbols_are_read(
    tiny_bundles: dict[Cell, Path],
) -> None:
    wide = "\N{GRINNING FACE}"
    skip = {"unknown_symbols": pb.UNKNOWN_SYMBOLS_SKIP}
    with (
        serve(str(tiny_bundles["gru"]), max_prompt_symbols=600_000) as running,
        connected(running.address) as stub,
    ):
        assert stub.calls.Generate(ask(wide * 600_000, 1, **skip), timeout=PATIENCE).text
        assert stub.score(wide * 999_999 + "a", **skip).log_probs
        with refused("INVALID_FIELD") as refusal:
            stub.generate(wide * 600_001, 1)
        assert refusal.field == "prompt"


def test_stop_strings_by_the_thousand_are_told_by_their_number(
    shared_server: RunningServer,
) -> None:
    with connected(shared_server.address) as stub, refused("INVALID_FIELD") as refusal:
        stub.generate("abc", 5, stop=["a"] * 100_000)
    assert refusal.field == "stop"
