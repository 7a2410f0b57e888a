"""What each symbol of a text costs a model: read as one stream, or in windows.

Token ids here begin with the start symbol, after which every text is read. So n symbols make n + 1
ids and n losses, whatever the protocol, and the losses of two protocols compare symbol by symbol.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.data.streams import Position
from training.data.units import IGNORED, Units
from training.model.model import CharRNN
from unroll.bundle.vocabulary import Vocabulary

WINDOW = 256  # symbols that a transformer of the usual size for these texts sees
CHUNK = 4096  # bounds the memory, nothing else: the state is carried
WINDOWS_AT_ONCE = 64
LOGITS_AT_MOST = 2**24  # of a call; bounds the memory where the vocabulary is large

Losses = NDArray[np.float64]
Advance = Callable[[int], object]
"""Is told how many symbols more have been read."""


def encode(vocabulary: Vocabulary, text: str) -> Tensor:
    """Return the ids of a text behind the start symbol's, int64, shape (symbols + 1,)."""
    return torch.from_numpy(vocabulary.encode(vocabulary.start_symbol + text))


def symbol_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -ln p of each target, in nats.

    Args:
        logits: (T, N, V).
        targets: (T, N).

    Returns:
        (T, N).
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(
        targets.shape
    )


@torch.no_grad()
def stream_losses(
    model: CharRNN, ids: Tensor, advance: Advance = lambda _: None, *, chunk: int = CHUNK
) -> Losses:
    """Read a text as the service does: from a zero state that is carried to the end.

    Args:
        model: in evaluation mode.
        ids: (symbols + 1,).
        advance: told of each chunk.
        chunk: symbols read in one call, fewer where the vocabulary is large.

    Returns:
        What each symbol costs given all before it, in nats, shape (symbols,).
    """
    state, losses = model.zero_state(1), []
    chunk = min(chunk, max(1, LOGITS_AT_MOST // model.settings.vocabulary_size))
    for begin in range(0, len(ids) - 1, chunk):
        piece = ids[begin : begin + chunk + 1, None]  # (T + 1, 1)
        logits, state = model(piece[:-1], state)  # (T, 1, V)
        losses.append(symbol_losses(logits, piece[1:])[:, 0].cpu())
        advance(len(piece) - 1)
    return as_losses(losses)


@torch.no_grad()
def window_losses(
    model: CharRNN, ids: Tensor, advance: Advance = lambda _: None, *, window: int = WINDOW
) -> Losses:
    """Read a text in windows side by side that know nothing of each other.

    Window k reads the ids [k * window, (k + 1) * window) from a zero state and predicts the ids one
    further on, so every symbol is predicted once, from 1 to `window` symbols; the last window is as
    long as what is left.

    Args:
        model: in evaluation mode.
        ids: (symbols + 1,).
        advance: told of each batch of windows.
        window: symbols of a window.

    Returns:
        What each symbol costs given those before it in its window, in nats, shape (symbols,).
    """
    whole = (len(ids) - 1) // window * window
    inputs, targets = ids[:whole].view(-1, window).t(), ids[1 : whole + 1].view(-1, window).t()
    losses = []
    symbols = LOGITS_AT_MOST // model.settings.vocabulary_size
    at_once = min(WINDOWS_AT_ONCE, max(1, symbols // window))
    for first in range(0, inputs.shape[1], at_once):
        x, y = (part[:, first : first + at_once] for part in (inputs, targets))
        logits, _ = model(x, model.zero_state(x.shape[1]))  # (window, N, V)
        losses.append(symbol_losses(logits, y).t().flatten().cpu())  # (N * window,)
        advance(x.numel())
    rest = stream_losses(model, ids[whole:], advance)
    return np.concatenate([as_losses(losses), rest])


@torch.no_grad()
def unit_losses(model: CharRNN, units: Units, advance: Advance = lambda _: None) -> Losses:
    """Read units that stand apart, each from a zero state; a long one in parts (see Units).

    Args:
        model: in evaluation mode.
        units: what to read.
        advance: told of each window.

    Returns:
        What each symbol costs given those before it in its unit, in nats, (symbols,), in the order
        of the text: units of about the same length are read side by side, and an interval asks for
        neighbours.
    """
    state, losses = model.zero_state(1), torch.zeros(len(units.ids))
    is_read = torch.zeros(len(units.ids), dtype=torch.bool)
    for window in range(units.windows(0)):
        position = Position(window=window)
        inputs, targets = units.batch(position)
        state = state if units.carries(position) else model.zero_state(inputs.shape[1])
        logits, state = model(inputs, state)  # (T, N, V)
        places = torch.from_numpy(units.places(position))
        is_text = places != IGNORED
        found = symbol_losses(logits, targets.clamp(min=0)).cpu()
        losses[places[is_text]] = found[is_text]
        is_read[places[is_text]] = True
        advance(int(is_text.sum()))
    return as_losses([losses[is_read]])


def as_losses(pieces: list[Tensor]) -> Losses:
    """Join losses; sums of them are taken in 64 bits."""
    return torch.cat([torch.empty(0), *pieces]).double().numpy()
