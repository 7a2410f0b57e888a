"""What is wrong is refused by the name of its field, whatever the door."""

import struct
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from serving.triton import inference_pb2 as pb
from tests.serving.http.asking import ask
from tests.serving.running import ENDLESS, PATIENCE, RunningServer
from tests.serving.triton.asking import call, conversation, infer_request, outputs_of, raw_bytes
from tests.unroll.client.stub import refused

Spoil = Callable[[pb.ModelInferRequest], Any]


def first(request: pb.ModelInferRequest) -> pb.ModelInferRequest.InferInputTensor:
    return request.inputs[0]


def set_raw(data: bytes) -> Spoil:
    def spoil(request: pb.ModelInferRequest) -> None:
        request.raw_input_contents[0] = data

    return spoil


def sampling(data: str | bytes) -> Spoil:
    def spoil(request: pb.ModelInferRequest) -> None:
        request.inputs.add(name="sampling_parameters", datatype="BYTES", shape=[1])
        request.raw_input_contents.append(raw_bytes(data))

    return spoil


def parameter(name: str, **value: Any) -> Spoil:
    def spoil(request: pb.ModelInferRequest) -> None:
        request.parameters[name].CopyFrom(pb.InferParameter(**value))

    return spoil


SPOILT: dict[str, tuple[str, Spoil]] = {
    "shape of two": ("text_input", lambda r: first(r).shape.append(1)),
    "no shape": ("text_input", lambda r: first(r).ClearField("shape")),
    "huge shape": ("text_input", lambda r: first(r).shape.__setitem__(0, 2**62)),
    "negative shape": ("text_input", lambda r: first(r).shape.__setitem__(0, -1)),
    "datatype": ("text_input", lambda r: setattr(first(r), "datatype", "FP32")),
    "unknown input": ("inputs", lambda r: setattr(first(r), "name", "image")),
    "twice": ("text_input", lambda r: setattr(r.inputs[1], "name", "text_input")),
    "contents twice": ("text_input", lambda r: first(r).contents.bytes_contents.append(b"a")),
    "shared memory": (
        "text_input",
        lambda r: (
            first(r)
            .parameters["shared_memory_region"]
            .CopyFrom(pb.InferParameter(string_param="x"))
        ),
    ),
    "raw of one": ("raw_input_contents", lambda r: r.raw_input_contents.pop()),
    "no element": ("text_input", set_raw(b"")),
    "length too large": ("text_input", set_raw(struct.pack("<I", 2**32 - 1) + b"a")),
    "two elements": ("text_input", set_raw(raw_bytes("a") * 2)),
    "no UTF-8": ("text_input", set_raw(raw_bytes(b"\xff"))),
    "truth of two": (
        "exclude_input_in_output",
        lambda r: r.raw_input_contents.__setitem__(1, b"\2"),
    ),
    "unknown symbol": ("text_input", set_raw(raw_bytes("xyz"))),
    "long prompt": ("text_input", set_raw(raw_bytes("a" * 65537))),
    "no JSON": ("sampling_parameters", sampling("{")),
    "deep JSON": ("sampling_parameters", sampling("[" * 100_000)),
    "JSON of a list": ("sampling_parameters", sampling("[1]")),
    "JSON of bytes": ("sampling_parameters", sampling(b"\xff\xfe")),
    "huge number": ("temperature", sampling('{"temperature": 1' + "0" * 400 + "}")),
    "infinite number": ("temperature", sampling('{"temperature": 1e999}')),
    "pattern": ("pattern", parameter("pattern", string_param="(")),
    "schema": ("json_schema", parameter("json_schema", string_param="[1]")),
    "schema of what the model cannot write": (
        "json_schema",
        sampling('{"structured_outputs": {"json": {"type": "string"}}}'),
    ),
    "structured": ("structured_outputs", sampling('{"structured_outputs": {"choice": ["a"]}}')),
    "constraints": (
        "structured_outputs",
        sampling('{"structured_outputs": {"regex": "a"}, "pattern": "a"}'),
    ),
    "biases": ("logit_bias", sampling('{"logit_bias": {"a": 1}}')),
    "bias of no symbol": ("logit_bias", sampling('{"logit_bias": {"11": 1}}')),
    "number of words": ("max_tokens", sampling('{"max_tokens": "many"}')),
    "unknown name": ("lora_name", sampling('{"lora_name": "x"}')),
    "unknown parameter": ("colour", parameter("colour", string_param="red")),
    "parameter without a value": ("seed", parameter("seed")),
    "parameter of another kind": ("seed", parameter("seed", string_param="x")),
    "given twice": (
        "seed",
        lambda r: (parameter("seed", int64_param=1)(r), sampling('{"seed": 1}')(r)),
    ),
    "negative seed": ("seed", parameter("seed", int64_param=-1)),
    "seed of 64 bits": ("seed", parameter("seed", uint64_param=2**63)),
    "nothing to write": ("max_tokens", parameter("max_tokens", int64_param=0)),
    "too much to write": ("max_tokens", parameter("max_tokens", int64_param=ENDLESS + 1)),
    "top_p": ("top_p", parameter("top_p", double_param=1.5)),
    "top_k": ("top_k", parameter("top_k", int64_param=-2)),
    "samples": ("n", parameter("n", int64_param=2)),
    "penalty": ("presence_penalty", parameter("presence_penalty", double_param=0.5)),
    "stream": ("stream", parameter("stream", bool_param=True)),
    "timeout": ("timeout", parameter("timeout", int64_param=-1)),
    "many parameters": (
        "parameters",
        lambda r: [parameter(f"p{n}", bool_param=True)(r) for n in range(65)],
    ),
    "output": ("outputs", lambda r: r.outputs.add(name="logprobs")),
    "output parameters": (
        "outputs",
        lambda r: (
            r.outputs.add(name="text_output")
            .parameters["classification"]
            .CopyFrom(pb.InferParameter(int64_param=1))
        ),
    ),
    "start of nothing": ("sequence_id", parameter("sequence_start", bool_param=True)),
    "sequence of a truth": ("sequence_id", parameter("sequence_id", bool_param=True)),
    "long sequence id": ("sequence_id", parameter("sequence_id", string_param="x" * 129)),
    "long id": ("id", lambda r: setattr(r, "id", r.id + "x" * 129)),
    "decoupled": ("model_name", lambda r: setattr(r, "model_name", "small_stream")),
    "sequence": ("sequence_id", lambda r: setattr(r, "model_name", "small_sequence")),
}


