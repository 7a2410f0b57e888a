"""Triton's door has the gate of all doors: tokens, ids, log, sizes."""

import asyncio
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.access.tokens import NewToken, issue
from serving.rpc import gate
from serving.rpc.call import RpcCall
from serving.triton import handlers
from serving.triton import inference_pb2 as pb
from tests.serving.http.asking import ask
from tests.serving.running import PATIENCE, serve, wait_for
from tests.serving.triton.asking import PATH, call, conversation, infer_request
from tests.unroll.client.stub import refused
from training.settings import Cell

ASKED = {
    "ModelReady": pb.ModelReadyRequest(name="small"),
    "ServerMetadata": pb.ServerMetadataRequest(),
    "ModelMetadata": pb.ModelMetadataRequest(name="small"),
    "ModelConfig": pb.ModelConfigRequest(name="small"),
    "ModelInfer": infer_request("small", "abc"),
}
GENERATE = "/v2/models/small/generate"


def test_probes_need_no_token_and_all_else_does(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    token = f"Bearer {issue(NewToken(name='anna', file=file))}"
    with (
        serve(f"small={tiny_bundles['gru']}", tokens=file, http_port=0) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        assert call(channel, "ServerLive", pb.ServerLiveRequest()).live
        assert call(channel, "ServerReady", pb.ServerReadyRequest()).ready
        for name, message in ASKED.items():
            with refused("UNAUTHENTICATED"):
                call(channel, name, message)
            assert call(channel, name, message, (("authorization", token),)).ByteSize()
        with conversation(channel) as talk, refused("UNAUTHENTICATED"):
            talk.put(infer_request("small", "abc"))
            talk.read()
        with conversation(channel, (("authorization", token),)) as talk:
            talk.put(infer_request("small", "abc"))
            assert len(talk.read_final()) == 1
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert ask(running, "GET", path).status == 200
        answer = ask(running, "POST", GENERATE, {"text_input": "abc"})
        assert (answer.status, list(answer.json)) == (401, ["error"])
        right = {"authorization": token}
        assert ask(running, "POST", GENERATE, {"text_input": "abc"}, headers=right).status == 200


def test_call_has_its_id_and_its_line_in_the_log(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.access")
    made = channel.unary_unary(f"{PATH}ModelInfer", bytes, bytes)
    request = infer_request("small", "abc", max_tokens=5).SerializeToString()
    metadata = (("x-request-id", "the-id"),)
    _, done = made.with_call(request, metadata=metadata, timeout=PATIENCE)
    assert ("x-request-id", "the-id") in done.trailing_metadata()
    wait_for(lambda: bool(caplog.records))
    (record,) = caplog.records
    told = vars(record)
    assert told["method"] == "ModelInfer"
    assert (told["code"], told["model"], told["request_id"]) == ("OK", "small", "the-id")
    assert (told["symbols_read"], told["symbols_written"]) == (3, 5)


def test_probes_leave_no_line_in_the_log(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.access")
    call(channel, "ServerReady", pb.ServerReadyRequest())
    call(channel, "ModelReady", pb.ModelReadyRequest(name="small"))
    assert not caplog.records


def test_prompt_that_leaves_no_room_for_the_text_must_be_excluded(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with (
        serve(f"small={tiny_bundles['gru']}", max_message_bytes=16384) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        for length, is_refused in [(8192, False), (8193, True)]:
            with refused("INVALID_FIELD") if is_refused else nullcontext() as refusal:
                more = {"exclude_input_in_output": False}
                call(channel, "ModelInfer", infer_request("small", "a" * length, inputs=more))
            assert refusal is None or refusal.field == "exclude_input_in_output"
        assert call(channel, "ModelInfer", infer_request("small", "a" * 8193)).outputs


def test_longer_message_than_any_prompt_needs_is_not_parsed(channel: grpc.Channel) -> None:
    for name in ("ModelInfer", "ModelMetadata"):
        made = channel.unary_unary(PATH + name, bytes, bytes)
        with refused("INVALID_FIELD") as refusal:
            made(b"\xff" * (4 * 65536 + 2**17 + 1), timeout=PATIENCE)
        assert refusal.field == "request"


class Gone:
    """gRPC's view of a call whose client has gone and of which gRPC does not know it yet."""

    def cancelled(self) -> bool:
        return False

    async def abort(self, *_: object) -> None:
        raise grpc.aio.InternalError("the call is over")


def test_method_that_is_not_served_is_no_error_of_ours_where_its_client_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context: Any = Gone()
    gone = RpcCall(
        context=context,
        metadata=(),
        method="RepositoryIndex",
        request_id="1",
        caller="a",
        began=0.0,
        deadline=None,
    )

    async def ask() -> None:
        try:
            await handlers._refuse(b"", gone)
        except Exception as error:
            await gate._refuse(gone, error)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(ask())
    assert gone.has_gone
    assert not caplog.records
