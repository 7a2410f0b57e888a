"""What says which symbols of a text may come."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.constraints.automaton import Automaton
from serving.constraints.construction import NONE
from serving.engine.sequences.request import SequenceRequest


class Rule:
    """An automaton, biases, or both; equal ones share a place in a loop run's tables.

    Args:
        automaton: what the text must match; None for anything.
        logit_bias: see SamplingParams.
        symbols: how many may be drawn.
    """

    def __init__(
        self, automaton: Automaton | None, logit_bias: tuple[tuple[int, float], ...], symbols: int
    ) -> None:
        self.automaton = automaton
        self.logit_bias = logit_bias
        self.symbols = symbols

    @property
    def states(self) -> int:
        """How many states it takes."""
        return 1 if self.automaton is None else len(self.automaton)

    @property
    def is_final(self) -> NDArray[np.bool_]:
        """Whether each state allows nothing more, (S,)."""
        return np.zeros(1, np.bool_) if self.automaton is None else self.automaton.is_final

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Rule)
            and self.automaton is other.automaton
            and self.logit_bias == other.logit_bias
        )

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.automaton, self.logit_bias))

    def tables(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the bias and the next state of each state and symbol, (S, V) both.

        Where the automaton allows nothing more, the text has ended: its state stays and allows all.
        """
        bias = np.zeros(self.symbols, np.float32)
        for token, value in self.logit_bias:
            bias[token] = value
        if self.automaton is None:
            return bias[None], np.zeros((1, self.symbols), np.int64)
        table = self.automaton.next
        is_allowed = table != NONE
        biases = np.where(is_allowed, bias, np.float32(-np.inf))
        biases[self.automaton.is_final] = 0
        return biases, np.where(is_allowed, table, np.arange(len(table))[:, None])


NO_RULE = Rule(None, (), 0)


def rule_of(request: SequenceRequest, symbols: int) -> Rule:
    """Return what says which symbols of a request's text may come, of so many."""
    bias = request.sampling.logit_bias
    if not request.max_new_symbols or (request.automaton is None and not bias):
        return NO_RULE
    return Rule(request.automaton, bias, symbols)
