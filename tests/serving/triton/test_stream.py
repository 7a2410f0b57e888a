"""Streams of requests: each is answered, the order is kept, slots are freed."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.triton import inference_pb2 as pb
from serving.triton.stream import AT_ONCE, InferStream
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, wait_for
from tests.serving.triton.asking import (
    PATH,
    call,
    conversation,
    infer_request,
    outputs_of,
    parameters_of,
)
from tests.unroll.client.stub import refused
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions

LONG: dict[str, Any] = {"max_tokens": ENDLESS, "seed": 3}


def test_answers_of_a_model_with_one_a_request_come_in_their_order(
    channel: grpc.Channel,
) -> None:
    lengths = [3000, 1, 500, 1]
    with conversation(channel) as talk:
        for number, length in enumerate(lengths):
            talk.put(infer_request("small", "abc", request_id=str(number), max_tokens=length))
        answers = [answer for _ in lengths for answer in talk.read_final()]
    assert [answer.id for answer in answers] == ["0", "1", "2", "3"]
    assert [outputs_of(answer)["num_output_tokens"] for answer in answers] == lengths


def test_decoupled_texts_of_one_stream_run_side_by_side(
    channel: grpc.Channel, ours: Client
) -> None:
    texts: dict[str, str] = {}
    with conversation(channel) as talk:
        talk.put(infer_request("small_stream", "abc", request_id="long", max_tokens=8000, seed=3))
        answer = talk.read().infer_response
        talk.put(infer_request("small_stream", "abc", request_id="short", max_tokens=1, seed=3))
        ends: list[str] = []
        while len(ends) < 2:
            texts[answer.id] = texts.get(answer.id, "") + str(outputs_of(answer)["text_output"])
            if parameters_of(answer)["triton_final_response"]:
                ends.append(answer.id)
            if len(ends) < 2:
                answer = talk.read().infer_response
    assert ends == ["short", "long"]
    options = GenerateOptions(model="small", max_new_symbols=8000, seed=3)
    assert texts == {"short": texts["long"][:1], "long": ours.generate("abc", options).text}


def test_stream_that_the_client_ends_is_answered_whole_and_ends_well(
    channel: grpc.Channel,
) -> None:
    with conversation(channel) as talk:
        talk.put(infer_request("small", "abc", max_tokens=2000))
        talk.end()
        (answer,) = talk.read_final()
        assert outputs_of(answer)["num_output_tokens"] == 2000
        assert list(talk.call) == []
        assert talk.call.code() is grpc.StatusCode.OK


def test_more_requests_than_run_at_once_are_all_answered(channel: grpc.Channel) -> None:
    count = AT_ONCE + 50
    with conversation(channel) as talk:
        talk.put(
            *[infer_request("small", "a", request_id=f"{n}", max_tokens=1) for n in range(count)]
        )
        ids = [talk.read_final()[0].id for _ in range(count)]
    assert ids == [f"{number}" for number in range(count)]


@pytest.mark.parametrize("model", ["small", "small_stream"])
def test_client_that_cancels_a_stream_frees_its_slots(
    triton: RunningServer, channel: grpc.Channel, model: str
) -> None:
    with conversation(channel) as talk:
        talk.put(*[infer_request(model, "abc", **LONG) for _ in range(3)])
        wait_for(lambda: len(triton.sequences()) == 3)
        sequences = triton.sequences()
        talk.call.cancel()
        wait_for(lambda: not triton.sequences())
    assert all(sequence.generated < ENDLESS for sequence in sequences)


def test_client_that_cancels_a_whole_text_frees_its_slot(
    triton: RunningServer, channel: grpc.Channel
) -> None:
    made = channel.unary_unary(f"{PATH}ModelInfer", bytes, bytes)
    request = infer_request("small", "abc", sequence_id=1, sequence_start=True, **LONG)
    asked = made.future(request.SerializeToString(), timeout=PATIENCE)
    wait_for(lambda: len(triton.sequences()) == 1)
    asked.cancel()
    wait_for(lambda: not triton.sequences())
    with refused("SESSION_ENDED"):
        call(channel, "ModelInfer", infer_request("small", "", sequence_id=1))


def test_timeout_and_deadline_end_a_text(triton: RunningServer, channel: grpc.Channel) -> None:
    with refused("DEADLINE") as refusal:
        call(channel, "ModelInfer", infer_request("small", "abc", timeout=1, **LONG))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: not triton.sequences())
    with conversation(channel) as talk:
        talk.put(infer_request("small_stream", "abc", request_id="x", timeout=1, **LONG))
        answer = talk.read()
        while not answer.error_message:
            answer = talk.read()
        assert answer.error_message.startswith("[DEADLINE_EXCEEDED] ")
        talk.put(infer_request("small", "abc", max_tokens=2))
        assert len(talk.read_final()) == 1
    wait_for(lambda: not triton.sequences())


def test_overload_is_told_and_counted(tiny_bundles: dict[Cell, Path]) -> None:
    with (
        serve(f"small={tiny_bundles['gru']}", slots=1, queue_limit=1) as running,
        grpc.insecure_channel(running.address) as channel,
        conversation(channel) as talk,
    ):
        talk.put(infer_request("small_stream", "abc", **LONG))
        assert not talk.read().error_message
        talk.put(infer_request("small_stream", "abc", **LONG))
        wait_for(lambda: len(running.sequences()) == 2)
        with refused("OVERLOADED") as refusal:
            call(channel, "ModelInfer", infer_request("small", "abc"))
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        talk.put(infer_request("small", "abc", request_id="one too many"))
        answer = talk.read()
        while not answer.error_message:
            answer = talk.read()
        assert answer.error_message.startswith("[RESOURCE_EXHAUSTED] ")
        assert answer.infer_response.id == "one too many"
        registry = running.server.doors.calls.registry
        labels = {"method": "ModelInfer", "code": "RESOURCE_EXHAUSTED"}
        wait_for(lambda: registry.get_sample_value("unroll_requests_total", labels) == 1)


def test_each_request_of_a_stream_counts_as_a_call_of_its_caller(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with (
        serve(f"small={tiny_bundles['gru']}", max_calls_per_caller=3) as running,
        grpc.insecure_channel(running.address) as channel,
        conversation(channel) as talk,
    ):
        talk.put(*[infer_request("small", "abc", **LONG) for _ in range(3)])
        wait_for(lambda: len(running.sequences()) == 3)
        with refused("CALLER_BUSY"):
            call(channel, "ModelInfer", infer_request("small", "abc"))
        talk.call.cancel()
        wait_for(lambda: not running.sequences())
        assert call(channel, "ModelInfer", infer_request("small", "abc")).outputs


def test_idle_stream_does_not_hold_up_the_end_of_the_server(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with (
        serve(f"small={tiny_bundles['gru']}") as running,
        grpc.insecure_channel(running.address) as channel,
        conversation(channel) as talk,
    ):
        talk.put(infer_request("small", "abc"))
        assert len(talk.read_final()) == 1
        stopping = asyncio.run_coroutine_threadsafe(running.server.stop(PATIENCE), running.loop)
        with refused("CLOSED") as refusal:
            talk.read()
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        stopping.result(PATIENCE / 2)


def test_message_that_fails_as_its_call_ends_leaves_nothing_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = asyncio.Event()

    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        failed.set()
        raise ValueError("no message")
        yield

    async def end_as_it_fails() -> None:
        nothing: Any = None
        stream = InferStream(nothing, nothing, nothing, asyncio.Event())
        running = asyncio.create_task(stream.run(requests()))
        await failed.wait()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()

    asyncio.run(end_as_it_fails())
    gc.collect()
    assert not caplog.records
