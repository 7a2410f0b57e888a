"""OpenAI's own client gets the texts, scores and errors that our clients get."""

import asyncio
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types import Completion

from serving.access.tokens import NewToken, issue
from serving.http.openai import completions
from tests.serving.http.asking import Answer, RawRequest, ask
from tests.serving.running import ENDLESS, GROWING_SECONDS, PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions
from unroll.terms import Capsules

PATH = "/v1/completions"
SEED = 5


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"small={tiny_bundles['gru']}", str(tiny_bundles["lstm"]), http_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def ours(server: RunningServer) -> Iterator[Client]:
    with server.client() as made:
        yield made


@pytest.fixture(scope="module")
def theirs(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.server.http_address}/v1", api_key="none", max_retries=0, timeout=PATIENCE
    ) as made:
        yield made


def post(server: RunningServer, **body: Any) -> Answer:
    return ask(server, "POST", PATH, body)


def refused(server: RunningServer, **body: Any) -> Any:
    answer = post(server, **body)
    assert answer.status == 400, answer
    return answer.json["error"]


def joined(stream: openai.Stream[Completion]) -> str:
    return "".join(each.choices[0].text for each in stream)


@pytest.mark.parametrize("model", ["small", "lstm"])
def test_text_is_that_of_grpc_whole_and_streamed(
    theirs: openai.OpenAI, ours: Client, model: str
) -> None:
    options = GenerateOptions(
        model=model, max_new_symbols=60, seed=SEED, temperature=0.7, top_p=0.9, min_p=0.01
    )
    right = ours.generate("cabbage", options)
    asked: dict[str, Any] = {
        "model": model, "prompt": "cabbage", "max_tokens": 60, "seed": SEED, "temperature": 0.7,
        "top_p": 0.9, "extra_body": {"min_p": 0.01},
    }  # fmt: skip
    whole = theirs.completions.create(**asked)
    assert whole.choices[0].text == right.text
    assert whole.choices[0].finish_reason == "length"
    assert (whole.model, whole.system_fingerprint) == (model, right.completion.fingerprint)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (7, 60)
    assert joined(theirs.completions.create(stream=True, **asked)) == right.text


def test_asyncio_client_streams_the_same_text(server: RunningServer, ours: Client) -> None:
    async def run() -> str:
        async with openai.AsyncOpenAI(
            base_url=f"{server.server.http_address}/v1", api_key="none", timeout=PATIENCE
        ) as client:
            stream = await client.completions.create(
                model="small", prompt="cab", max_tokens=40, seed=SEED, stream=True
            )
            return "".join([each.choices[0].text async for each in stream])

    options = GenerateOptions(max_new_symbols=40, seed=SEED)
    assert asyncio.run(run()) == ours.generate("cab", options).text


def test_default_is_sixteen_symbols(theirs: openai.OpenAI) -> None:
    assert len(theirs.completions.create(model="small", prompt="a").choices[0].text) == 16


def test_each_kind_of_prompt_is_read(theirs: openai.OpenAI, ours: Client) -> None:
    options = GenerateOptions(max_new_symbols=20, seed=SEED)
    right = [ours.generate(prompt, options).text for prompt in ("cab", "dad")]
    cab, dad = ([ours.get_model().vocabulary.index(s) for s in text] for text in ("cab", "dad"))
    kinds: list[tuple[Any, list[str]]] = [
        ("cab", right[:1]), (["cab", "dad"], right), (cab, right[:1]), ([cab, dad], right),
    ]  # fmt: skip
    for prompt, texts in kinds:
        made = theirs.completions.create(model="small", prompt=prompt, max_tokens=20, seed=SEED)
        assert [each.text for each in made.choices] == texts
        assert [each.index for each in made.choices] == list(range(len(texts)))


def test_samples_of_each_prompt_have_seeds_of_their_own(
    theirs: openai.OpenAI, ours: Client
) -> None:
    options = GenerateOptions(max_new_symbols=20, seed=SEED, sample_count=3)
    asked: dict[str, Any] = {
        "model": "small", "prompt": ["cab", "dad"], "max_tokens": 20, "seed": SEED, "n": 3,
    }  # fmt: skip
    right = []
    for prompt in ("cab", "dad"):
        first = ours.generate(prompt, options)
        right += [first.text, *(each.text for each in first.further_samples)]
    whole = theirs.completions.create(**asked)
    assert [each.text for each in whole.choices] == right
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (6, 120)
    parts, usage = ["" for _ in right], []
    for piece in theirs.completions.create(
        stream=True, stream_options={"include_usage": True}, **asked
    ):
        usage.append(piece.usage)
        for choice in piece.choices:
            parts[choice.index] += choice.text
    assert parts == right
    assert usage[-1] == whole.usage
    assert set(usage[:-1]) == {None}


