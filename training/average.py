"""A moving average of the weights while they are trained (Polyak and Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps an average of a model's weights beside them.

    Until the average has seen 10 / (1 - decay) updates or so it forgets faster than `decay`, so
    that the initial weights leave it.

    Args:
        model: the one in training.
        decay: share of the average that an update keeps, in [0, 1); 0 follows the weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._weights = list(model.state_dict(keep_vars=True).values())
        self._average = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self, update: int) -> None:
        """Take the weights in, after so many updates, this one included."""
        decay = min(self._decay, update / (update + 10))
        torch._foreach_lerp_(self._average, self._weights, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the weights' place for the length of a block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for weight, average in zip(self._weights, self._average, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """Copy the average, under the weights' names."""
        names = self._model.state_dict()
        return {name: tensor.clone() for name, tensor in zip(names, self._average, strict=True)}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take an average back from its copy."""
        for name, average in zip(self._model.state_dict(), self._average, strict=True):
            average.copy_(tensors[name])
