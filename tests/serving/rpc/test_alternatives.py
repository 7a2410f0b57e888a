"""Alternatives through a real server: in every method that tells of symbols, the same floats."""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.before import without_graphs
from tests.conftest import TINY_SYMBOLS
from tests.serving.running import serve
from training.settings import Cell
from unroll.bundle.manifest import DECODE_CONSTRAINED, DECODE_FULL
from unroll.client.client import Client
from unroll.errors import InputError
from unroll.options import GenerateOptions, ScoreOptions
from unroll.results import Alternatives
from unroll.terms import Capsules

PROMPT = "abc £"
OPTIONS = GenerateOptions(max_new_symbols=90, seed=7, log_probs=True, top_log_probs=5)
SCORE = ScoreOptions(top_log_probs=5)


def told(pieces: Iterable[object]) -> tuple[Alternatives, ...]:
    """Join the alternatives of pieces."""
    return tuple(each for piece in pieces for each in piece.alternatives)  # type: ignore[attr-defined]


@pytest.fixture(scope="module", params=["small", "lstm"])
def asked(request: pytest.FixtureRequest) -> GenerateOptions:
    return GenerateOptions(**{**vars(OPTIONS), "model": request.param})


def test_alternatives_of_a_text_are_those_of_its_score(
    client: Client, asked: GenerateOptions
) -> None:
    written = client.generate(PROMPT, asked)
    score = client.score(PROMPT + written.text, ScoreOptions(model=asked.model, top_log_probs=5))
    assert len(written.alternatives) == len(written.text) == 90
    assert score.alternatives[len(PROMPT) :] == written.alternatives
    for symbol, log_prob, each in zip(
        PROMPT + written.text, score.log_probs, score.alternatives, strict=True
    ):
        assert len(each.symbols) == len(each.log_probs) == 5
        if symbol in each.symbols:
            assert each.log_probs[each.symbols.index(symbol)] == log_prob
        else:
            assert log_prob <= each.log_probs[-1]


def test_stream_joined_has_the_alternatives_of_generate(
    client: Client, asked: GenerateOptions
) -> None:
    for more in ({}, {"stop": ("ab", "c£", "hh")}, {"sample_count": 3}):
        options = GenerateOptions(**{**vars(asked), **more})
        whole = client.generate(PROMPT, options)
        pieces = list(client.stream(PROMPT, options))
        assert all(len(piece.alternatives) == len(piece.text) for piece in pieces)
        for index, sample in enumerate((whole, *whole.further_samples)):
            assert sample.text
            mine = [piece for piece in pieces if piece.sample_index == index]
            assert told(mine) == sample.alternatives


def test_text_is_the_same_with_alternatives_and_they_come_only_if_asked_for(
    client: Client, asked: GenerateOptions
) -> None:
    plain = client.generate(PROMPT, GenerateOptions(**{**vars(asked), "top_log_probs": 0}))
    written = client.generate(PROMPT, asked)
    assert (plain.text, plain.log_probs) == (written.text, written.log_probs)
    assert plain.alternatives == ()
    assert client.score("abc").alternatives == ()


def test_alternatives_are_the_same_whatever_runs_beside_them(client: Client) -> None:
    def ask(count: int, **more: Any) -> GenerateOptions:
        return GenerateOptions(**{**vars(OPTIONS), "top_log_probs": count, **more})

    requests = [ask(seed % 4 * 3, seed=seed, top_k=seed % 5) for seed in range(24)]
    alone = [client.generate(PROMPT, each) for each in requests]
    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(lambda each: client.generate(PROMPT, each), requests))
    assert together == alone


def test_vocabulary_smaller_than_what_is_asked_for_is_told_whole(client: Client) -> None:
    (first, *_) = client.score("abc", ScoreOptions(top_log_probs=20)).alternatives
    assert sorted(first.symbols) == sorted(TINY_SYMBOLS)


def test_greedy_symbol_is_the_first_alternative(client: Client) -> None:
    greedy = GenerateOptions(**{**vars(OPTIONS), "temperature": 0.0})
    written = client.generate(PROMPT, greedy)
    assert "".join(each.symbols[0] for each in written.alternatives) == written.text
    assert tuple(each.log_probs[0] for each in written.alternatives) == written.log_probs


