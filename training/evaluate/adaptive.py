"""Dynamic evaluation: a model that goes on learning from the text it is judged on.

The text is read as one stream in segments. Each is first scored with the weights as they are;
then its gradient moves them, for what follows. So no symbol has a part in its own prediction, but
the model that reads the end is not the one that was trained: such a figure stands apart.

The step is that of Krause, Kahembwe, Murray and Renals, Dynamic Evaluation of Neural Sequence
Models (2018, arXiv:1709.07432), with their scaling by the root mean square of the gradients.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from training.evaluate.reading import Advance, Losses, as_losses, symbol_losses
from training.model.model import CharRNN, detach
from unroll.errors import CorpusError

SEGMENT = 32  # symbols; the paper has 20
EPSILON = (
    1e-4  # beside gradients of 1e-3 to 1e-2: keeps weights that training never moved from leaping
)
RATES = (5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3)
DECAYS = (1e-3, 3e-3, 1e-2)
PASSES = 1 + len(RATES) + len(DECAYS)
"""How often the tuning text is read."""

Gradients = dict[str, Tensor]
"""A figure for each weight, under the weight's name."""


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """How the weights follow the text.

    After each segment, with g the gradient of its mean loss, rms the root mean square of such
    gradients on training text, and r = rms / (the mean of all rms):

        weight += min(decay * r, 1) * (trained weight - weight) - rate * g / (rms + 1e-4)

    Attributes:
        rate: of the step, 0 or more.
        decay: of the pull back to the trained weights, in [0, 1].
    """

    rate: float
    decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a tuning text costs under an adaptation, in nats per symbol; infinite: it exploded."""

    adaptation: Adaptation
    loss: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The adaptation that was chosen, and what it was chosen by.

    Attributes:
        adaptation: the one with the lowest loss.
        rms: of the gradients on the tuning text.
        symbols: length of the tuning text.
        unadapted: its loss under the trained weights, in nats per symbol.
        trials: all that was tried.
    """

    adaptation: Adaptation
    rms: Gradients
    symbols: int
    unadapted: float
    trials: tuple[Trial, ...]

    @property
    def is_at_an_end(self) -> bool:
        """Whether the best rate may lie beyond those that were tried."""
        return self.adaptation.rate in {RATES[0], RATES[-1]}


def choose_adaptation(model: CharRNN, ids: Tensor, advance: Advance = lambda _: None) -> Choice:
    """Choose rate and decay by a text that the model was trained on; the rate first, undecayed.

    Args:
        model: in evaluation mode; stays as it is.
        ids: of the tuning text, behind the start symbol, shape (symbols + 1,).
        advance: told of each segment, in each of the PASSES.

    Raises:
        CorpusError: the tuning text is empty.
    """
    if len(ids) < 2:
        raise CorpusError(
            "adaptive: the training text is too short to choose a rate on (a tenth of it is no "
            "symbol); leave out --adaptive, or train on a longer text"
        )
    unadapted, rms = measure_gradients(model, ids, advance)
    trials: list[Trial] = []

    def attempt(adaptation: Adaptation) -> None:
        loss = float(adaptive_losses(model, ids, adaptation, rms, advance).mean())
        trials.append(Trial(adaptation=adaptation, loss=loss if np.isfinite(loss) else np.inf))

    def best() -> Adaptation:
        return min(trials, key=lambda trial: trial.loss).adaptation

    for rate in RATES:
        attempt(Adaptation(rate=rate))
    undecayed = best()
    for decay in DECAYS:
        attempt(replace(undecayed, decay=decay))
    return Choice(
        adaptation=best(),
        rms=rms,
        symbols=len(ids) - 1,
        unadapted=unadapted,
        trials=tuple(trials),
    )


def measure_gradients(
    model: CharRNN, ids: Tensor, advance: Advance = lambda _: None
) -> tuple[float, Gradients]:
    """Read a text without adapting; return its mean loss and the root mean square of the gradients.

    Args:
        model: in evaluation mode; stays as it is.
        ids: (symbols + 1,), at least 2.
        advance: told of each segment.
    """
    total, segments, losses = {name: torch.zeros_like(w) for name, w in _weights(model)}, 0, []
    for loss, gradients in _segments(model, ids, advance):
        losses.append(loss)
        segments += 1
        for name, gradient in gradients.items():
            total[name] += gradient.square()
    rms = {name: (squares / segments).sqrt() for name, squares in total.items()}
    return float(as_losses(losses).mean()), rms


def adaptive_losses(
    model: CharRNN,
    ids: Tensor,
    adaptation: Adaptation,
    rms: Gradients,
    advance: Advance = lambda _: None,
) -> Losses:
    """Read a text as one stream, with weights that follow it.

    Args:
        model: in evaluation mode; stays as it is.
        ids: (symbols + 1,).
        adaptation: how the weights follow.
        rms: of the gradients on training text.
        advance: told of each segment.

    Returns:
        What each symbol costs under weights that have seen the segments before its own, in nats,
        shape (symbols,).
    """
    adapted = copy.deepcopy(model)
    trained = dict(_weights(model))
    mean = torch.stack([figure.mean() for figure in rms.values()]).mean()
    pull = {name: (adaptation.decay * f / mean).clamp(max=1) for name, f in rms.items()}
    losses = []
    for loss, gradients in _segments(adapted, ids, advance):
        losses.append(loss)
        with torch.no_grad():
            for name, weight in _weights(adapted):
                step = adaptation.rate * gradients[name] / (rms[name] + EPSILON)
                weight.add_(pull[name] * (trained[name] - weight) - step)
    return as_losses(losses)


def _segments(model: CharRNN, ids: Tensor, advance: Advance) -> Iterator[tuple[Tensor, Gradients]]:
    """Yield the losses of each segment, (T,), and the gradient of their mean.

    The state is carried, the gradient stops at the segment's start. The weights may be changed
    between two segments.
    """
    state = model.zero_state(1)
    names, weights = zip(*_weights(model), strict=True)
    for begin in range(0, len(ids) - 1, SEGMENT):
        piece = ids[begin : begin + SEGMENT + 1, None]  # (T + 1, 1)
        # cuDNN has no gradients in evaluation mode; torch's own kernels do.
        with torch.backends.cudnn.flags(enabled=False):
            logits, state = model(piece[:-1], detach(state))  # (T, 1, V)
            losses = symbol_losses(logits, piece[1:])[:, 0]
            gradients = torch.autograd.grad(losses.mean(), weights)
        yield losses.detach().cpu(), dict(zip(names, gradients, strict=True))
        advance(len(losses))


def _weights(model: CharRNN) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return model.named_parameters()
