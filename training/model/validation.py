"""The loss on text that the model is not trained on."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.model.model import CharRNN

SYMBOLS_PER_STREAM = 1024  # at least; a stream starts from a zero state, which costs its first few
STREAMS_AT_MOST = 64
WINDOW = 256  # bounds the memory, nothing else: the state is carried


@torch.no_grad()
def validation_loss(model: CharRNN, ids: Tensor) -> float:
    """Return the mean loss of predicting each symbol from all before it, in nats per symbol.

    The text is read as parallel streams with carried state; fewer symbols than there are streams
    are left over at its end.

    Args:
        model: is in its previous mode again afterwards.
        ids: token ids, int64, shape (symbols,), at least 2.
    """
    before = model.training, model.compiled
    model.eval()
    model.compiled = True
    loss = mean_loss(model, *_as_streams(ids))
    model.train(before[0])
    model.compiled = before[1]
    return loss


@torch.no_grad()
def mean_loss(model: CharRNN, inputs: Tensor, targets: Tensor) -> float:
    """Return the mean loss of streams that are read side by side from a zero state, in nats.

    Args:
        model: in evaluation mode.
        inputs: token ids, (T, N).
        targets: the symbol after each, (T, N).
    """
    state, total = model.zero_state(inputs.shape[1]), 0.0
    for x, y in zip(torch.split(inputs, WINDOW), torch.split(targets, WINDOW), strict=True):
        logits, state = model(x, state)
        total += float(F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum"))
    return total / inputs.numel()


def _as_streams(ids: Tensor) -> tuple[Tensor, Tensor]:
    pairs = len(ids) - 1
    N = min(max(pairs // SYMBOLS_PER_STREAM, 1), STREAMS_AT_MOST)
    T = pairs // N
    return ids[: N * T].view(N, T).t(), ids[1 : N * T + 1].view(N, T).t()
