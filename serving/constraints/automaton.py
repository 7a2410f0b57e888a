"""An automaton over a vocabulary: which symbols may come, and where each leads."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
        digest: 8 bytes that tell whether a state's number means the same elsewhere.
    """

    pattern: str
    next: NDArray[np.int16]
    accepting: NDArray[np.bool_]
    digest: bytes

    def __len__(self) -> int:
        return len(self.next)

    @cached_property
    def is_final(self) -> NDArray[np.bool_]:
        """Whether each state allows nothing more, (S,)."""
        final: NDArray[np.bool_] = (self.next == NONE).all(1)
        return final

    @classmethod
    def of(
        cls, pattern: str, table: NDArray[np.int16], accepting: NDArray[np.bool_]
    ) -> "Automaton":
        """Make one; see the class."""
        hasher = hashlib.sha256(np.array(table.shape, "<i4").tobytes())
        hasher.update(table.astype("<i2").tobytes() + accepting.tobytes())
        digest = hasher.digest()[:8]
        return cls(pattern=pattern, next=table, accepting=accepting, digest=digest)

    def without(self, banned: Iterable[int]) -> "Automaton":
        """Ban symbols, and what leads to no whole match without them; states keep their numbers."""
        table = self.next.copy()
        table[:, list(banned)] = NONE
        leads = leading_on(table, self.accepting)
        table[(table != NONE) & ~leads[table]] = NONE
        return replace(self, next=table)

    def leads_on(self, state: int) -> bool:
        """Whether a state leads to a whole match."""
        return bool(self.accepting[state] or (self.next[state] != NONE).any())

    def walk(self, state: int, ids: Iterable[int]) -> NDArray[np.int64]:
        """Return the state after each of some symbols, NONE from one on that may not come."""
        states = []
        for token in ids:
            state = int(self.next[state, token]) if state != NONE else NONE
            states.append(state)
        return np.array(states, np.int64)


def ending_with(automaton: Automaton, end: int) -> Automaton:
    """Let a symbol end each whole match; no match itself has it."""
    S, V = automaton.next.shape
    table = np.full((S + 1, V), NONE, np.int16)
    table[:S] = automaton.next
    table[:S, end][automaton.accepting & ~automaton.is_final] = S
    return Automaton.of(automaton.pattern, table, np.append(automaton.accepting, np.True_))


def leading_on(table: NDArray[np.int16], accepting: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which states lead to a whole match, (S,), by a table of next states, (S, V)."""
    before, symbols = np.nonzero(table != NONE)
    after = table[before, symbols]
    order = np.argsort(after, kind="stable")
    before, ends = before[order], np.searchsorted(after[order], np.arange(len(table) + 1))
    leads = accepting.copy()
    reached = np.flatnonzero(leads)
    while len(reached):
        found = np.concatenate([before[ends[state] : ends[state + 1]] for state in reached])
        reached = np.unique(found[~leads[found]])
        leads[reached] = True
    return leads


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What a text must match, and where it stands in that.

    Attributes:
        automaton: None for anything.
        state: before the symbols that are written next.
    """

    automaton: Automaton | None = None
    state: int = 0


FREE = Constraint()