def test_stop_strings_end_the_text(theirs: openai.OpenAI, ours: Client) -> None:
    options = GenerateOptions(max_new_symbols=500, seed=SEED, stop=("ab", "cd"))
    right = ours.generate("cab", options)
    assert right.completion.finish_reason.value == "stop", "else this tests nothing"
    made = theirs.completions.create(
        model="small", prompt="cab", max_tokens=500, seed=SEED, stop=["ab", "cd"]
    )
    assert (made.choices[0].text, made.choices[0].finish_reason) == (right.text, "stop")


def test_echo_with_log_probabilities_tells_the_figures_of_score(
    theirs: openai.OpenAI, ours: Client
) -> None:
    prompt = "cabbage"
    scores = ours.score(prompt).log_probs
    options = GenerateOptions(max_new_symbols=9, seed=SEED, log_probs=True)
    right = ours.generate(prompt, options)
    asked: dict[str, Any] = {
        "model": "small", "prompt": prompt, "seed": SEED, "echo": True, "logprobs": 0,
    }  # fmt: skip
    whole = theirs.completions.create(max_tokens=9, **asked).choices[0]
    assert whole.text == prompt + right.text
    told = whole.logprobs
    assert told is not None
    assert told.tokens == list(whole.text)
    assert told.text_offset == list(range(len(whole.text)))
    assert told.token_logprobs == [None, *scores[1:], *right.log_probs]
    read = theirs.completions.create(max_tokens=0, **asked).choices[0]
    assert (read.text, read.logprobs) == (
        prompt,
        told.model_copy(
            update={
                "tokens": list(prompt),
                "token_logprobs": [None, *scores[1:]],
                "text_offset": list(range(len(prompt))),
            }
        ),
    )
    pieces = [
        piece.choices[0] for piece in theirs.completions.create(max_tokens=9, stream=True, **asked)
    ]
    assert "".join(each.text for each in pieces) == whole.text
    streamed = [each.logprobs.token_logprobs or [] for each in pieces if each.logprobs is not None]
    assert list(chain(*streamed)) == told.token_logprobs
    offsets = [each.logprobs.text_offset or [] for each in pieces if each.logprobs is not None]
    assert list(chain(*offsets)) == told.text_offset
    (only,) = theirs.completions.create(max_tokens=0, stream=True, **asked)
    assert only.choices[0].logprobs == read.logprobs


def test_text_that_ends_at_once_still_has_the_scores_of_its_prompt(
    server: RunningServer, ours: Client
) -> None:
    first = ours.generate("cab", GenerateOptions(max_new_symbols=1, seed=SEED)).text
    asked = {"prompt": "cab", "seed": SEED, "echo": True, "logprobs": 1, "stop": first}
    for is_streamed in (False, True):
        answer = post(server, stream=is_streamed, **asked)
        data = answer.body.split(b"\n\n")[0].removeprefix(b"data: ")
        (choice,) = json.loads(data)["choices"]
        assert (choice["text"], choice["finish_reason"]) == ("cab", "stop")
        assert choice["logprobs"]["token_logprobs"] == [None, *ours.score("cab").log_probs[1:]]


def test_log_probability_is_the_engines_float(server: RunningServer, ours: Client) -> None:
    options = GenerateOptions(max_new_symbols=9, seed=SEED, log_probs=True)
    answer = post(server, prompt="cab", max_tokens=9, seed=SEED, logprobs=0).json
    told = answer["choices"][0]["logprobs"]["token_logprobs"]
    assert told == list(ours.generate("cab", options).log_probs)


def test_alternatives_are_the_floats_that_texts_with_them_are_told(
    theirs: openai.OpenAI, ours: Client
) -> None:
    asked: dict[str, Any] = {
        "model": "small", "prompt": "cab", "max_tokens": 5, "seed": SEED, "echo": True,
    }  # fmt: skip
    whole = theirs.completions.create(logprobs=20, **asked).choices[0]
    assert whole.logprobs is not None
    tops = whole.logprobs.top_logprobs
    assert tops is not None
    assert tops[0] is None
    symbols = ours.get_model().vocabulary
    for place, top in enumerate(tops[1:], start=1):
        before = whole.text[:place]
        assert top == {each: ours.score(before + each).log_probs[-1] for each in symbols}
        assert list(top.values()) == sorted(top.values(), reverse=True)
    some = theirs.completions.create(logprobs=2, **asked).choices[0]
    assert some.logprobs is not None
    for place, (top, few) in enumerate(
        zip(tops[1:], (some.logprobs.top_logprobs or [])[1:], strict=True), start=1
    ):
        likeliest = list(top)[:2]
        assert list(few) == list(dict.fromkeys([*likeliest, whole.text[place]]))
        assert few.items() <= top.items()


