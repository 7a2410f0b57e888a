"""The text that everything compared must write: torch's."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.decode.peers.peer import START, Tokens
from export.proof.reference import TIE
from serving.runtime.sampling import uniforms
from training.model.model import CharRNN
from unroll.errors import UnrollError


@dataclass(frozen=True, kw_only=True)
class Text:
    """What torch writes with some random numbers.

    Attributes:
        uniform: the numbers, (T, N).
        tokens: the symbols, (T, N).
    """

    uniform: NDArray[np.float32]
    tokens: Tokens


@torch.inference_mode()
def text_without_ties(model: CharRNN, T: int, N: int) -> Text:
    """Write N rows in which no random number falls so near to a border that rounding decides.

    Args:
        model: on the processor.
        T: symbols a row.
        N: rows; more are written and those with a tie left out.

    Raises:
        UnrollError: too many rows have ties, as those of a huge vocabulary would.
    """
    seeds = 2 * N + 8
    uniform = np.stack([uniforms(seed, 0, T) for seed in range(seeds)], axis=1)
    token = torch.full((1, seeds), START)
    state = model.zero_state(seeds)
    tokens, tied = [], np.zeros(seeds, bool)
    for t in range(T):
        logits, state = model(token, state)
        cdf = torch.softmax(logits[0].double(), -1).cumsum(-1)  # (seeds, V)
        threshold = torch.from_numpy(uniform[t].astype(np.float64))[:, None] * cdf[:, -1:]
        tied |= ((cdf - threshold).abs().min(-1).values < TIE).numpy()
        token = (cdf <= threshold).sum(-1)[None]
        tokens.append(token.numpy())
    rows = np.flatnonzero(~tied)[:N]
    if len(rows) < N:
        raise UnrollError(f"{len(rows)} of {seeds} rows have no tie, {N} are needed; fewer steps")
    return Text(
        uniform=np.ascontiguousarray(uniform[:, rows]), tokens=np.concatenate(tokens)[:, rows]
    )
