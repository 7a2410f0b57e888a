"""Everything a training's future depends on, as one explicit value.

It serves three purposes: going back after an explosion, saving when stopped, and resuming bit
for bit.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.data.streams import Position
from training.model.model import CharRNN, State
from training.model.optimizer import moments, restore_moments


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training has come; all of it fits in JSON."""

    update: int = 0
    """Updates done."""

    position: Position = field(default_factory=Position)
    """Place of the next window."""

    elapsed: float = 0.0
    """Seconds of training, validation and samples included."""

    reserve: float = 0.0
    """Seconds that the last validation, sample and saving took together."""

    measuring: float = 0.0
    """Seconds of all of these so far."""

    validation_steps: int = 0
    """Symbols that a validation reads of each of its streams; 0 until the first one has decided."""

    rate_scale: float = 1.0
    """Factor of the learning rate; halved at every explosion."""

    rollbacks: int = 0
    """Explosions so far."""

    loss_sum: float = 0.0
    """Sum of the training losses since the last milestone, in nats per symbol."""

    loss_count: int = 0
    """Number of the losses in that sum."""

    best_loss: float = math.inf
    """The lowest loss that a checkpoint was kept for."""

    since_best: int = 0
    """Milestones since then."""


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A training between two updates."""

    progress: Progress
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    recurrent: State
    random: dict[str, Tensor]


def capture(
    progress: Progress, model: CharRNN, optimizer: torch.optim.Optimizer, recurrent: State
) -> TrainingState:
    """Copy the state of a training."""
    return TrainingState(
        progress=progress,
        weights={name: weight.detach().clone() for name, weight in model.state_dict().items()},
        moments=moments(model, optimizer),
        recurrent={name: tensor.detach().clone() for name, tensor in recurrent.items()},
        random=random_state(model.decoder.weight.device),
    )


def restore(
    state: TrainingState, model: CharRNN, optimizer: torch.optim.Optimizer
) -> tuple[Progress, State]:
    """Put a copied state back; returns the progress and the recurrent state to go on from."""
    device = model.decoder.weight.device
    model.load_state_dict(state.weights)
    restore_moments(model, optimizer, state.moments)
    torch.set_rng_state(state.random["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state.random:  # not of a training on the CPU
        torch.cuda.set_rng_state(state.random["cuda"].cpu(), device)
    recurrent = {name: tensor.to(device, copy=True) for name, tensor in state.recurrent.items()}
    return state.progress, recurrent


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Copy the states of the generators that a training on this device draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
