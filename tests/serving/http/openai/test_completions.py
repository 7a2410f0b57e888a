"""OpenAI's own client gets the texts that our clients get."""

import asyncio
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from serving.http.openai import completions
from tests.serving.http.asking import RawRequest
from tests.serving.http.openai.completions import PATH, SEED, joined, post
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions
from unroll.terms import Capsules


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