@pytest.mark.parametrize("case", SPOILT)
def test_request_is_refused_by_the_field_that_is_wrong(channel: grpc.Channel, case: str) -> None:
    field, spoil = SPOILT[case]
    request = infer_request("small", "abc")
    spoil(request)
    reason = "UNKNOWN_SYMBOL" if case == "unknown symbol" else "INVALID_FIELD"
    with refused(reason) as refusal:
        call(channel, "ModelInfer", request)
    assert (refusal.code, refusal.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_missing_text_is_named(channel: grpc.Channel) -> None:
    with refused("INVALID_FIELD") as refusal:
        call(channel, "ModelInfer", pb.ModelInferRequest(model_name="small"))
    assert refusal.field == "text_input"


@pytest.mark.parametrize(("name", "number"), [("x", ""), ("x_stream", ""), ("small", "2")])
def test_unknown_model_or_version_is_not_found(
    channel: grpc.Channel, name: str, number: str
) -> None:
    request = infer_request(name, "abc")
    request.model_version = number
    with refused("UNKNOWN_MODEL") as refusal:
        call(channel, "ModelInfer", request)
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.field == ("model_version" if number else "model")


def test_stream_goes_on_after_requests_that_are_wrong(channel: grpc.Channel) -> None:
    with conversation(channel) as talk:
        for index, (_, spoil) in enumerate(SPOILT.values()):
            request = infer_request("small", "abc", request_id=f"wrong {index}")
            spoil(request)
            if request.model_name == "small":
                talk.put(request)
                answer = talk.read()
                assert answer.error_message.startswith("[INVALID_ARGUMENT] ")
                assert answer.infer_response.id == request.id[:128]
        talk.put(infer_request("small", "abc", request_id="right", max_tokens=3))
        (right,) = talk.read_final()
    assert (right.id, outputs_of(right)["num_output_tokens"]) == ("right", 3)


def test_message_of_another_kind_ends_the_call(channel: grpc.Channel) -> None:
    made = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer", bytes, bytes)
    with refused("INVALID_FIELD") as refusal:
        list(made(iter([b"\xff"]), timeout=PATIENCE))
    assert refusal.field == "request"


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"{", 400, "request: is not JSON"),
        ([1], 400, "request: must be a JSON object"),
        ({}, 400, "text_input: is missing"),
        ({"text_input": 5}, 400, "text_input: must be a text"),
        ({"text_input": "a", "parameters": [1]}, 400, "parameters: must be a JSON object"),
        ({"text_input": "a", "parameters": {"colour": 1}}, 400, "colour: is not a field"),
        ({"text_input": "a", "seed": 1, "parameters": {"seed": 1}}, 400, "seed: is given twice"),
        ({"text_input": "a", "seed": 10**400}, 400, "seed: must be 0 to 2^63 - 1"),
        ({"text_input": "a", "id": 0}, 400, "id: must be a text"),
        ({"text_input": "a", "parameters": 0}, 400, "parameters: must be a JSON object"),
        ({"text_input": "\ud800"}, 400, "text_input: "),
        ({"text_input": "a", "sequence_id": 5}, 404, "sequence '5' has not started"),
    ],
)
def test_http_refuses_with_the_field_in_words(
    triton: RunningServer, verb: str, body: Any, status: int, word: str
) -> None:
    answer = ask(triton, "POST", f"/v2/models/small/{verb}", body)
    assert answer.status == status
    assert list(answer.json) == ["error"]
    assert answer.json["error"].startswith(word)
