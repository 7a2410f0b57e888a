"""Bare calls of the service, for tests of the contract itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from tests.serving.running import PATIENCE
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub

SEED = 7


class Stub:
    """The calls, with a deadline each.

    Args:
        channel: to the server.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self.calls = TextGenerationServiceStub(channel)

    def generate(self, prompt: str, new: int, **others: Any) -> pb.GenerateResponse:
        return self.calls.Generate(ask(prompt, new, **others), timeout=PATIENCE)

    def stream(self, prompt: str, new: int, **others: Any) -> list[pb.StreamGenerateResponse]:
        return list(self.calls.StreamGenerate(ask(prompt, new, **others), timeout=PATIENCE))

    def score(self, text: str, **others: Any) -> pb.ScoreResponse:
        return self.calls.Score(pb.ScoreRequest(text=text, **others), timeout=PATIENCE)

    def start(self, **others: Any) -> pb.Session:
        asked = pb.StartSessionRequest(**{"seed": SEED, **others})
        return self.calls.StartSession(asked, timeout=PATIENCE).session

    def get(self, session: str) -> pb.Session:
        return self.calls.GetSession(
            pb.GetSessionRequest(session=session), timeout=PATIENCE
        ).session

    def fork(self, session: str, *seeds: int) -> list[pb.Session]:
        asked = pb.ForkSessionRequest(session=session, seeds=seeds)
        return list(self.calls.ForkSession(asked, timeout=PATIENCE).sessions)

    def rewind(self, session: str, position: int) -> pb.Session:
        asked = pb.RewindSessionRequest(session=session, position=position)
        return self.calls.RewindSession(asked, timeout=PATIENCE).session

    def end(self, session: str) -> None:
        self.calls.EndSession(pb.EndSessionRequest(session=session), timeout=PATIENCE)


@contextmanager
def connected(address: str) -> Iterator[Stub]:
    """Connect to a server."""
    with grpc.insecure_channel(address) as channel:
        yield Stub(channel)


def ask(prompt: str, new: int, **others: Any) -> pb.GenerateRequest:
    """Make a request; its seed is in force where it goes on from nothing."""
    if not {"session", "capsule", "seed"} & set(others):
        others["seed"] = SEED
    return pb.GenerateRequest(prompt=prompt, max_new_symbols=new, **others)


class Refusal:
    """How a call was refused."""

    code: grpc.StatusCode
    reason: str
    field: str
    metadata: dict[str, str]


@contextmanager
def refused(reason: str) -> Iterator[Refusal]:
    """Expect a call to be refused for a reason."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        yield refusal
    info, request = ErrorInfo(), BadRequest()
    for detail in rpc_status.from_call(caught.value).details:
        _ = detail.Unpack(info) or detail.Unpack(request)
    refusal.code, refusal.reason = caught.value.code(), info.reason
    refusal.metadata = dict(info.metadata)
    violations = request.field_violations
    refusal.field = violations[0].field if violations else ""
    assert (info.domain, info.reason) == ("unroll", reason), caught.value
