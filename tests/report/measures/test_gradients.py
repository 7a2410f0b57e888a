"""Norms of gradients against closed forms and against finite differences."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from report.measures.gradients import decay_per_step, gradient_norms
from tests.report.models import V, a_model, set_weights
from training.model.model import CELLS
from training.settings import Cell

TOKENS = torch.randint(V, (9, 3), generator=torch.Generator().manual_seed(7))  # (K + 1, N)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_a_linear_network_multiplies_the_gradient_by_its_factor_each_step(factor: float) -> None:
    model = a_model("rnn_relu")
    # Inputs keep every unit above zero, where ReLU is the identity: h_t = factor h_(t-1) + 1.
    set_weights(model, "weight_ih", 0.0)
    set_weights(model, "bias_ih", 1.0)
    set_weights(model, "bias_hh", 0.0)
    set_weights(model, "weight_hh", factor * torch.eye(4))
    norms = gradient_norms(model, TOKENS)["h"]
    assert norms.shape == (7,)
    ratios = norms[1:] / norms[:-1]
    assert np.allclose(ratios, factor, rtol=1e-4)
    assert decay_per_step(norms) == pytest.approx(factor, rel=1e-4)
    # At k = 1 the gradient is factor (p - y) D, D being the decoder's weights.
    with torch.no_grad():
        logits, _ = model(TOKENS[:-1], model.zero_state(3))
        miss = torch.softmax(logits[-1], -1) - F.one_hot(TOKENS[-1], V)
        expected = factor * (miss @ model.decoder.weight).norm(dim=1)  # (N,)
    assert norms[0] == pytest.approx(float(expected.log().mean().exp()), rel=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_finite_differences(cell: Cell) -> None:
    model = a_model(cell, layers=2).double()
    tokens, k, step = TOKENS[:, :1], 3, 1e-6
    norms = gradient_norms(model, tokens)
    with torch.no_grad():
        _, middle = model(tokens[: -1 - k], model.zero_state(1))

        def loss(name: str, place: int, by: float) -> float:
            changed = {each: tensor.clone() for each, tensor in middle.items()}
            changed[name].view(-1)[place] += by
            logits, _ = model(tokens[-1 - k : -1], changed)
            return float(F.cross_entropy(logits[-1], tokens[-1]))

        for name, tensor in middle.items():
            slopes = [
                (loss(name, i, step) - loss(name, i, -step)) / (2 * step)
                for i in range(tensor.numel())
            ]
            assert norms[name][k - 1] == pytest.approx(np.linalg.norm(slopes), rel=1e-4)


def test_a_network_without_recurrence_has_no_gradient_from_the_past() -> None:
    model = a_model("rnn_tanh")
    set_weights(model, "weight_hh", 0.0)
    norms = gradient_norms(model, TOKENS)["h"]
    assert norms.tolist() == [0.0] * 7
    assert decay_per_step(norms) is None


def test_what_is_only_read_first_changes_the_state_and_not_the_reach() -> None:
    model = a_model("gru")
    all_of_it, late = gradient_norms(model, TOKENS)["h"], gradient_norms(model, TOKENS, past=4)["h"]
    assert late.shape == (3,)
    assert np.allclose(late, all_of_it[:3])
