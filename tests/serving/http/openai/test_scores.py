"""OpenAI's own client gets the scores and alternatives that our clients get."""

import json
from itertools import chain
from typing import Any

import openai
import pytest

from tests.serving.http.openai.completions import SEED, post, refused
from tests.serving.running import RunningServer
from unroll.client.client import Client
from unroll.options import GenerateOptions


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
