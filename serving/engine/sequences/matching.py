"""Where a text stands in the pattern that it must match."""

import numpy as np
from numpy.typing import NDArray

from serving.constraints.automaton import Automaton
from serving.engine.sequences.snapshot import PatternPlace


class Matching:
    """Follows one text through its automaton.

    Args:
        automaton: what it must match.
        state: where it stands before the held symbols.
        held: ids of symbols that were written and not delivered.
    """

    def __init__(self, automaton: Automaton, state: int, held: NDArray[np.int32]) -> None:
        self._automaton = automaton
        self._delivered = state  # after what was delivered
        self._undelivered = automaton.walk(state, held)  # after each symbol that was not

    @property
    def state(self) -> int:
        """Where the text stands after all that was written."""
        return int(self._undelivered[-1]) if len(self._undelivered) else self._delivered

    @property
    def is_match(self) -> bool:
        """Whether what was delivered is a whole match."""
        return bool(self._automaton.accepting[self._delivered])

    def take(self, states: NDArray[np.int64]) -> int | None:
        """Take in the states after symbols that were written, (symbols,).

        Returns:
            After how many of them nothing more is allowed; None if more is after all.
        """
        self._undelivered = np.concatenate([self._undelivered, states])
        ends = np.flatnonzero(self._automaton.is_final[states])
        return int(ends[0]) + 1 if len(ends) else None

    def drop(self, symbols: int) -> None:
        """Forget the last symbols that were written: the text ended before them."""
        self._undelivered = self._undelivered[: len(self._undelivered) - symbols]

    def deliver(self, symbols: int) -> None:
        """Take in that so many more symbols are delivered."""
        if symbols:
            self._delivered = int(self._undelivered[symbols - 1])
            self._undelivered = self._undelivered[symbols:]

    def place(self, *, is_held_back: bool) -> PatternPlace | None:
        """Describe where the text stands; None where the pattern allows nothing more.

        Args:
            is_held_back: whether symbols are held, before which the place is.
        """
        if self._automaton.is_final[self.state]:
            return None
        return PatternPlace(
            pattern=self._automaton.pattern,
            state=self._delivered if is_held_back else self.state,
            digest=self._automaton.digest,
        )