def test_greedy_symbol_has_the_top_log_probability(theirs: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "lstm", "prompt": ["cab", "dad"], "max_tokens": 40, "temperature": 0,
        "logprobs": 1, "n": 2,
    }  # fmt: skip
    whole = theirs.completions.create(**asked)
    parts: list[list[tuple[str, float, dict[str, float]]]] = [[] for _ in whole.choices]
    for piece in theirs.completions.create(stream=True, **asked):
        for choice in piece.choices:
            parts[choice.index] += along(choice)
    for choice, streamed in zip(whole.choices, parts, strict=True):
        assert streamed == along(choice)
        assert len(streamed) == 40
        assert all(top == {symbol: told} for symbol, told, top in streamed)


def along(choice: Any) -> list[tuple[str, float, dict[str, float]]]:
    told = choice.logprobs
    return list(zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True))


def test_alternatives_go_on_from_a_capsule(server: RunningServer) -> None:
    whole = post(server, prompt="cab", max_tokens=20, seed=SEED, logprobs=3).json["choices"][0]
    first = post(server, prompt="cab", max_tokens=8, seed=SEED, capsules="final").json
    capsule = first["choices"][0]["capsule"]
    second = post(server, capsule=capsule, max_tokens=12, logprobs=3).json["choices"][0]
    assert second["text"] == whole["text"][8:]
    assert second["logprobs"]["top_logprobs"] == whole["logprobs"]["top_logprobs"][8:]


def test_ids_may_begin_with_the_start_symbol_whose_place_has_the_null(
    theirs: openai.OpenAI, ours: Client
) -> None:
    """So harnesses give it, and then the first symbol after it has its score as well."""
    model = ours.get_model()
    ids = [model.vocabulary.index(each) for each in model.start_symbol + "cab"]
    scores = ours.score("cab").log_probs
    asked: dict[str, Any] = {
        "model": "small", "prompt": ids, "seed": SEED, "echo": True, "logprobs": 1,
    }  # fmt: skip
    right = theirs.completions.create(model="small", prompt="cab", max_tokens=3, seed=SEED)
    for tokens in (0, 3):
        made = theirs.completions.create(max_tokens=tokens, **asked).choices[0]
        assert made.text == model.start_symbol + "cab" + right.choices[0].text[:tokens]
        assert made.logprobs is not None
        assert (made.logprobs.token_logprobs or [])[:4] == [None, *scores]
        (first, *rest) = made.logprobs.top_logprobs or []
        assert first is None
        assert [top[symbol] for top, symbol in zip(rest, "cab", strict=False)] == list(scores)


def test_answer_with_alternatives_that_might_not_fit_is_refused(server: RunningServer) -> None:
    asked = {"prompt": "cab", "max_tokens": 10_000, "seed": SEED}
    assert len(post(server, logprobs=0, **asked).json["choices"][0]["text"]) == 10_000
    error = refused(server, logprobs=20, **asked)
    assert error["param"] == "max_tokens"


@pytest.mark.parametrize("wrong", [-1, 21])
def test_number_of_alternatives_is_named_as_its_client_calls_it(
    server: RunningServer, wrong: int
) -> None:
    error = refused(server, prompt="cab", logprobs=wrong)
    assert error["param"] == "logprobs"
    assert error["message"] == f"logprobs: must be 0 to 20, got {wrong}"


def test_session_goes_on_and_a_repeated_request_does_not_move_it(
    server: RunningServer, ours: Client
) -> None:
    session = ours.start_session()
    asked = {"prompt": "cab", "session": session.session_id, "seed": SEED, "expected_position": 0}
    first, again = post(server, **asked).json, post(server, **asked).json
    assert first["choices"] == again["choices"]
    assert first["choices"][0]["position"] == 19
    assert ours.get_session(session.session_id).position == 19
    late = post(server, **(asked | {"prompt": "dad"}))
    assert (late.status, late.json["error"]["code"]) == (409, "session_position")


