"""Training loops as a course writes them: torch's modules and autograd, in fp32."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.streams import Position, Streams
from training.data.units import Units
from training.model.model import CharRNN


class TorchLoop:
    """Learns window after window; the state is carried and detached, and zero in a new epoch.

    Args:
        model: in training; its modules are called one by one.
        streams: what to read.
        optimizer: of the model's weights.
        clip: highest norm of the gradient; 0 leaves it as it is.
    """

    def __init__(
        self,
        model: CharRNN,
        streams: Streams | Units,
        optimizer: torch.optim.Optimizer,
        clip: float,
    ) -> None:
        self.model, self.streams, self.optimizer, self.clip = model, streams, optimizer, clip
        self._position = Position()
        self._state: Tensor | tuple[Tensor, Tensor] | None = None

    def update(self) -> float:
        """Learn from the next window; returns its loss in nats per symbol."""
        inputs, targets = self.streams.batch(self._position)  # (T, N) both
        outputs, state = self.model.recurrent(self.model.embedding(inputs), self._state)
        logits = self.model.decoder(outputs)  # (T, N, V)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self._position = self.streams.after(self._position)
        self._state = _detached(state) if self._position.window else None
        return loss.item()


def _detached(state: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
    if isinstance(state, Tensor):
        return state.detach()
    h, c = state
    return h.detach(), c.detach()
