"""Texts through a real server: what comes out depends on what was asked, and on nothing else."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import TINY_SYMBOLS
from tests.serving.running import ENDLESS
from unroll.client.client import Client
from unroll.errors import InputError, UnknownModelError, UnknownSymbolError
from unroll.options import GenerateOptions, ScoreOptions
from unroll.terms import FinishReason, UnknownSymbols

SKIP, REPLACE = UnknownSymbols.SKIP, UnknownSymbols.REPLACE


def options(**values: object) -> GenerateOptions:
    return GenerateOptions(**{"max_new_symbols": 300, "seed": 7, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["small", "lstm"])
@pytest.mark.parametrize(
    "asked",
    [
        options(),
        options(temperature=0.0),
        options(temperature=0.8, top_k=5, top_p=0.9, min_p=0.01),
        options(stop=("a b", "£\n", "hh")),
    ],
    ids=["plain", "greedy", "filters", "stops"],
)
def test_stream_joined_is_the_text_of_generate(
    client: Client, model: str, asked: GenerateOptions
) -> None:
    asked = GenerateOptions(**{**vars(asked), "model": model, "log_probs": True})
    whole = client.generate("abc £", asked)
    pieces = list(client.stream("abc £", asked))
    assert "".join(piece.text for piece in pieces) == whole.text
    assert tuple(p for piece in pieces for p in piece.log_probs) == whole.log_probs
    assert [piece.completion for piece in pieces] == [None] * (len(pieces) - 1) + [whole.completion]
    assert all(piece.text for piece in pieces[:-1])
    assert len(whole.log_probs) == len(whole.text)


def test_same_seed_gives_the_same_text_whatever_runs_beside_it(client: Client) -> None:
    alone = client.generate("abc", options()).text
    assert len(alone) == 300
    with ThreadPoolExecutor(24) as pool:
        others = [
            pool.submit(client.generate, "h" * n, options(seed=n, temperature=0.5 + n / 20))
            for n in range(16)
        ]
        again = [pool.submit(client.generate, "abc", options()) for _ in range(6)]
        assert {future.result().text for future in again} == {alone}
        assert len({future.result().text for future in others}) == 16


def test_seed_that_the_server_chose_gives_the_text_again(client: Client) -> None:
    first, second = (client.generate("abc", options(seed=None)) for _ in range(2))
    assert first.completion.seed != second.completion.seed
    assert first.text != second.text
    assert client.generate("abc", options(seed=first.completion.seed)) == first


def test_seeds_at_the_ends_of_their_range_work(client: Client) -> None:
    texts = {client.generate("abc", options(seed=seed)).text for seed in (0, 1, 2**63 - 1)}
    assert len(texts) == 3


def test_log_probs_of_a_text_are_its_score_bit_for_bit(client: Client) -> None:
    prompt = "abc £ def"
    written = client.generate(prompt, options(log_probs=True, temperature=0.7))
    score = client.score(prompt + written.text)
    assert score.log_probs[len(prompt) :] == written.log_probs
    mean = -math.fsum(score.log_probs) / len(score.log_probs) / math.log(2)
    assert score.bits_per_character == pytest.approx(mean, rel=1e-12)
    assert score.usage.prompt_symbols == len(prompt) + 300
    assert score.fingerprint == written.completion.fingerprint


def test_log_probs_come_only_if_asked_for(client: Client) -> None:
    assert client.generate("abc", options()).log_probs == ()
    assert all(not piece.log_probs for piece in client.stream("abc", options()))


def test_empty_prompt_continues_the_start_symbol(client: Client) -> None:
    written = client.generate("", options(max_new_symbols=5, log_probs=True))
    assert written.completion.usage.prompt_symbols == 0
    assert client.score(written.text).log_probs == written.log_probs


def test_text_ends_before_the_first_stop_string(client: Client) -> None:
    free = client.generate("abc", options()).text
    stop = free[100:103]
    stopped = client.generate("abc", options(stop=("zzz", stop)))
    end = free.index(stop)
    assert stopped.text == free[:end]
    assert stopped.completion.finish_reason is FinishReason.STOP
    assert stopped.completion.usage.generated_symbols == end + len(stop)


def test_end_by_length_is_told(client: Client) -> None:
    written = client.generate("abc", options(max_new_symbols=3))
    assert written.completion.finish_reason is FinishReason.LENGTH
    assert written.completion.usage.generated_symbols == len(written.text) == 3


def test_default_length_is_256_symbols(client: Client) -> None:
    assert len(client.generate("abc").text) == 256


def test_unknown_symbols_are_refused_by_name_and_place(client: Client) -> None:
    with pytest.raises(UnknownSymbolError, match=r"prompt: 2 of 4 .*'한' \(U\+D55C\) at 1.*'🐈'"):
        client.generate("a한b🐈")
    with pytest.raises(UnknownSymbolError, match="text: 1 of 1"):
        client.score("한")


@pytest.mark.parametrize(
    ("asked", "equal"),
    [
        ({"unknown_symbols": SKIP}, "ab"),
        ({"unknown_symbols": REPLACE, "replacement_symbol": "£"}, "a£b££"),
    ],
    ids=["skipped", "replaced"],
)
def test_unknown_symbols_are_skipped_or_replaced(
    client: Client, asked: dict[str, object], equal: str
) -> None:
    written = client.generate("a한b🐈글", options(**asked))
    assert written.text == client.generate(equal, options()).text
    assert written.completion.usage.unknown_symbols == 3
    assert written.completion.usage.prompt_symbols == len(equal)
    score = client.score("a한b🐈글", ScoreOptions(**asked))  # type: ignore[arg-type]
    assert score.log_probs == client.score(equal).log_probs
    assert score.usage.unknown_symbols == 3


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("max_new_symbols", {"max_new_symbols": -1}),
        ("max_new_symbols", {"max_new_symbols": ENDLESS + 1}),
        ("max_new_symbols", {"max_new_symbols": 2**40}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**63}),
        ("temperature", {"temperature": -1.0}),
        ("temperature", {"temperature": 0.0001}),
        ("temperature", {"temperature": math.nan}),
        ("temperature", {"temperature": math.inf}),
        ("top_k", {"top_k": -1}),
        ("top_p", {"top_p": 0.0}),
        ("top_p", {"top_p": 1.5}),
        ("top_p", {"top_p": math.nan}),
        ("min_p", {"min_p": -0.5}),
        ("min_p", {"min_p": math.nan}),
        ("stop", {"stop": ("a",) * 9}),
        ("stop[1]", {"stop": ("a", "")}),
        ("stop[0]", {"stop": ("a" * 257,)}),
        ("stop[0]", {"stop": ("\ud800",)}),
        ("replacement_symbol", {"replacement_symbol": "a"}),
        ("replacement_symbol", {"unknown_symbols": SKIP, "replacement_symbol": "a"}),
        ("replacement_symbol", {"unknown_symbols": REPLACE}),
        ("replacement_symbol", {"unknown_symbols": REPLACE, "replacement_symbol": "x"}),
        ("replacement_symbol", {"unknown_symbols": REPLACE, "replacement_symbol": "ab"}),
        ("model", {"model": "smal"}),
    ],
)
def test_field_out_of_its_range_is_named(
    client: Client, field: str, asked: dict[str, object]
) -> None:
    for call in (client.generate, lambda *request: list(client.stream(*request))):
        with pytest.raises(InputError) as caught:
            call("abc", options(**asked))
        assert caught.value.field == field
        assert str(caught.value).startswith(f"{field}: ")


def test_text_that_is_too_long_or_empty_is_refused(client: Client) -> None:
    with pytest.raises(InputError, match="prompt: has 65537 symbols, this server takes 65536"):
        client.generate("a" * 65537)
    with pytest.raises(InputError, match="text: has 1000001 symbols, this server takes 1000000"):
        client.score("a" * 1_000_001)
    for asked in (ScoreOptions(), ScoreOptions(unknown_symbols=SKIP)):
        with pytest.raises(InputError, match="text: has no symbol to score"):
            client.score("한" if asked.unknown_symbols is SKIP else "", asked)


def test_unknown_model_is_not_found_and_the_nearest_is_named(client: Client) -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'small'"):
        client.get_model("smal")
    with pytest.raises(UnknownModelError, match="known: lstm, small"):
        client.score("abc", ScoreOptions(model="x" * 100_000))


def test_many_models_have_texts_of_their_own(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = ["small", "lstm"] * 8
        texts = pool.map(lambda name: client.generate("abc", options(model=name)).text, names)
        assert len(set(zip(names, texts, strict=True))) == 2
    assert client.generate("abc", options()) == client.generate("abc", options(model="small"))


def test_models_describe_themselves(client: Client) -> None:
    small, lstm = client.list_models()
    assert (small.name, small.cell, lstm.name, lstm.cell) == ("small", "gru", "lstm", "lstm")
    assert (small.vocabulary, small.start_symbol) == (TINY_SYMBOLS, "\n")
    assert (small.layers, small.hidden_size, small.precision) == (3, 7, "fp32")
    assert small.validation_loss == 2.375
    assert small.runtime.startswith("onnxruntime 1.")
    assert small.execution_provider == "CPUExecutionProvider"
    assert client.get_model() == small
    assert client.get_model("lstm") == lstm
    assert client.generate("abc").completion.fingerprint == small.fingerprint != lstm.fingerprint