def test_capsule_goes_on_at_the_other_door(server: RunningServer, ours: Client) -> None:
    options = GenerateOptions(max_new_symbols=30, seed=SEED, capsules=Capsules.NEVER)
    first = post(server, prompt="cab", max_tokens=10, seed=SEED, capsules="final").json
    second = post(server, capsule=first["choices"][0]["capsule"], max_tokens=20).json
    parts = first["choices"][0]["text"] + second["choices"][0]["text"]
    assert parts == ours.generate("cab", options).text


def test_text_matches_a_pattern_and_favours_symbols(theirs: openai.OpenAI, ours: Client) -> None:
    given = theirs.completions.create(
        model="small",
        prompt="abc",
        seed=5,
        max_tokens=40,
        logit_bias={"3": 4},
        extra_body={"pattern": "(?:a|b){9}"},
    )
    (choice,) = given.choices
    assert re.fullmatch("(?:a|b){9}", choice.text)
    assert choice.finish_reason == "stop"
    assert (choice.model_extra or {})["is_match"] is True
    symbol = ours.get_model("small").vocabulary[3]
    options = GenerateOptions(
        model="small", seed=5, max_new_symbols=40, pattern="(?:a|b){9}", logit_bias={symbol: 4.0}
    )
    assert ours.generate("abc", options).text == choice.text


def test_symbol_is_banned_by_strict_json(server: RunningServer, ours: Client) -> None:
    symbol = ours.get_model("small").vocabulary[3]
    asked = GenerateOptions(model="small", seed=5, max_new_symbols=200)
    banned = ours.generate("abc", replace(asked, logit_bias={symbol: -math.inf})).text
    assert symbol in ours.generate("abc", asked).text
    body = {"model": "small", "prompt": "abc", "seed": 5, "max_tokens": 200}
    answer = post(server, **body, logit_bias={"3": "-Infinity"}).json
    assert answer["choices"][0]["text"] == banned
    assert symbol not in banned


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
    assert ask(server, "POST", "/livez").status == 405


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


def test_stream_ends_with_done_and_is_not_kept_by_caches(server: RunningServer) -> None:
    answer = post(server, prompt="abc", stream=True)
    assert answer.body.endswith(b"\n\ndata: [DONE]\n\n")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


def test_quiet_stream_sends_comments_that_the_client_skips(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "QUIET_SECONDS", 0.01)
    with (
        serve(str(tiny_bundles["gru"]), slots=1, http_port=0) as running,
        RawRequest(running, PATH, {"prompt": "abc", "max_tokens": ENDLESS}),
    ):
        wait_for(lambda: len(running.sequences()) == 1)
        with RawRequest(running, PATH, {"prompt": "abc", "stream": True}) as waiting:
            assert waiting.read().startswith(b"HTTP/1.1 200 ")
            wait_for(lambda: b": the text is on its way\n\n" in waiting.read())


def test_stream_that_is_closed_frees_its_slot(server: RunningServer, theirs: openai.OpenAI) -> None:
    stream = theirs.completions.create(model="small", prompt="abc", max_tokens=ENDLESS, stream=True)
    next(iter(stream))
    (sequence,) = server.sequences()
    stream.close()
    wait_for(lambda: not server.sequences())
    assert sequence.generated < ENDLESS


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


def test_models_are_listed_and_described(theirs: openai.OpenAI, ours: Client) -> None:
    assert [each.id for each in theirs.models.list()] == ["small", "lstm"]
    assert theirs.models.retrieve("lstm").id == "lstm"
    with pytest.raises(openai.NotFoundError):
        theirs.models.retrieve("nobody")


def test_texts_and_token_ids_are_translated(server: RunningServer, ours: Client) -> None:
    url = server.server.http_address
    symbols = ours.get_model().vocabulary
    ids = httpx2.post(f"{url}/tokenize", json={"prompt": "cab£"}).json()["tokens"]
    assert "".join(symbols[each] for each in ids) == "cab£"
    back = httpx2.post(f"{url}/detokenize", json={"tokens": ids}).json()
    assert back == {"prompt": "cab£"}
    for wrong in ([11], 0, "a"):
        assert httpx2.post(f"{url}/detokenize", json={"tokens": wrong}).status_code == 400
    told = httpx2.get(f"{url}/tokenizer_info").json()
    assert (told["bos_token"], told["vocabulary_size"]) == ("\n", 11)


def test_answer_that_might_be_too_large_is_refused_before_it_is_made(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with serve(str(tiny_bundles["gru"]), max_message_bytes=65536, http_port=0) as running:
        error = refused(running, prompt=["abc"] * 8, max_tokens=10_000)
        assert error["param"] == "max_tokens"
        assert post(running, prompt="abc", max_tokens=10_000).status == 200