def test_sessions_and_capsules_go_on_with_the_same_alternatives(client: Client) -> None:
    whole = client.generate(PROMPT, OPTIONS)
    first = client.generate(PROMPT, GenerateOptions(max_new_symbols=40, seed=7))
    rest = GenerateOptions(max_new_symbols=50, top_log_probs=5)
    assert client.generate("", rest, capsule=first.capsule).alternatives == whole.alternatives[40:]
    scored = client.score(whole.text[40:], SCORE, capsule=first.capsule)
    assert scored.alternatives == whole.alternatives[40:]
    session = client.start_session()
    session.generate(PROMPT, GenerateOptions(max_new_symbols=40, seed=7))
    assert session.score(whole.text[40:], SCORE).alternatives == whole.alternatives[40:]
    assert session.generate("", rest).alternatives == whole.alternatives[40:]


def test_a_stream_goes_on_from_each_of_its_capsules(client: Client) -> None:
    options = GenerateOptions(**{**vars(OPTIONS), "capsules": Capsules.EVERY_CHUNK})
    pieces = list(client.stream(PROMPT, options))
    done = 0
    for piece in pieces[:-1]:
        done += len(piece.text)
        rest = GenerateOptions(max_new_symbols=90 - done, top_log_probs=5)
        again = client.generate("", rest, capsule=piece.capsule)
        assert again.alternatives == told(pieces)[done:]


def test_many_texts_have_the_alternatives_of_each(client: Client) -> None:
    prompts = ["abc", "", "head" * 9]
    for answer in client.generate_many(prompts, OPTIONS):
        alone = GenerateOptions(**{**vars(OPTIONS), "seed": 7 + answer.index})
        expected = client.generate(prompts[answer.index], alone)
        assert answer.result.alternatives == expected.alternatives
    for scored in client.score_many(["abc", "dead" * 9], SCORE, in_order=True):
        text = ["abc", "dead" * 9][scored.index]
        assert scored.result.alternatives == client.score(text, SCORE).alternatives


@pytest.mark.parametrize("wrong", [-1, 21, 2**31 - 1])
def test_number_out_of_its_range_is_named(client: Client, wrong: int) -> None:
    options = GenerateOptions(top_log_probs=wrong)
    for call in (
        lambda: client.generate("a", options),
        lambda: list(client.stream("a", options)),
        lambda: client.score("a", ScoreOptions(top_log_probs=wrong)),
    ):
        with pytest.raises(InputError, match=f"top_log_probs: must be 0 to 20, got {wrong}"):
            call()


def test_answer_that_might_not_fit_is_refused(client: Client) -> None:
    options = GenerateOptions(max_new_symbols=60_000, top_log_probs=20, sample_count=2)
    with pytest.raises(InputError, match="sample_count: 2 x 60000 symbols may take"):
        client.generate("a", options)
    with pytest.raises(InputError, match=r"text: has 120000 symbols, whose scores may take"):
        client.score("abcd" * 30_000, ScoreOptions(top_log_probs=20))


def test_bundle_of_before_tells_to_export_again(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    old = Path(shutil.copytree(tiny_bundles["gru"], tmp_path / "old"))
    without_graphs(old, DECODE_CONSTRAINED, DECODE_FULL)
    with serve(str(old)) as running, running.client() as client:
        for call in (
            lambda: client.generate("a", OPTIONS),
            lambda: list(client.stream("a", OPTIONS)),
            lambda: client.score("a", SCORE),
        ):
            with pytest.raises(InputError, match="export the checkpoint again") as caught:
                call()
            assert caught.value.field == "top_log_probs"
        (many,) = client.generate_many(["a"], OPTIONS)
        assert "export the checkpoint again" in str(many.error)
        schema = GenerateOptions(json_schema='{"type": "boolean"}')  # with symbols it has not
        with pytest.raises(InputError, match=r"^json_schema: .*export the checkpoint again"):
            client.generate("a", schema)
        assert client.generate("abc", GenerateOptions(max_new_symbols=5)).text
