"""Updates are made short enough for a time budget, and left alone where they are."""

import time
from dataclasses import replace

import pytest
import torch

from tests.training.conftest import tiny_corpus, tiny_settings
from training.data.prepared import prepare_data
from training.model.initialisation import build_model
from training.model.model import CharRNN
from training.run.fitting import MEASURED, fit_updates, measure_update
from training.run.parallel import Group
from training.settings import TrainingSettings

MINUTE = tiny_settings(epochs=0, minutes=1.0, streams=32, window=64)  # 1.2 s an update at most


def fitted(seconds: float, settings: TrainingSettings = MINUTE) -> tuple[int, int]:
    """Streams and window where an update as it is set takes so many seconds."""
    model = build_model(settings, 5)
    symbols = settings.streams * settings.window
    each = seconds / symbols
    found = fit_updates(
        settings, model, Group(), lambda _, streams: each * streams * min(MEASURED, settings.window)
    )
    assert found == replace(settings, streams=found.streams, window=found.window)
    return found.streams, found.window


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.01, (32, 64)),
        (1.2, (32, 64)),
        (1.3, (16, 64)),
        (4.8, (8, 64)),
        (5.0, (8, 32)),
        (1000.0, (8, 16)),
    ],
)
def test_a_long_update_gets_fewer_streams_and_then_a_shorter_window(
    seconds: float, expected: tuple[int, int]
) -> None:
    assert fitted(seconds) == expected


def test_half_a_second_is_short_in_any_budget() -> None:
    assert fitted(0.5, replace(MINUTE, minutes=0.01)) == (32, 64)


def test_a_training_of_epochs_is_not_measured() -> None:
    assert fitted(1000.0, replace(MINUTE, minutes=0.0, epochs=1)) == (32, 64)


def test_streams_that_processes_could_not_share_stay() -> None:
    assert fitted(1000.0, replace(MINUTE, streams=33)) == (33, 16)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn_tanh"])
def test_measuring_leaves_weights_gradients_and_random_numbers_as_they_were(cell: str) -> None:
    settings = tiny_settings(cell=cell, members=2, dropout=0.3, weight_dropout=0.2)
    model: CharRNN = build_model(settings, len(prepare_data(tiny_corpus(), settings).vocabulary))
    model.train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    random = torch.get_rng_state()
    begun = time.monotonic()
    assert 0 < measure_update(model, 7) < time.monotonic() - begun
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
