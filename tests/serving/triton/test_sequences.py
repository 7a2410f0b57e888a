"""A sequence is a session of its caller: it goes on where it stood, and is nobody else's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.access.tokens import NewToken, issue
from serving.sessions import registry
from serving.sessions.memory_store import MemoryStore
from serving.sessions.store import Gone
from tests.serving.http.asking import ask
from tests.serving.running import RunningServer, serve, wait_for
from tests.serving.triton.asking import (
    Metadata,
    call,
    conversation,
    infer_request,
    outputs_of,
    parameters_of,
)
from tests.unroll.client.stub import Stub, refused
from training.settings import Cell
from unroll.v1 import text_generation_pb2 as unroll_pb

START: dict[str, Any] = {"sequence_start": True, "seed": 5, "temperature": 0.7}


@pytest.fixture(scope="module")
def texts(channel: grpc.Channel) -> list[str]:
    """What a session of `unroll.v1` answers to three prompts."""
    stub = Stub(channel)
    sampling = unroll_pb.SamplingParams(temperature=START["temperature"])
    session = stub.start(model="small", seed=START["seed"], sampling=sampling).id
    return [stub.generate(prompt, 20, session=session).text for prompt in ("cab", "", "bad")]


def go_on(
    channel: grpc.Channel,
    name: int | str,
    prompt: str = "",
    *,
    model: str = "small",
    metadata: Metadata = (),
    **parameters: Any,
) -> str:
    request = infer_request(model, prompt, max_tokens=20, sequence_id=name, **parameters)
    return str(outputs_of(call(channel, "ModelInfer", request, metadata))["text_output"])


def gone(channel: grpc.Channel, reason: str, name: int | str, **rest: Any) -> None:
    with refused(reason) as refusal:
        go_on(channel, name, **rest)
    assert refusal.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("name", [7, "seven", 2**63 - 1, "x" * 128])
@pytest.mark.parametrize("model", ["small", "small_sequence"])
def test_sequence_goes_on_as_a_session_does_and_ends(
    channel: grpc.Channel, texts: list[str], model: str, name: int | str
) -> None:
    assert go_on(channel, name, "cab", model=model, **START) == texts[0]
    assert go_on(channel, name, model=model) == texts[1]
    assert go_on(channel, name, "bad", model=model, sequence_end=True) == texts[2]
    gone(channel, "SESSION_ENDED", name, model=model)


def test_sequence_of_one_stream_goes_on_in_the_order_of_its_requests(
    channel: grpc.Channel, texts: list[str]
) -> None:
    last: list[dict[str, Any]] = [START, {}, {"sequence_end": True}]
    requests = [
        infer_request("small", prompt, sequence_id="order", max_tokens=20, **more)
        for prompt, more in zip(("cab", "", "bad"), last, strict=True)
    ]
    with conversation(channel) as talk:
        talk.put(*requests)
        answers = [talk.read_final() for _ in requests]
    assert [outputs_of(answer)["text_output"] for (answer,) in answers] == texts
    assert parameters_of(answers[-1][0])["position"] == 66


def test_decoupled_sequence_is_that_of_the_model_itself(
    triton: RunningServer, channel: grpc.Channel, texts: list[str]
) -> None:
    assert go_on(channel, "both", "cab", **START) == texts[0]
    with conversation(channel) as talk:
        talk.put(infer_request("small_stream", "", sequence_id="both", max_tokens=20))
        pieces = talk.read_final()
    assert "".join(str(outputs_of(each)["text_output"]) for each in pieces) == texts[1]
    body = {"text_input": "bad", "sequence_id": "both", "sequence_end": True, "max_tokens": 20}
    answer = ask(triton, "POST", "/v2/models/small/generate", body)
    assert answer.json["text_output"] == "bad" + texts[2]
    gone(channel, "SESSION_ENDED", "both")


def test_start_begins_anew(channel: grpc.Channel, texts: list[str]) -> None:
    for _ in range(2):
        assert go_on(channel, "anew", "cab", **START) == texts[0]
        assert go_on(channel, "anew") == texts[1]


def test_start_that_fails_leaves_no_sequence(channel: grpc.Channel) -> None:
    with refused("UNKNOWN_SYMBOL"):
        go_on(channel, "failed", "xyz", **START)
    gone(channel, "SESSION_ENDED", "failed")


def test_number_and_text_and_model_tell_sequences_apart(
    channel: grpc.Channel, texts: list[str]
) -> None:
    assert go_on(channel, 77, "cab", **START) == texts[0]
    gone(channel, "SESSION_UNKNOWN", "77")
    gone(channel, "SESSION_UNKNOWN", 77, model="lstm")
    assert go_on(channel, 77) == texts[1]


def test_session_is_no_sequence_and_a_sequence_no_session(channel: grpc.Channel) -> None:
    stub = Stub(channel)
    gone(channel, "SESSION_UNKNOWN", stub.start(model="small").id)
    name = "A" * registry.ID_LENGTH  # of a session's length
    go_on(channel, name, "cab", **START)
    with refused("SESSION_UNKNOWN"):
        stub.get(name)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Metadata]]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    names = ("anna", "bert")
    issued = [issue(NewToken(name=name, file=file)) for name in names]
    return file, [(("authorization", f"Bearer {token}"),) for token in issued]


@pytest.fixture(scope="module")
def guarded(
    tiny_bundles: dict[Cell, Path], tokens: tuple[Path, list[Metadata]]
) -> Iterator[RunningServer]:
    model = f"small={tiny_bundles['gru']}"
    with serve(model, tokens=tokens[0], max_sessions_per_caller=2) as running:
        yield running


def test_sequence_is_its_callers_and_their_number_is_bounded(
    guarded: RunningServer, tokens: tuple[Path, list[Metadata]]
) -> None:
    hers, his = tokens[1]
    with grpc.insecure_channel(guarded.address) as channel:
        first = go_on(channel, 1, "cab", metadata=hers, **START)
        gone(channel, "SESSION_UNKNOWN", 1, metadata=his)
        assert go_on(channel, 1, "cab", metadata=his, **START) == first
        second = go_on(channel, 1, metadata=hers)
        assert go_on(channel, 1, metadata=his) == second
        go_on(channel, 2, "cab", metadata=hers, **START)
        with refused("SESSION_LIMIT") as refusal:
            go_on(channel, 3, "cab", metadata=hers, **START)
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        go_on(channel, 2, "cab", metadata=hers, **START)  # a start anew needs no more room
        go_on(channel, 2, metadata=hers, sequence_end=True)
        go_on(channel, 3, "cab", metadata=hers, **START)


def test_idle_sequence_expires_soon(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.server.TIDY_SECONDS", 0.05)
    with serve(f"small={tiny_bundles['gru']}") as running:
        sessions = running.server._sequences._sessions
        with grpc.insecure_channel(running.address) as channel:
            go_on(channel, 1, "cab", **START)
            assert isinstance(sessions._store, MemoryStore)
            now = sessions._store.now
            monkeypatch.setattr(sessions._store, "now", lambda: now() + 61)
            gone(channel, "SESSION_EXPIRED", 1)
            wait_for(lambda: sessions.gone[Gone.EXPIRED] == 1)
