"""Triton's clients get the texts that `unroll.v1` gives, bit for bit, and what describes them."""

import json
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import grpc
import numpy as np
import pytest

from serving.triton import inference_pb2 as pb
from tests.serving.http.asking import ask
from tests.serving.running import PATIENCE, RunningServer
from tests.serving.triton.asking import (
    PATH,
    call,
    conversation,
    infer_request,
    outputs_of,
    parameters_of,
)
from unroll.client.client import Client
from unroll.options import GenerateOptions
from unroll.results import Generation

SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "min_p": 0.01, "top_k": 8}
ASKED: dict[str, Any] = {"max_tokens": 60, "seed": 5, **SAMPLING}
OUTPUTS = ["text_output", "finish_reason", "cumulative_logprob", "num_output_tokens"]


@pytest.fixture(scope="module", params=["small", "lstm"])
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def right(ours: Client, model: str) -> Generation:
    options = GenerateOptions(model=model, max_new_symbols=60, seed=5, log_probs=True, **SAMPLING)
    return ours.generate("cabbage", options)


def check(found: dict[str, Any], parameters: dict[str, Any], right: Generation) -> None:
    assert found["text_output"] == right.text
    assert found["finish_reason"] == "length"
    assert found["num_output_tokens"] == 60
    assert found["cumulative_logprob"] == pytest.approx(sum(right.log_probs), rel=1e-6)
    assert parameters["seed"] == 5
    assert parameters["position"] == right.completion.position
    assert parameters["fingerprint"] == right.completion.fingerprint


@pytest.mark.parametrize("is_raw", [True, False])
def test_whole_text_is_that_of_unroll_v1_and_comes_as_it_was_asked(
    channel: grpc.Channel, model: str, right: Generation, is_raw: bool
) -> None:
    request = infer_request(model, "cabbage", is_raw=is_raw, request_id="the id", **ASKED)
    answer = call(channel, "ModelInfer", request)
    assert bool(answer.raw_output_contents) is is_raw
    assert list(outputs_of(answer)) == OUTPUTS
    check(outputs_of(answer), parameters_of(answer), right)
    assert parameters_of(answer)["triton_final_response"] is True
    assert (answer.model_name, answer.model_version, answer.id) == (model, "1", "the id")


def test_parameters_mean_the_same_as_sampling_parameters_with_numbers_as_texts(
    channel: grpc.Channel, model: str, right: Generation
) -> None:
    texts = {name: str(value) for name, value in ASKED.items()}
    request = infer_request(model, "cabbage", inputs={"sampling_parameters": json.dumps(texts)})
    answer = call(channel, "ModelInfer", request)
    check(outputs_of(answer), parameters_of(answer), right)


def constrained(
    channel: grpc.Channel, model: str, sampling: dict[str, Any], **parameters: Any
) -> object:
    inputs = {"sampling_parameters": json.dumps(sampling)}
    request = infer_request(model, "cab", inputs=inputs, max_tokens=40, seed=5, **parameters)
    return outputs_of(call(channel, "ModelInfer", request))["text_output"]


def test_text_matches_a_pattern_and_favours_symbols(channel: grpc.Channel, ours: Client) -> None:
    options = GenerateOptions(
        model="small", max_new_symbols=40, seed=5, pattern="(?:a|b){9}", logit_bias={"b": 4.0}
    )
    right = ours.generate("cab", options).text
    assert right != ours.generate("cab", replace(options, logit_bias=None)).text
    symbols = ours.get_model("small").vocabulary
    bias = {"logit_bias": {str(symbols.index("b")): 4}}
    assert constrained(channel, "small", bias, pattern="(?:a|b){9}") == right
    structured = {**bias, "structured_outputs": {"regex": "(?:a|b){9}"}}
    assert constrained(channel, "small", structured) == right


