"""Surprise and written texts against the slow way, one symbol at a time."""

import math

import numpy as np
import pytest
import torch

from report.authors.writing import write
from report.measures.surprise import compare, surprise
from tests.report.models import V, a_model
from training.sample import sample
from unroll.bundle.vocabulary import Vocabulary

IDS = torch.randint(V, (13,), generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_surprise_is_the_negative_log_probability_of_each_symbol_after_its_own_stretch() -> None:
    model = a_model("gru")
    found = surprise(model, IDS, streams=2, warm_up=2)
    assert found.shape == (2, 4)
    for stretch in range(2):
        ids = IDS[6 * stretch : 6 * stretch + 6]
        for place in range(2, 6):
            logits, _ = model(ids[:place, None], model.zero_state(1))
            p = torch.softmax(logits[-1, 0], 0)[ids[place]]
            assert found[stretch, place - 2] == pytest.approx(-math.log(p), rel=1e-4)


def test_a_difference_is_measurable_if_it_is_more_than_two_errors() -> None:
    first = np.zeros((4, 3))
    second = np.array([[1.0] * 3, [2.0] * 3, [3.0] * 3, [2.0] * 3])
    found = compare(first, second)
    assert found.value == 2.0
    assert found.error == pytest.approx(math.sqrt(2 / 3) / 2)
    assert found.is_measurable
    swung = compare(first, second - 2.0 + 0.5)
    assert not swung.is_measurable
    assert compare(second, first).value == -2.0


def test_same_seed_writes_the_same_and_rows_draw_by_themselves() -> None:
    model, vocabulary = a_model("lstm"), Vocabulary("\nabcd", "\n")

    def texts(temperatures: list[float], seed: int) -> list[str]:
        return write(
            model, vocabulary, prompt="\na", symbols=40, temperatures=temperatures, seed=seed
        )

    three = texts([1.0, 0.5, 1.0], 11)
    assert texts([1.0, 0.5, 1.0], 11) == three
    assert texts([0.5], 12) == [three[1]]
    assert len({*three, *texts([1.0], 14)}) == 4
    assert [len(text) for text in three] == [40, 40, 40]


def test_a_very_low_temperature_takes_the_likeliest_symbols() -> None:
    model, vocabulary = a_model("gru"), Vocabulary("\nabcd", "\n")
    [text] = write(model, vocabulary, prompt="\n", symbols=20, temperatures=[1e-4], seed=1)
    slow = sample(model, vocabulary, prompt="\n", symbols=20, seed=2, temperature=1e-4)
    assert text == slow
