"""How far back a model remembers: what it predicts after another past."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.model.model import CharRNN, State

THRESHOLD = 0.01  # nats; a change of the prediction that no text would show


@torch.no_grad()
def divergence(model: CharRNN, true: State, other: State, tokens: Tensor) -> NDArray[np.float64]:
    """Measure how two states predict the same text.

    Args:
        model: in evaluation mode.
        true: the state after the text's own past, each tensor (L, N, H).
        other: the state after another past.
        tokens: what both read then, int64, (K, N).

    Returns:
        Mean over the texts of KL(true || other) of the next symbol, in nats, (K + 1,): at k the
        prediction after the first k of the tokens. At k = 0 it is NaN, since a state alone
        predicts nothing without the symbol that it has read.
    """
    logs = []
    for state in (true, other):
        logits, _ = model(tokens, state)  # (K, N, V)
        logs.append(F.log_softmax(logits.double(), -1))
    distances = F.kl_div(logs[1], logs[0], log_target=True, reduction="none").sum(-1)  # (K, N)
    return np.concatenate([[np.nan], distances.mean(1).clamp(min=0).numpy()])


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a change of the past does to the predictions k symbols later.

    Attributes:
        symbol: one symbol was another, k symbols ago; (K + 1,) nats, the first one NaN.
        prefix: everything up to k symbols ago was another text; (K + 1,) nats.
    """

    symbol: NDArray[np.float64]
    prefix: NDArray[np.float64]

    @property
    def length(self) -> int | None:
        """Symbols after which another past is forgotten; None if that is beyond what was read."""
        return memory_length(self.prefix)

    @property
    def symbol_length(self) -> int | None:
        """Symbols after which one other symbol is forgotten."""
        return memory_length(self.symbol)


def memory_length(divergences: NDArray[np.float64]) -> int | None:
    """Return the first k from which on all divergences are below THRESHOLD; None if none is."""
    above = np.flatnonzero(divergences[1:] >= THRESHOLD)
    k = int(above[-1]) + 2 if len(above) else 1
    return k if k < len(divergences) else None


@torch.no_grad()
def measure_memory(model: CharRNN, ids: Tensor, *, rows: int, past: int, reach: int) -> Memory:
    """Measure a model's memory at places of a text.

    Args:
        model: in evaluation mode.
        ids: a text that it was not trained on, int64.
        rows: places N, evenly over the text.
        past: symbols read before a place.
        reach: K, symbols read after it.
    """
    tokens = spread(ids, rows, past + reach)  # (past + reach, N)
    before, after = tokens[:past], tokens[past:]
    _, earlier = model(before[:-1], model.zero_state(rows))
    _, true = model(before[-1:], earlier)
    _, one_off = model(_others(before[-1:], ids), earlier)
    _, elsewhere = model(before.roll(rows // 2, 1), model.zero_state(rows))
    return Memory(
        symbol=divergence(model, true, one_off, after),
        prefix=divergence(model, true, elsewhere, after),
    )


def spread(ids: Tensor, count: int, length: int) -> Tensor:
    """Cut pieces out of a text, evenly spread over it, (length, count)."""
    starts = torch.linspace(0, len(ids) - length, count).long()
    return torch.stack([ids[start : start + length] for start in starts], 1)


def _others(symbols: Tensor, ids: Tensor) -> Tensor:
    """Replace each symbol by another one, drawn as often as it occurs in a text."""
    generator = torch.Generator().manual_seed(len(ids))
    others = symbols.clone()
    while bool((same := others == symbols).any()):
        drawn = ids[torch.randint(len(ids), symbols.shape, generator=generator)]
        others = torch.where(same, drawn, others)
    return others
