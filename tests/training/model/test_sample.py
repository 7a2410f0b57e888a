"""Sampling in torch: what a row draws is its own."""

import math

import numpy as np
import pytest
import torch

from tests.training.model.test_model import build
from training.model.model import CharRNN
from training.model.sample import sample
from unroll.bundle.form import TextForm
from unroll.bundle.vocabulary import Vocabulary

VOCABULARY = Vocabulary("abcdefg", "a")


def draw(
    model: CharRNN, seeds: list[int], temperatures: list[float], symbols: int = 30
) -> list[str]:
    """Continue "ab" with a text for each seed."""
    uniforms = np.stack([np.random.default_rng(seed).random(symbols) for seed in seeds], axis=1)
    return sample(model, VOCABULARY, prompt="ab", uniforms=uniforms, temperatures=temperatures)


def test_row_among_others_draws_what_it_draws_alone() -> None:
    model = build("lstm")
    three = draw(model, [1, 2, 1], [1.0, 0.5, 1.0])
    assert draw(model, [2], [0.5]) == [three[1]]
    assert three[0] == three[2] != three[1]
    assert [len(text) for text in three] == [30, 30, 30]


def test_a_text_that_is_ended_is_the_beginning_of_the_whole_one() -> None:
    model, uniforms = build("lstm"), np.random.default_rng(1).random((30, 1))
    answers = iter([False, False, False, True])
    [cut] = sample(
        model,
        VOCABULARY,
        prompt="ab",
        uniforms=uniforms,
        temperatures=[1.0],
        is_over=lambda: next(answers),
    )
    [whole] = draw(model, [1], [1.0])
    assert cut == whole[:4]


def test_symbols_come_as_often_as_they_are_likely() -> None:
    model = build("gru")
    with torch.no_grad():
        model.decoder.weight.zero_()
        model.decoder.bias.copy_(torch.tensor([0.7, 0.3, 0, 0, 0, 0, 0]).log())
    [drawn] = draw(model, [7], [1.0], symbols=1000)
    assert set(drawn) == {"a", "b"}
    # Five standard deviations of a share of 1000 draws.
    assert drawn.count("a") / 1000 == pytest.approx(0.7, abs=5 * math.sqrt(0.21 / 1000))


@torch.no_grad()
def test_a_very_low_temperature_takes_the_likeliest_symbols() -> None:
    model = build("gru").eval()
    tokens, state = torch.tensor([[0], [1]]), model.zero_state(1)
    likeliest = []
    for _ in range(20):
        logits, state = model(tokens, state)
        tokens = logits[-1:].argmax(-1)
        likeliest.append(int(tokens))
    [drawn] = draw(model, [3], [1e-4], symbols=20)
    assert drawn == VOCABULARY.decode(likeliest)


def test_each_line_of_records_begins_anew() -> None:
    vocabulary = Vocabulary("\nbcdefg", "\n", TextForm(unit="record"))
    model, numbers = build("lstm"), np.random.default_rng(5).random((60, 1))
    [text] = sample(model, vocabulary, prompt="\n", uniforms=numbers, temperatures=[1.0])
    lines = text.splitlines(keepends=True)
    assert len(lines) > 3
    begin = 0
    for line in lines:
        of_line = numbers[begin : begin + len(line)]
        [alone] = sample(model, vocabulary, prompt="\n", uniforms=of_line, temperatures=[1.0])
        assert line == alone
        begin += len(line)


def test_model_stays_in_its_mode() -> None:
    model = build("gru").train()
    draw(model, [1], [1.0], symbols=2)
    assert model.training