def test_decoupled_text_comes_in_pieces_of_which_the_last_is_final(
    channel: grpc.Channel, model: str, right: Generation
) -> None:
    with conversation(channel) as talk:
        talk.put(infer_request(f"{model}_stream", "cabbage", request_id="x", **ASKED))
        answers = talk.read_final()
    assert {answer.id for answer in answers} == {"x"}
    pieces = [outputs_of(answer) for answer in answers]
    assert [piece["finish_reason"] for piece in pieces[:-1]] == [""] * (len(pieces) - 1)
    assert all("seed" not in parameters_of(answer) for answer in answers[:-1])
    whole = {
        **pieces[-1],
        "text_output": "".join(str(piece["text_output"]) for piece in pieces),
        "num_output_tokens": sum(int(piece["num_output_tokens"]) for piece in pieces),
    }
    check(whole, parameters_of(answers[-1]), right)


def test_long_text_comes_in_several_pieces(triton: RunningServer, channel: grpc.Channel) -> None:
    asked: dict[str, Any] = {"max_tokens": 10_000, "seed": 5}
    with conversation(channel) as talk:
        talk.put(infer_request("small_stream", "abc", **asked))
        answers = talk.read_final()
    events = generate(triton, "generate_stream", "small", {"text_input": "abc", **asked})
    assert min(len(answers), len(events)) > 1
    text = "".join(str(outputs_of(answer)["text_output"]) for answer in answers)
    assert len(text) == 10_000
    assert "".join(event["text_output"] for event in events) == text


def test_empty_final_response_comes_when_it_is_asked_for(channel: grpc.Channel) -> None:
    with conversation(channel) as talk:
        talk.put(
            infer_request("small_stream", "abc", triton_enable_empty_final_response=True, seed=5)
        )
        *pieces, last = talk.read_final()
        assert outputs_of(pieces[-1])["finish_reason"] == "length"
        assert (len(last.outputs), parameters_of(last)) == (0, {"triton_final_response": True})
        talk.put(
            infer_request(
                "small_stream",
                "abc",
                inputs={"stream": False},
                triton_enable_empty_final_response=True,
                seed=5,
            )
        )
        whole, last = talk.read_final()
        assert outputs_of(whole)["num_output_tokens"] == 16
        assert not last.outputs


def generate(server: RunningServer, verb: str, model: str, body: dict[str, Any]) -> list[Any]:
    answer = ask(server, "POST", f"/v2/models/{model}/{verb}", body)
    assert answer.status == 200, answer
    if verb == "generate":
        return [answer.json]
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return [
        json.loads(event.removeprefix("data: "))
        for event in answer.body.decode().split("\n\n")
        if event
    ]


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
def test_http_generates_the_same_text(
    triton: RunningServer, model: str, right: Generation, verb: str
) -> None:
    nested = {"text_input": "cabbage", "id": "x", "parameters": ASKED}
    events = generate(triton, verb, model, {**nested, "exclude_input_in_output": True})
    assert all((each["id"], each["model_name"]) == ("x", model) for each in events)
    whole = {
        **events[-1],
        "text_output": "".join(each["text_output"] for each in events),
        "num_output_tokens": sum(each["num_output_tokens"] for each in events),
    }
    check(whole, events[-1], right)
    flat = {"text_input": "cabbage", "exclude_input_in_output": True, **ASKED}
    assert "".join(e["text_output"] for e in generate(triton, verb, model, flat)) == right.text


def test_whole_text_begins_with_its_prompt_unless_that_is_excluded(
    triton: RunningServer, channel: grpc.Channel, ours: Client
) -> None:
    text = ours.generate("cab", GenerateOptions(max_new_symbols=16, seed=5)).text
    asked: dict[str, Any] = {"text_input": "cab", "seed": 5}
    assert generate(triton, "generate", "small", asked)[0]["text_output"] == "cab" + text
    single = {**asked, "stream": False}
    (event,) = generate(triton, "generate_stream", "small", single)
    assert event["text_output"] == "cab" + text
    request = infer_request("small", "cab", inputs={"exclude_input_in_output": False}, seed=5)
    assert outputs_of(call(channel, "ModelInfer", request))["text_output"] == "cab" + text


