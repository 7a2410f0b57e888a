"""The methods of unroll.v1 in the Connect protocol, called by buf, a client of its own."""

import base64
import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from tests.serving.http.asking import SERVICE, Answer, ask, call
from tests.serving.http.buf import BUF
from tests.serving.running import PATIENCE, RunningServer, serve
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions
from unroll.v1 import text_generation_pb2 as pb

ROOT = Path(__file__).parents[3]
ASKED = {"prompt": "cabbage", "maxNewSymbols": 40, "seed": 5, "logProbs": True}
OPTIONS = GenerateOptions(max_new_symbols=40, seed=5, log_probs=True)
PROTO = {"content-type": "application/proto"}


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"small={tiny_bundles['gru']}", http_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def ours(server: RunningServer) -> Iterator[Client]:
    with server.client() as made:
        yield made


def buf(server: RunningServer, method: str, body: dict[str, Any], *more: str) -> list[Any]:
    """Call a method by `buf curl`, which speaks the binary form; returns the messages."""
    command = [str(BUF), "curl", "--schema", "protos", "--protocol", "connect", *more]
    url = f"{server.server.http_address}{SERVICE}{method}"
    done = subprocess.run(
        [*command, "--data", json.dumps(body), url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    told, decoder, found = done.stdout or done.stderr, json.JSONDecoder(), []
    while told := told.strip():
        message, end = decoder.raw_decode(told)
        found.append(message)
        told = told[end:]
    return found


def test_every_unary_method_answers_buf(server: RunningServer, ours: Client) -> None:
    right = ours.generate("cabbage", OPTIONS)
    (whole,) = buf(server, "Generate", ASKED)
    assert whole["text"] == right.text
    assert len(whole["logProbs"]) == 40
    (score,) = buf(server, "Score", {"text": "cabbage"})
    assert score["bitsPerCharacter"] == ours.score("cabbage").bits_per_character
    units = [{"index": 3}, {"layer": 2, "index": 6, "kind": "UNIT_KIND_H"}]
    asked = {"text": "cabbage", "topLogProbs": 2, "units": units}
    (shown,) = buf(server, "Inspect", asked)
    assert shown["logProbs"] == score["logProbs"]
    assert [len(each["symbols"]) for each in (*shown["alternatives"], shown["next"])] == [2] * 8
    assert [len(unit["values"]) for unit in shown["units"]] == [7, 7]
    (found,) = buf(server, "FindUnits", {"text": "cabbage", "targets": "0100100"})
    assert found["units"][0]["score"] >= 0.5
    (models,) = buf(server, "ListModels", {})
    (model,) = buf(server, "GetModel", {"model": "small"})
    assert models["models"] == [model["model"]]
    (status,) = buf(server, "GetStatus", {})
    assert [each["fingerprint"] for each in status["models"]] == [model["model"]["fingerprint"]]
    session = buf(server, "StartSession", {"seed": 3})[0]["session"]
    here = {"session": session["id"]}
    assert buf(server, "Generate", here | {"prompt": "abc", "maxNewSymbols": 2})[0]["text"]
    (fork,) = buf(server, "ForkSession", here | {"seeds": [1]})[0]["sessions"]
    assert fork["position"] == "5"
    assert "position" not in buf(server, "RewindSession", here)[0]["session"]
    assert buf(server, "GetSession", here)[0]["session"]["seed"] == "3"
    assert buf(server, "EndSession", here) == [{}]


def test_stream_of_buf_is_the_whole_text(server: RunningServer, ours: Client) -> None:
    pieces = buf(server, "StreamGenerate", ASKED)
    assert (
        "".join(each.get("text", "") for each in pieces) == ours.generate("cabbage", OPTIONS).text
    )
    assert [("completion" in each) for each in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize("method", ["Generate", "StreamGenerate"])
def test_buf_reads_code_message_and_details_of_an_error(server: RunningServer, method: str) -> None:
    (error,) = buf(server, method, {"prompt": "abcX"})
    assert error["code"] == "invalid_argument"
    assert "not in the model's vocabulary" in error["message"]
    kinds = {each["type"]: each["value"] for each in error["details"]}
    info = ErrorInfo.FromString(decode(kinds["google.rpc.ErrorInfo"]))
    assert (info.domain, info.reason) == ("unroll", "UNKNOWN_SYMBOL")
    bad = BadRequest.FromString(decode(kinds["google.rpc.BadRequest"]))
    assert [each.field for each in bad.field_violations] == ["prompt"]


def decode(value: str) -> bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4))


def test_json_and_binary_answers_are_one_message(server: RunningServer) -> None:
    request = pb.GenerateRequest(prompt="cabbage", max_new_symbols=40, seed=5, log_probs=True)
    binary = call(server, "Generate", request.SerializeToString(), headers=PROTO)
    assert binary.headers["content-type"] == "application/proto"
    message = pb.GenerateResponse.FromString(binary.body)
    told = call(server, "Generate", ASKED).json
    assert (told["text"], told["logProbs"]) == (message.text, pytest.approx(message.log_probs))
    assert decode(told["completion"]["capsule"]) == message.completion.capsule


def test_streamed_json_is_in_envelopes_and_the_last_one_is_the_end(server: RunningServer) -> None:
    *pieces, (flags, end) = stream(server, envelope(ASKED))
    assert {flag for flag, _ in pieces} == {0}
    assert (flags, end) == (2, {})
    assert len("".join(message.get("text", "") for _, message in pieces)) == 40


@pytest.mark.parametrize(
    "body", [b"", b"\0\0\0\0\2{", b"\1\0\0\0\2{}", b"\0\0\0\0\2{}\0\0\0\0\2{}"]
)
def test_body_that_is_not_one_envelope_is_refused(server: RunningServer, body: bytes) -> None:
    ((flags, end),) = stream(server, body)
    assert (flags, end["error"]["code"]) == (2, "invalid_argument")


def envelope(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return struct.pack(">BI", 0, len(data)) + data


def stream(server: RunningServer, body: bytes) -> list[tuple[int, Any]]:
    headers = {"content-type": "application/connect+json"}
    answer = ask(server, "POST", f"{SERVICE}StreamGenerate", body, headers=headers)
    assert (answer.status, answer.headers["content-type"]) == (200, headers["content-type"])
    return messages(answer.body)


def messages(body: bytes) -> list[tuple[int, Any]]:
    """Take the messages of a stream out of their envelopes, each with its flags."""
    left, found = body, []
    while left:
        flags, length = struct.unpack_from(">BI", left)
        found.append((flags, json.loads(left[5 : 5 + length])))
        left = left[5 + length :]
    return found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"connect-protocol-version": "1"}, 200),
        ({"connect-protocol-version": "2"}, 400),
        ({"content-encoding": "gzip"}, 400),
        ({"content-encoding": "identity"}, 200),
    ],
)
def test_headers_of_the_protocol_are_heeded(
    server: RunningServer, headers: dict[str, str], status: int
) -> None:
    assert call(server, "ListModels", {}, headers=headers).status == status


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"promt": "a"}', b"[" * 100_000])
def test_body_that_is_no_message_is_refused(server: RunningServer, body: bytes) -> None:
    refused = call(server, "Generate", body)
    assert (refused.status, refused.reason) == (400, "INVALID_FIELD")


