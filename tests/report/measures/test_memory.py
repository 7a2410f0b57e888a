"""Memory lengths of models that forget or never do."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from report.measures.memory import THRESHOLD, divergence, measure_memory, memory_length
from tests.report.models import V, a_model, set_weights

IDS = torch.randint(V, (400,), generator=torch.Generator().manual_seed(3))


def test_divergence_is_kl_of_the_two_predictions() -> None:
    model = a_model("gru")
    true = {"h": torch.full((1, 2, 4), 0.5)}
    other = {"h": torch.full((1, 2, 4), -0.5)}
    tokens = torch.tensor([[0, 1], [2, 3]])  # (K, N)
    found = divergence(model, true, other, tokens)
    with torch.no_grad():
        p, q = (F.softmax(model(tokens, s)[0].double(), -1) for s in (true, other))  # (K, N, V)
    expected = (p * (p / q).log()).sum(-1).mean(1)
    assert math.isnan(found[0])
    assert np.allclose(found[1:], expected.numpy())
    assert found[1] > 1e-3


def test_a_model_without_recurrence_has_forgotten_after_one_symbol() -> None:
    model = a_model("rnn_tanh")
    set_weights(model, "weight_hh", 0.0)
    memory = measure_memory(model, IDS, rows=4, past=20, reach=15)
    assert memory.prefix[1:].tolist() == [0.0] * 15
    assert (memory.length, memory.symbol_length) == (1, 1)


def test_a_model_that_counts_never_forgets() -> None:
    model = a_model("rnn_relu")
    set_weights(model, "weight_hh", torch.eye(4))
    for part in ("bias", "weight_ih", "embedding", "decoder"):
        set_weights(model, part, 0.0)
    with torch.no_grad():  # unit 0 counts symbol 0, and the decoder looks at it
        model.embedding.weight[0] = 1.0
        model.get_parameter("recurrent.weight_ih_l0")[0] = 1 / 3
        model.decoder.weight[:2, 0] = torch.tensor([0.1, -0.1])
    none, many = IDS[IDS != 0], IDS.where(IDS > 2, 0)
    memory = measure_memory(model, torch.cat([none, many]), rows=6, past=100, reach=30)
    assert memory.symbol.shape == memory.prefix.shape == (31,)
    assert memory.length is None
    assert (memory.prefix[1:] > THRESHOLD).all()


@pytest.mark.parametrize(
    ("divergences", "length"),
    [
        ([9.0, 0.001, 0.001], 1),
        ([9.0, 1.0, 0.001, 1.0, 0.001, 0.0], 4),
        ([9.0, 1.0, 1.0], None),
        ([9.0, 1.0, THRESHOLD, 0.0], 3),
    ],
)
def test_memory_ends_where_the_change_stays_below_the_threshold(
    divergences: list[float], length: int | None
) -> None:
    assert memory_length(np.array(divergences)) == length
