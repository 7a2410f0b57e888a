"""The torch model, made to say whether it would have written the same text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from serving.runtime.decoder import State
from unroll.bundle.vocabulary import Vocabulary

PROBABILITIES_AT_MOST = 2**22  # at once; bounds the memory
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
    """A text that the compiled loop wrote in runs, two or more rows.

    Attributes:
        start: the first symbol to be consumed.
        tokens: what was written, (T, N).
        log_probs: (T, N).
        uniform: the random numbers, (T, N); row 0 is greedy.
        steps: of each run but the last one, which may have fewer.
        states: before each run.
        end: what ends a row's text, and what is written after it is nothing; None: nothing does.
    """

    start: int
    tokens: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    uniform: NDArray[np.float32]
    steps: int
    states: list[State]
    end: int | None = None

    def side_by_side(self, at_most: int) -> Iterator[tuple[NDArray[np.int64], State, State]]:
        """Yield runs of as many steps together.

        Returns:
            Their places, (steps, R), their states, of R * N rows, and those after them, of N rows
            fewer where the last run is among them.
        """
        T, first = len(self.tokens), 0
        while first < len(self.states):
            R = max(1, min(at_most, T // self.steps - first))
            places = np.arange(first * self.steps, min((first + R) * self.steps, T))
            before = _joined(self.states[first : first + R])
            after = _joined(self.states[first + 1 : first + 1 + R])
            yield places.reshape(R, -1).T, before, after
            first += R

    @cached_property
    def goes_on(self) -> NDArray[np.bool_]:
        """Whether a row's text goes on behind a symbol, (T, N)."""
        goes_on: NDArray[np.bool_] = self.is_text & (self.tokens != self.end)
        return goes_on

    @cached_property
    def is_text(self) -> NDArray[np.bool_]:
        """Which symbols belong to a row's text, (T, N)."""
        is_end = self.tokens == self.end
        is_before: NDArray[np.bool_] = np.cumsum(is_end, 0) - is_end == 0
        return is_before


def _joined(states: list[State]) -> State:
    """Put the rows of states side by side; nothing of none."""
    names = states[0] if states else ()
    return {name: np.concatenate([state[name] for state in states], 1) for name in names}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What torch says of a run.

    Attributes:
        drift: greatest difference of the log-probabilities, relative to the greatest.
        apart: median, over runs and rows that go on, of the greatest difference of the state after
            a run. One in which a rounding fell the other way is far apart, and says nothing.
        mismatches: symbols that torch would not have written, per row.
        ties: symbols that torch would not have written but for rounding, per row.
    """

    drift: float
    apart: float
    mismatches: list[int]
    ties: list[int]


def torch_state(state: State) -> dict[str, torch.Tensor]:
    """Give a state torch's names and tensors."""
    return {name.removesuffix("_0"): torch.from_numpy(t) for name, t in state.items()}


def verify_run(model: Reference, run: Run, tie: float, vocabulary: Vocabulary) -> Verdict:
    """Check each symbol of a text against torch reading the same symbols, run by run.

    As long as all symbols before it agree, torch writing on its own would be in the state that it
    has here, but for rounding; so no mismatch means that its own loop writes the same text.
    """
    N = run.tokens.shape[1]
    V = len(vocabulary)
    consumed = np.concatenate([np.full((1, N), run.start), run.tokens[:-1]])  # (T, N)
    checked, apart = _Checked(N, vocabulary.sampled_size), [np.zeros(1, np.float32)]
    side_by_side = max(1, PROBABILITIES_AT_MOST // (run.steps * N * V))
    for places, before, after in run.side_by_side(side_by_side):
        state, R = torch_state(before), places.shape[1]
        block = max(1, PROBABILITIES_AT_MOST // (R * N * V))
        for t in range(0, len(places), block):
            at = places[t : t + block]  # (block, R)
            tokens = torch.from_numpy(consumed[at].reshape(len(at), R * N))
            logits, state = model(tokens, state)  # (block, R * N, V)
            log_p = torch.log_softmax(logits, -1).numpy()
            checked.add(log_p.reshape(at.size, N, V), run, at.ravel(), tie)
        apart.append(_apart(after, state, run.goes_on[places[-1]].ravel()))
    return Verdict(
        drift=checked.apart / max(1.0, checked.greatest),
        apart=float(np.median(np.concatenate(apart))),
        mismatches=checked.mismatches,
        ties=checked.ties,
    )


def _apart(
    state: State, expected: dict[str, torch.Tensor], goes_on: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return how far the states after runs are apart, of each row that goes on and has one."""
    differences = []
    for name, tensor in torch_state(state).items():
        rows = np.flatnonzero(goes_on[: tensor.shape[1]])  # after the last run none is known
        found, of_torch = tensor.numpy()[:, rows], expected[name].numpy()[:, rows]
        scale = max(1.0, float(np.abs(of_torch).max(initial=0)))
        differences.append(np.abs(found - of_torch).max(axis=(0, 2)) / scale)
    return np.max(differences, axis=0) if differences else np.zeros(0, np.float32)


class _Checked:
    """What the blocks of a run came to."""

    def __init__(self, rows: int, sampled_size: int) -> None:
        self._sampled_size = sampled_size
        self.apart = self.greatest = 0.0
        self.mismatches, self.ties = [0] * rows, [0] * rows

    def add(
        self, log_p: NDArray[np.float32], run: Run, places: NDArray[np.int64], tie: float
    ) -> None:
        """Check the symbols at some places, (T,), of which log_p, (T, N, V), is the reference's."""
        tokens, uniform, is_text = run.tokens[places], run.uniform[places], run.is_text[places]
        of_run = np.take_along_axis(log_p, tokens[..., None], 2)[..., 0]
        apart = np.abs(run.log_probs[places] - of_run)
        # np.maximum keeps what is not a number, so that no limit holds.
        self.apart = float(np.maximum(self.apart, apart.max(initial=0, where=is_text)))
        greatest = np.abs(of_run).max(initial=0, where=is_text)
        self.greatest = float(np.maximum(self.greatest, greatest))
        log_p = log_p[..., : self._sampled_size]
        cdf = np.cumsum(np.exp(log_p.astype(np.float64)), -1)
        for row in range(tokens.shape[1]):
            if row == 0:
                gap = _greedy_gap(log_p[:, row], tokens[:, row])
            else:
                gap = _sampled_gap(cdf[:, row], uniform[:, row], tokens[:, row])
            gap = gap[is_text[:, row]]
            self.mismatches[row] += int((gap > tie).sum())
            self.ties[row] += int(((gap > 0) & (gap <= tie)).sum())


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
