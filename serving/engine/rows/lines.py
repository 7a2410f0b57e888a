"""A line of columns for each slot, one a step: what is known ahead, and what loop runs wrote."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from serving.engine.rows.pacing import LONGEST_RUN
from serving.engine.rows.row import AHEAD
from serving.runtime.decoder import FREE
from serving.runtime.host import Written

WIDTH = 4 * AHEAD + 2 * LONGEST_RUN  # columns
LAST = WIDTH - AHEAD  # column from which a row may still know all ahead
NO_STATES = np.zeros(0, np.int64)
Taken = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]
"""Token ids, their log-probabilities, and the states of the automaton after each."""


class Lines:
    """The lines of a worker's slots.

    Args:
        capacity: how many slots.
    """

    def __init__(self, capacity: int) -> None:
        self._forced = np.full((capacity, WIDTH), FREE, np.int64)
        self._is_forced = [False] * capacity
        self._uniform = np.zeros((capacity, WIDTH), np.float32)
        self._tokens = np.zeros((capacity, WIDTH), np.int64)
        self._log_probs = np.zeros((capacity, WIDTH), np.float32)
        self._states = np.zeros((capacity, 0), np.int64)  # of automata; has columns once one came

    def know(
        self, slot: int, column: int, forced: NDArray[np.int64], uniform: NDArray[np.float32]
    ) -> None:
        """Note the symbols, as far as they are known, and the random numbers from a column on."""
        if self._is_forced[slot]:
            self._forced[slot] = FREE
        self._is_forced[slot] = len(forced) > 0
        if len(forced):
            self._forced[slot, column : column + len(forced)] = forced
        self._uniform[slot, column : column + len(uniform)] = uniform

    def ahead(
        self, rows: slice | NDArray[np.int64], columns: slice, *, is_free: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return forced symbols and random numbers, both (T, N).

        Args:
            rows: slots of the rows.
            columns: one for each step.
            is_free: whether no symbol of these is forced.
        """
        uniform = np.ascontiguousarray(self._uniform[rows, columns].T)
        if is_free:
            return _free(uniform.shape[1])[: len(uniform)], uniform
        return np.ascontiguousarray(self._forced[rows, columns].T), uniform

    def write(
        self,
        rows: slice | NDArray[np.int64],
        columns: slice,
        written: Written,
        states: NDArray[np.int64] | None,
    ) -> None:
        """Note what a loop run wrote, and the states of the rows' own automata, (T, N)."""
        self._tokens[rows, columns] = written.tokens.T
        self._log_probs[rows, columns] = written.log_probs.T
        if states is not None:
            if not self._states.shape[1]:
                self._states = np.zeros(self._tokens.shape, np.int64)
            self._states[rows, columns] = states.T

    def cut(
        self, slots: NDArray[np.int64], begins: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Iterable[Taken]:
        """Return what was written in some columns of each of some lines, one or more."""
        first = int(begins.min())
        columns = slice(first, int(ends.max()))
        tokens, log_probs = self._tokens[slots, columns], self._log_probs[slots, columns]
        states = self._states[slots, columns] if self._states.shape[1] else None
        ranges = zip((begins - first).tolist(), (ends - first).tolist(), strict=True)
        return (
            (
                tokens[row, begin:end],
                log_probs[row, begin:end],
                NO_STATES if states is None else states[row, begin:end],
            )
            for row, (begin, end) in enumerate(ranges)
        )

    def shift(self, columns: int) -> None:
        """Forget the first columns, so that there are more at the end."""
        for lines in (self._forced, self._uniform, self._tokens, self._log_probs, self._states):
            lines[:, :-columns] = lines[:, columns:].copy()
        self._forced[:, -columns:] = FREE


@lru_cache(maxsize=8)
def _free(rows: int) -> NDArray[np.int64]:
    """Return that nothing is forced in LONGEST_RUN steps of so many rows, (LONGEST_RUN, N)."""
    free = np.full((LONGEST_RUN, rows), FREE, np.int64)
    free.flags.writeable = False
    return free
