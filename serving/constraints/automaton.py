"""An automaton over a vocabulary: which symbols may come, and where each leads."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.constraints.construction import NONE


@dataclass(frozen=True, kw_only=True, eq=False)
class Automaton:
    """What a text must match; every state leads to a whole match, and the first is the beginning.

    Attributes:
        pattern: in Python's syntax.
        next: the state after each state and symbol, or NONE where it may not come, (S, V) int16.
        accepting: whether each state is a whole match, (S,).
    """

    pattern: str
    next: NDArray[np.int16]
    accepting: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.next)

    @cached_property
    def is_final(self) -> NDArray[np.bool_]:
        """Whether each state allows nothing more, (S,)."""
        final: NDArray[np.bool_] = (self.next == NONE).all(1)
        return final

    @cached_property
    def digest(self) -> bytes:
        """8 bytes that change with the numbers of the states or what they allow."""
        hasher = hashlib.sha256(np.array(self.next.shape, "<i4").tobytes())
        hasher.update(self.next.astype("<i2").tobytes() + self.accepting.tobytes())
        return hasher.digest()[:8]

    def walk(self, state: int, ids: Iterable[int]) -> int:
        """Return the state after some symbols, each of which may come."""
        for token in ids:
            state = int(self.next[state, token])
        return state


def ending_with(automaton: Automaton, end: int) -> Automaton:
    """Let a symbol end each whole match; no match itself has it."""
    S, V = automaton.next.shape
    table = np.full((S + 1, V), NONE, np.int16)
    table[:S] = automaton.next
    table[:S, end][automaton.accepting & ~automaton.is_final] = S
    return Automaton(
        pattern=automaton.pattern,
        next=table,
        accepting=np.append(automaton.accepting, np.True_),
    )
