"""How far back a gradient reaches: the norm of dL_t / dh_(t-k)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.model.model import CharRNN

Norms = dict[str, NDArray[np.float64]]


def gradient_norms(model: CharRNN, tokens: Tensor, *, past: int = 0) -> Norms:
    """Measure how the loss at the last symbol depends on each earlier state.

    The model reads one symbol at a time; between two steps the state's tensors stand as inputs of
    the next step, each for itself, so that for an LSTM `h` is what flows through the gates and `c`
    what flows through the cell.

    Args:
        model: in evaluation mode.
        tokens: past + K + 1 symbols of N texts, int64, (past + K + 1, N); the last ones are the
            targets.
        past: symbols that are read first, from a zero state.

    Returns:
        For each tensor of the state the norms at k = 1 to K - 1, (K - 1,), of the gradient at the
        state that came out of step t - k: over layers and units of one text, then the geometric
        mean over the texts. 0 where the gradient of a text is 0.
    """
    state, passed = model.zero_state(tokens.shape[1]), []
    if past:
        with torch.no_grad():
            _, state = model(tokens[:past], state)
    for row in tokens[past:-1]:
        logits, state = model(row[None], state)  # (1, N, V)
        state = {name: tensor.clone() for name, tensor in state.items()}
        passed.append(state)
    loss = F.cross_entropy(logits[0], tokens[-1], reduction="sum")  # each text has its own
    wanted = passed[-2::-1]  # k = 1, 2, ...
    flat = [tensor for each in wanted for tensor in each.values()]
    gradients = iter(torch.autograd.grad(loss, flat))
    norms: dict[str, list[float]] = {name: [] for name in state}
    for each in wanted:
        for name in each:
            gradient = next(gradients)  # (L, N, H)
            norm = gradient.double().square().sum((0, 2)).sqrt()  # (N,)
            norms[name].append(float(norm.log().mean().exp()))
    return {name: np.array(values) for name, values in norms.items()}


def decay_per_step(norms: NDArray[np.float64]) -> float | None:
    """Return the factor by which norms change from one k to the next.

    From a straight line through their logarithms; None where the second norm is 0 already. Norms
    from the first 0 on are left out.
    """
    zeros = np.flatnonzero(norms == 0)
    kept = norms[: zeros[0]] if len(zeros) else norms
    if len(kept) < 2:
        return None
    slope = np.polynomial.Polynomial.fit(np.arange(len(kept)), np.log(kept), 1).convert().coef[1]
    return math.exp(slope)
