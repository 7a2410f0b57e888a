"""Surprise against the slow way, one symbol at a time."""

import math

import numpy as np
import pytest
import torch

from report.measures.surprise import compare, surprise
from tests.report.models import V, a_model

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
