"""Whatever Triton's clients send, the answer is one of the table's and the server goes on."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.triton import inference_pb2 as pb
from serving.triton.request import INPUTS
from tests.serving.http.asking import ask
from tests.serving.running import PATIENCE, RunningServer, serve
from tests.serving.triton.asking import PATH, SERVICE, call, infer_request, outputs_of, raw_bytes
from training.settings import Cell

pytestmark = pytest.mark.slow

INPUTS_TO_SEND = int(os.environ.get("UNROLL_FUZZ_INPUTS", "600")) // 3
FUZZ = settings(
    max_examples=INPUTS_TO_SEND,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TELLING = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
MODELS = st.sampled_from(["small", "small_stream", "small_sequence", "", "x", "lstm", "small_"])
NAMES = st.sampled_from(
    [
        *INPUTS, "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "n",
        "sequence_id", "sequence_start", "sequence_end", "timeout", "priority", "ignore_eos",
        "triton_enable_empty_final_response", "id", "parameters", "x",
    ]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text('abc \n0{}[]"£X\0\ud800', max_size=9)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(NAMES, SCALARS, max_size=3)
PARAMETERS = st.one_of(
    st.builds(lambda value: pb.InferParameter(bool_param=value), st.booleans()),
    st.builds(lambda value: pb.InferParameter(int64_param=value), st.integers(-3, 40)),
    st.builds(lambda value: pb.InferParameter(uint64_param=value), st.integers(0, 2**64 - 1)),
    st.builds(lambda value: pb.InferParameter(double_param=value), st.floats()),
    st.builds(lambda value: pb.InferParameter(string_param=value), st.text("abc{}0.5", max_size=9)),
    st.just(pb.InferParameter()),
)
RAW = (
    st.binary(max_size=9)
    | st.sampled_from([b"\0", b"\1"])
    | st.builds(raw_bytes, st.text("abc", max_size=9))
    | st.just(raw_bytes('{"max_tokens": 3, "stop": ["a"]}'))
)


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=draw(MODELS), id=draw(st.text("ab", max_size=2)))
    for name in draw(st.lists(NAMES, max_size=4)):
        tensor = request.inputs.add(name=name)
        tensor.datatype = draw(st.just(INPUTS.get(name, "BYTES")) | st.sampled_from(["", "FP32"]))
        tensor.shape.extend(draw(st.just([1]) | st.lists(st.integers(-1, 2**40), max_size=3)))
        if draw(st.integers(0, 9)) == 0:
            tensor.contents.bytes_contents.append(draw(st.binary(max_size=5)))
    request.raw_input_contents.extend(draw(RAW) for _ in request.inputs)
    if draw(st.integers(0, 9)) == 0:
        request.raw_input_contents.append(b"")
    for name in draw(st.lists(NAMES, max_size=3)):
        request.parameters[name].CopyFrom(draw(PARAMETERS))
    for name in draw(st.lists(st.sampled_from(["text_output", "x"]), max_size=1)):
        request.outputs.add(name=name)
    return request


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(
        f"small={tiny_bundles['gru']}", http_port=0, rate_per_caller=0, max_new_symbols=40
    ) as running:
        yield running


@pytest.fixture(scope="module")
def wire(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as made:
        yield made


@pytest.fixture(autouse=True)
def _server_goes_on(wire: grpc.Channel, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    answer = call(wire, "ModelInfer", infer_request("small", "abc", max_tokens=3))
    assert outputs_of(answer)["num_output_tokens"] == 3
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def outcome(wire: grpc.Channel, name: str, *messages: bytes) -> grpc.StatusCode:
    made = wire.stream_stream(PATH + name, bytes, bytes)(iter(messages), timeout=PATIENCE)
    with suppress(grpc.RpcError):
        list(made)
    code: grpc.StatusCode = made.code()
    return code


@FUZZ
@given(data=st.data())
def test_bytes_are_answered_or_refused(wire: grpc.Channel, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([each.name for each in SERVICE.methods]))
    sent = data.draw(st.binary(max_size=60))
    assert outcome(wire, name, sent) in {grpc.StatusCode.OK, *TELLING}


@FUZZ
@given(request=requests())
def test_requests_are_answered_or_refused(
    wire: grpc.Channel, request: pb.ModelInferRequest
) -> None:
    sent = request.SerializeToString()
    assert outcome(wire, "ModelInfer", sent) in {grpc.StatusCode.OK, *TELLING}


@FUZZ
@given(asked=st.lists(requests(), max_size=5))
def test_each_request_of_a_stream_has_its_end(
    wire: grpc.Channel, asked: list[pb.ModelInferRequest]
) -> None:
    made = wire.stream_stream(
        f"{PATH}ModelStreamInfer", bytes, pb.ModelStreamInferResponse.FromString
    )
    answers = list(made(iter([each.SerializeToString() for each in asked]), timeout=PATIENCE))
    ends = [
        answer.infer_response.id
        for answer in answers
        if answer.infer_response.parameters["triton_final_response"].bool_param
    ]
    assert sorted(ends) == sorted(each.id for each in asked)
    codes = {each.error_message.split("]")[0] for each in answers if each.error_message}
    assert codes <= {f"[{code.name}" for code in TELLING}


@FUZZ
@given(
    body=st.dictionaries(NAMES, VALUES, max_size=6) | VALUES,
    model=MODELS.filter(bool),
    verb=st.sampled_from(["generate", "generate_stream"]),
)
def test_json_is_answered_or_refused(
    server: RunningServer, body: Any, model: str, verb: str
) -> None:
    answer = ask(server, "POST", f"/v2/models/{model}/{verb}", body)
    assert answer.status in {200, 400, 404, 504}
    if answer.status != 200:
        assert list(answer.json) == ["error"]
