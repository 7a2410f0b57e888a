"""Initial weights, chosen for each cell."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.model.device import resolve_precision
from training.model.model import CharRNN, ModelSettings
from training.settings import TrainingSettings

EMBEDDING_STD = 0.3
RELU_MEMORY = 0.9  # identity itself never forgets: its carried state grows from window to window
# A ReLU layer's output is never negative, so the layer above, were it like the first, would add it
# up to ten times: three layers started at a loss of 63 and exploded at any rate. With 0.5, and
# input weights half as large, it repeats a constant input; a larger memory learned little but the
# frequencies of the symbols.
RELU_MEMORY_ABOVE = 0.5
FORGET_BIAS = 1.0


def build_model(settings: TrainingSettings, vocabulary_size: int) -> CharRNN:
    """Return the model that settings describe, with its initial weights, on its device."""
    model = CharRNN(
        ModelSettings(
            cell=settings.cell,
            vocabulary_size=vocabulary_size,
            embedding_size=settings.embedding_size,
            hidden_size=settings.hidden_size,
            layers=settings.layers,
            members=settings.members,
            dropout=settings.dropout,
            weight_dropout=settings.weight_dropout,
        )
    )
    model.precision = resolve_precision(settings.precision, settings.device)
    if settings.init == "tuned":
        initialise(model)
    return model.to(settings.device)


@torch.no_grad()
def initialise(model: CharRNN) -> None:
    """Give a model initial weights that suit its cell, from torch's default generator.

    Recurrent weights are orthogonal for each gate, or a part of the identity for ReLU (Le, Jaitly
    and Hinton 2015); input weights are Glorot uniform for each gate, or half of it for a ReLU layer
    above another; biases are zero, but for the LSTM's forget gate, whose two biases add up to 1
    (Jozefowicz and others 2015).
    """
    nn.init.normal_(model.embedding.weight, std=EMBEDDING_STD)
    nn.init.zeros_(model.decoder.bias)
    for network in model.networks:
        nn.init.xavier_uniform_(network.decoder)
        _initialise_recurrent(network.recurrent, model.settings)


def _initialise_recurrent(weights: Mapping[str, Tensor], settings: ModelSettings) -> None:
    H = settings.hidden_size
    for name, weight in weights.items():
        if name.startswith("bias_"):
            nn.init.zeros_(weight)
        for gate in torch.split(weight, H) if weight.dim() == 2 else ():
            _initialise_gate(gate, name, settings.cell)
        if name.startswith("bias_ih") and settings.cell == "lstm":
            weight[H : 2 * H] = FORGET_BIAS  # torch orders i, f, g, o; bias_hh stays zero


def _initialise_gate(gate: Tensor, name: str, cell: str) -> None:
    above = cell == "rnn_relu" and not name.endswith("_l0")
    if name.startswith("weight_ih"):
        nn.init.xavier_uniform_(gate, gain=1 - RELU_MEMORY_ABOVE if above else 1.0)
    elif cell == "rnn_relu":
        gate.copy_((RELU_MEMORY_ABOVE if above else RELU_MEMORY) * torch.eye(len(gate)))
    else:
        nn.init.orthogonal_(gate)
