"""What OpenAI's own client is told of a request that cannot be answered."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from serving.access.tokens import NewToken, issue
from tests.serving.http.asking import RawRequest, ask
from tests.serving.http.openai.completions import PATH, SEED, post, refused
from tests.serving.running import ENDLESS, GROWING_SECONDS, RunningServer, serve
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions


def test_errors_are_those_that_the_client_knows(
    theirs: openai.OpenAI, server: RunningServer
) -> None:
    with pytest.raises(openai.BadRequestError) as unknown:
        theirs.completions.create(model="small", prompt="abcX")
    assert (unknown.value.param, unknown.value.code) == ("prompt", "unknown_symbol")
    assert unknown.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError) as missing:
        theirs.completions.create(model="nobody", prompt="abc")
    assert missing.value.code == "unknown_model"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"logit_bias": {"3": -101}}, "logit_bias"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"999": 1}}, "logit_bias"),
        ({"logit_bias": {"3": "x"}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"pattern": "("}, "pattern"),
        ({"pattern": 3}, "pattern"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "integer"}},
                }
            },
            "response_format",
        ),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 99]}, "prompt[1]"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"frequency_penalty": False}, "frequency_penalty"),
        ({"unknown_symbols": "keep"}, "unknown_symbols"),
        ({"replacement_symbol": "a"}, "replacement_symbol"),
        ({"stream": 1}, "stream"),
        ({"capsule": "?"}, "capsule"),
        ({"capsules": "always"}, "capsules"),
        ({"promt": "a"}, "promt"),
    ],
)
def test_field_that_cannot_be_heeded_is_named(
    server: RunningServer, body: dict[str, Any], param: str
) -> None:
    error = refused(server, **({"prompt": "abc"} | body))
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"n": NaN}'])
def test_body_that_is_no_request_is_refused(server: RunningServer, body: bytes) -> None:
    assert ask(server, "POST", PATH, body).status == 400


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ({"unknown_symbols": "skip"}, "cab"),
        ({"unknown_symbols": "replace", "replacement_symbol": "d"}, "cadb"),
    ],
)
def test_unknown_symbols_are_left_out_or_replaced(
    server: RunningServer, ours: Client, asked: dict[str, Any], read: str
) -> None:
    right = ours.generate(read, GenerateOptions(max_new_symbols=9, seed=SEED)).text
    answer = post(server, prompt="caXb", max_tokens=9, seed=SEED, echo=True, **asked).json
    assert answer["choices"][0]["text"] == read + right
    told = ask(server, "POST", "/tokenize", {"prompt": "caXb"} | asked).json
    assert ask(server, "POST", "/detokenize", {"tokens": told["tokens"]}).json["prompt"] == read


@pytest.mark.parametrize(
    ("path", "told"), [("/v1/chat/completions", "ask /v1/completions"), ("/v1/no", "no such path")]
)
def test_path_that_is_not_there_is_refused_in_openais_form(
    server: RunningServer, path: str, told: str
) -> None:
    answer = ask(server, "POST", path, {})
    assert (answer.status, set(answer.json["error"])) == (404, {"message", "type", "param", "code"})
    assert told in answer.json["error"]["message"]


def test_openais_chat_is_told_what_to_ask_instead(theirs: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="ask /v1/completions for a prompt"):
        theirs.chat.completions.create(model="small", messages=[])


def test_other_methods_than_a_path_takes_are_named(server: RunningServer) -> None:
    answer = ask(server, "GET", PATH)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.json["error"]["code"] == "unimplemented"
    assert "this path takes POST only: GET" in answer.json["error"]["message"]
    probe = ask(server, "POST", "/livez")
    assert probe.status == 405
    assert "takes GET and HEAD only" in probe.json["message"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"temperature": "hot"}, "temperature: must be a number, got 'hot'"),
        ({"max_tokens": 3.5}, "max_tokens: must be a whole number, got 3.5"),
        ({"stop": 3}, "stop: must be a text or a list of texts, got 3"),
    ],
    ids=str,
)
def test_value_of_a_wrong_kind_is_quoted_as_it_was_given(
    server: RunningServer, given: dict[str, Any], told: str
) -> None:
    answer = ask(server, "POST", PATH, {"prompt": "abc", **given})
    assert answer.json["error"]["message"] == told


def test_harmless_fields_are_taken(server: RunningServer) -> None:
    asked = {
        "prompt": "abc", "best_of": 1, "n": 1, "suffix": None, "presence_penalty": 0,
        "frequency_penalty": 0.0, "logit_bias": {}, "user": "anna", "stop": None, "logprobs": None,
    }  # fmt: skip
    assert post(server, **asked).status == 200


def test_error_within_a_stream_is_told_in_it(server: RunningServer) -> None:
    body = {"prompt": "abc", "max_tokens": ENDLESS, "stream": True}
    for seconds in GROWING_SECONDS:
        headers = {"connect-timeout-ms": f"{1000 * seconds:.0f}"}
        answer = ask(server, "POST", PATH, body, headers=headers)
        if answer.status == 200:
            break
    assert answer.status == 200
    *pieces, last = answer.body.strip().split(b"\n\n")
    assert pieces
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "deadline"


def test_overload_tells_when_to_come_again(tiny_bundles: dict[Cell, Path]) -> None:
    with (
        serve(str(tiny_bundles["gru"]), slots=1, queue_limit=0, http_port=0) as running,
        RawRequest(running, PATH, {"prompt": "abc", "max_tokens": ENDLESS, "stream": True}) as busy,
        openai.OpenAI(
            base_url=f"{running.server.http_address}/v1", api_key="none", max_retries=0
        ) as client,
    ):
        busy.read()
        with pytest.raises(openai.RateLimitError) as full:
            client.completions.create(model="gru", prompt="abc")
        assert full.value.type == "rate_limit_error"
        assert int(full.value.response.headers["retry-after"]) >= 1


def test_key_is_the_token(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = issue(NewToken(name="anna", file=file))
    with serve(str(tiny_bundles["gru"]), tokens=file, http_port=0) as running:
        url = f"{running.server.http_address}/v1"
        with openai.OpenAI(base_url=url, api_key=token) as anna:
            assert [each.id for each in anna.models.list()] == ["gru"]
        with (
            openai.OpenAI(base_url=url, api_key="wrong") as stranger,
            pytest.raises(openai.AuthenticationError),
        ):
            stranger.models.list()


def test_answer_that_might_be_too_large_is_refused_before_it_is_made(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with serve(str(tiny_bundles["gru"]), max_message_bytes=65536, http_port=0) as running:
        error = refused(running, prompt=["abc"] * 8, max_tokens=10_000)
        assert error["param"] == "max_tokens"
        assert post(running, prompt="abc", max_tokens=10_000).status == 200