def test_outputs_are_those_that_are_named_or_not_declined(channel: grpc.Channel) -> None:
    def names(**more: Any) -> list[str]:
        return list(outputs_of(call(channel, "ModelInfer", infer_request("small", "a", **more))))

    assert names(outputs=("num_output_tokens", "text_output")) == ["text_output", OUTPUTS[3]]
    assert names(inputs={"return_cumulative_logprob": False}) == [*OUTPUTS[:2], OUTPUTS[3]]
    more = names(outputs=("text_output",), inputs={"return_finish_reason": True})
    assert more == OUTPUTS[:2]


def test_cumulative_log_prob_is_the_nearest_float(channel: grpc.Channel, ours: Client) -> None:
    options = GenerateOptions(max_new_symbols=16, seed=5, log_probs=True)
    told = np.float32(np.sum(ours.generate("abc", options).log_probs, dtype="f8"))
    answer = outputs_of(call(channel, "ModelInfer", infer_request("small", "abc", seed=5)))
    assert answer["cumulative_logprob"] == told


@pytest.mark.parametrize(
    ("suffix", "is_decoupled", "is_sequence"),
    [("", False, False), ("_stream", True, False), ("_sequence", False, True)],
)
def test_each_name_of_a_model_is_described_over_grpc_and_http(
    triton: RunningServer, channel: grpc.Channel, suffix: str, is_decoupled: bool, is_sequence: bool
) -> None:
    name = f"lstm{suffix}"
    config = call(channel, "ModelConfig", pb.ModelConfigRequest(name=name, version="1")).config
    assert (config.name, config.max_batch_size) == (name, 0)
    assert config.model_transaction_policy.decoupled is is_decoupled
    assert config.HasField("sequence_batching") is is_sequence
    assert [each.name for each in config.input if not each.optional] == ["text_input"]
    metadata = call(channel, "ModelMetadata", pb.ModelMetadataRequest(name=name))
    assert [each.name for each in metadata.outputs] == OUTPUTS
    assert [each.name for each in metadata.inputs] == [each.name for each in config.input]
    told = ask(triton, "GET", f"/v2/models/{name}").json
    assert [each["name"] for each in told["outputs"]] == OUTPUTS
    assert told["inputs"][0] == {"name": "text_input", "datatype": "BYTES", "shape": [1]}
    told = ask(triton, "GET", f"/v2/models/{name}/config").json
    assert (told["name"], "sequence_batching" in told) == (name, is_sequence)
    text = {"name": "text_input", "data_type": "TYPE_STRING", "dims": [1], "optional": False}
    assert told["input"][0] == text
    assert told["model_transaction_policy"] == {"decoupled": is_decoupled}


def test_server_and_models_tell_whether_they_can_be_used(
    triton: RunningServer, channel: grpc.Channel
) -> None:
    assert call(channel, "ServerLive", pb.ServerLiveRequest()).live
    assert call(channel, "ServerReady", pb.ServerReadyRequest()).ready
    ready = {
        (name, number): call(
            channel, "ModelReady", pb.ModelReadyRequest(name=name, version=number)
        ).ready
        for name, number in [("small", ""), ("lstm_stream", "1"), ("small", "2"), ("x_stream", "")]
    }
    assert list(ready.values()) == [True, True, False, False]
    for path, status in [
        ("health/live", 200),
        ("health/ready", 200),
        ("models/small/ready", 200),
        ("models/x/ready", 400),
    ]:
        assert ask(triton, "GET", f"/v2/{path}").status == status
    told = call(channel, "ServerMetadata", pb.ServerMetadataRequest())
    assert (told.name, told.version) == ("unroll", version("unroll"))
    assert "statistics" not in told.extensions
    assert ask(triton, "GET", "/v2").json["extensions"] == list(told.extensions)


@pytest.mark.parametrize("name", ["ModelStatistics", "RepositoryModelLoad", "Nonsense"])
def test_other_methods_are_unimplemented_and_leave_no_traceback(
    channel: grpc.Channel, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(PATH + name, bytes, bytes)(b"", timeout=PATIENCE)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "ModelInfer" in str(raised.value.details())
    assert not caplog.records
