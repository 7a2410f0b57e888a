"""The optimizer, and its moments as plain named tensors."""

from collections.abc import Mapping
from inspect import unwrap

import torch
from torch import Tensor

from training.model.model import CharRNN
from training.settings import TrainingSettings

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class _Uncompiled(torch.optim.Optimizer):
    """Spares a training the import of torch's compiler, 1.4 s, which it does not use.

    torch wraps these methods for those who compile them, and the wrappers import it.
    """

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class _Adam(_Uncompiled, torch.optim.Adam):
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class _AdamW(_Uncompiled, torch.optim.AdamW):
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


def build_optimizer(model: CharRNN, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return Adam or AdamW over a model's weights; only its matrices decay.

    The embedding is left out of the decay: most of its rows see no gradient in most updates.
    """
    matrices = [p for name, p in model.named_parameters() if p.dim() > 1 and "embed" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    cls = _AdamW if settings.optimizer == "adamw" else _Adam
    return cls(groups, lr=settings.learning_rate, betas=(0.9, settings.beta2), fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def moments(model: CharRNN, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copy the optimizer's tensors, named `WEIGHT.MOMENT`; none before the first update."""
    return {
        f"{name}.{moment}": tensor.clone()
        for name, weight in model.named_parameters()
        for moment, tensor in optimizer.state[weight].items()
    }


def restore_moments(
    model: CharRNN, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put copied tensors back in place of what the optimizer holds."""
    optimizer.state.clear()
    for name, weight in model.named_parameters():
        if tensors:
            optimizer.state[weight] = {
                moment: tensors[f"{name}.{moment}"].to(weight.device, copy=True)
                for moment in MOMENTS
            }
