"""Tiny models whose answers are known."""

import torch

from training.model.model import CharRNN, ModelSettings
from training.settings import Cell

V = 5


def a_model(cell: Cell, *, hidden: int = 4, layers: int = 1, symbols: int = V) -> CharRNN:
    """Make a model with random weights, always the same."""
    settings = ModelSettings(
        cell=cell, vocabulary_size=symbols, embedding_size=3, hidden_size=hidden, layers=layers
    )
    with torch.random.fork_rng():
        torch.manual_seed(hidden + layers)
        return CharRNN(settings).eval()


@torch.no_grad()
def set_weights(model: CharRNN, part: str, value: torch.Tensor | float) -> None:
    """Set all weights whose name holds a part."""
    named = [weight for name, weight in model.named_parameters() if part in name]
    assert named, part
    for weight in named:
        weight.copy_(torch.as_tensor(value, dtype=weight.dtype).expand(weight.shape))
