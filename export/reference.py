"""The torch model, made to say whether it would have written the same text."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from serving.runtime.decoder import State

TIE = 1e-5  # see verify_run; for two computations in fp32


class Reference(Protocol):
    """What says how a text should go on: the torch model, or another of its kind."""

    def __call__(
        self, tokens: torch.Tensor, state: dict[str, torch.Tensor], /
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Read tokens, (T, N), from a state; return logits, (T, N, V), and the state."""

    def zero_state(self, N: int, /) -> dict[str, torch.Tensor]:
        """Return the state before any symbol, each tensor (L, N, H)."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A text that the compiled loop wrote, two or more rows from the zero state.

    Attributes:
        start: the first symbol to be consumed.
        tokens: what was written, (T, N).
        log_probs: (T, N).
        uniform: the random numbers, (T, N); row 0 is greedy.
    """

    start: int
    tokens: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    uniform: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What torch says of a run.

    Attributes:
        drift: greatest difference of the log-probabilities, relative to the greatest.
        mismatches: symbols that torch would not have written, per row.
        ties: symbols that torch would not have written but for rounding, per row.
    """

    drift: float
    mismatches: list[int]
    ties: list[int]


def torch_state(state: State) -> dict[str, torch.Tensor]:
    """Give a state torch's names and tensors."""
    return {name.removesuffix("_0"): torch.from_numpy(t) for name, t in state.items()}


def verify_run(model: Reference, run: Run, tie: float) -> Verdict:
    """Check each symbol of a run against torch reading the same symbols.

    As long as all symbols before it agree, torch writing on its own would be in the state that it
    has here; so no mismatch means that its own loop writes the same text.
    """
    rows = run.tokens.shape[1]
    consumed = np.concatenate([np.full((1, rows), run.start), run.tokens[:-1]])  # (T, N)
    logits, _ = model(torch.from_numpy(consumed), model.zero_state(rows))  # (T, N, V)
    log_p = torch.log_softmax(logits, -1).numpy()
    of_run = np.take_along_axis(log_p, run.tokens[..., None], 2)[..., 0]
    drift = float(np.abs(run.log_probs - of_run).max() / max(1.0, float(np.abs(of_run).max())))
    cdf = np.cumsum(np.exp(log_p.astype(np.float64)), -1)
    mismatches, ties = [], []
    for row in range(rows):
        if row == 0:
            gap = _greedy_gap(log_p[:, row], run.tokens[:, row])
        else:
            gap = _sampled_gap(cdf[:, row], run.uniform[:, row], run.tokens[:, row])
        mismatches.append(int((gap > tie).sum()))
        ties.append(int(((gap > 0) & (gap <= tie)).sum()))
    return Verdict(drift=drift, mismatches=mismatches, ties=ties)


def _greedy_gap(log_p: NDArray[np.float32], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much likelier torch's likeliest symbol is than the one written, (T,)."""
    p = np.exp(log_p.astype(np.float64))
    gap: NDArray[np.float64] = p.max(-1) - np.take_along_axis(p, tokens[:, None], 1)[:, 0]
    return gap


def _sampled_gap(
    cdf: NDArray[np.float64], uniform: NDArray[np.float32], tokens: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How far the random number lies outside the written symbol's part of [0, 1), (T,)."""
    upper = np.take_along_axis(cdf, tokens[:, None], 1)[:, 0]
    lower = np.where(
        tokens > 0, np.take_along_axis(cdf, np.maximum(tokens - 1, 0)[:, None], 1)[:, 0], 0
    )
    u = uniform.astype(np.float64) * cdf[:, -1]
    gap: NDArray[np.float64] = np.maximum(np.maximum(lower - u, u - upper), 0)
    return gap