def test_binary_that_is_no_message_is_refused(server: RunningServer) -> None:
    assert call(server, "Generate", b"\xff\xff", headers=PROTO).status == 400


def test_unknown_paths_and_verbs_are_refused(server: RunningServer) -> None:
    answers: list[Answer] = [call(server, "Nothing", {}), ask(server, "GET", f"{SERVICE}Generate")]
    assert [each.status for each in answers] == [404, 405]
    assert {each.json["code"] for each in answers} == {"unimplemented"}


MANY = 5000


@pytest.mark.parametrize(
    "body", [{"stop": ["a"] * MANY}, {"a": [{}] * MANY}, {"a": [[0] * 70] * 70}], ids=str
)
def test_message_of_more_values_than_any_has_is_not_parsed(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    parsed: list[object] = []
    monkeypatch.setattr("google.protobuf.json_format.Parse", lambda *given: parsed.append(given))
    answer = call(server, "Generate", body)
    assert answer.status == 400
    assert "has more than 4096 values" in answer.json["message"]
    assert not parsed


def test_text_of_many_commas_is_a_text(server: RunningServer) -> None:
    body = {
        "prompt": "," * MANY + "abc",
        "unknownSymbols": "UNKNOWN_SYMBOLS_SKIP",
        "maxNewSymbols": 1,
    }
    answer = call(server, "Generate", body)
    assert (answer.status, answer.json["completion"]["usage"]["promptSymbolCount"]) == (200, 3)
