"""How surprised a model is by each symbol of a text."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.model.model import CharRNN

Floats = NDArray[np.float64]


@torch.no_grad()
def surprise(model: CharRNN, ids: Tensor, *, streams: int, warm_up: int) -> Floats:
    """Measure -ln p of each symbol after those before it.

    Args:
        model: in evaluation mode.
        ids: the text, int64, (symbols,); what is left over at its end is not read.
        streams: stretches N that are read side by side, each from a zero state.
        warm_up: symbols at the start of each stretch that are read but not judged, at least 1.

    Returns:
        Nats, (N, T - warm_up): symbols warm_up to T of each stretch of T = symbols // N.
    """
    T = len(ids) // streams
    tokens = ids[: streams * T].view(streams, T).t()  # (T, N)
    logits, _ = model(tokens[:-1], model.zero_state(streams))  # (T - 1, N, V)
    log_probs = F.log_softmax(logits.double(), -1)
    chosen = log_probs.gather(-1, tokens[1:, :, None])[..., 0]  # (T - 1, N)
    nats: Floats = -chosen[warm_up - 1 :].t().numpy()
    return nats


RUNAWAY = 0.5  # nats above the median stretch; texts of one book differ by a tenth of that


def run_away(nats: Floats) -> NDArray[np.bool_]:
    """Tell in which stretches, (N, T), the carried state led a model astray; (N,)."""
    means = nats.mean(1)
    astray: NDArray[np.bool_] = means > np.median(means) + RUNAWAY
    return astray


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much lower a first loss is than a second one, on the same text.

    Attributes:
        value: second minus first, nats per symbol.
        error: its standard error over stretches of the text.
    """

    value: float
    error: float

    @property
    def is_measurable(self) -> bool:
        """Whether it is more than twice what chance makes of it."""
        return abs(self.value) > 2 * self.error


def compare(first: Floats, second: Floats) -> Difference:
    """Compare two models' surprise at the same stretches, (N, T) both, N at least 2."""
    per_stretch = (second - first).mean(1)
    error = per_stretch.std(ddof=1) / np.sqrt(len(per_stretch))
    return Difference(value=float(per_stretch.mean()), error=float(error))
